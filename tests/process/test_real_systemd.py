"""The installed service under a real systemd, into a real topic."""

from __future__ import annotations

import itertools
import os
import re
import signal
from collections.abc import Iterator, Mapping

import psutil
import pytest

from tests.brokers import Broker
from tests.e2e.rig import TYPES
from tests.fakes.api import Api
from tests.process.machine import PROGRAM, SEEN, Machine, NoMachine, machine
from tests.process.rig import until

UNIT = "kafka-http-source@orders.service"

#: Seconds a service may take on a busy machine.
WITHIN = 30.0

#: What a clone has to put the engine in its place.
INSTALL = f"{SEEN}/home/scripts/install"

_NUMBERS = itertools.count()


def properties(keys: Mapping[str, object]) -> str:
    """A configuration's text."""
    return "".join(f"{key}={value}\n" for key, value in keys.items())


@pytest.fixture(scope="module")
def booted() -> Iterator[Machine]:
    """A machine on which the engine is installed, by its own script."""
    try:
        with machine() as made:
            made.call(INSTALL, "--system", "--program", PROGRAM)
            yield made
    except NoMachine as failure:
        pytest.skip(f"no machine of its own: {failure}")


class Service:
    """One engine on it: an API that grows, a topic, a unit."""

    def __init__(self, booted: Machine, broker: Broker, api: Api):
        self.machine = booted
        self.broker = broker
        self.api = api
        self.topic = f"unit-{os.getpid()}-{next(_NUMBERS)}"
        self.keys: dict[str, object] = {
            "name": self.topic,
            "http.source.url": f"{api.url}/keyset/0",
            "http.source.poll.interval.ms": 100,
            "http.response.data.json.pointer": "items",
            "http.offset.mode": "CHAINING",
            "pagination.type": "keyset",
            **TYPES["keyset"],
            "kafka.topic": self.topic,
            "bootstrap.servers": broker.address,
            "http.source.headers": "X-Key:${cred:api-key}",
        }
        self.write()
        booted.write(f"{SEEN}/key", "s3cret-of-the-unit\n", "600")
        self.drop_in(f"LoadCredential=api-key:{SEEN}/key", "RestartSec=100ms")

    def write(self, **keys: object) -> None:
        """The configuration, with some keys changed."""
        self.keys.update(keys)
        place = "/etc/kafka-http-source/orders.properties"
        self.machine.write(place, properties(self.keys))

    def drop_in(self, *lines: str) -> None:
        """Settings of an administrator beside the unit."""
        text = "\n".join(["[Service]", *lines, ""])
        self.machine.write(f"/etc/systemd/system/{UNIT}.d/own.conf", text)
        self.machine.systemctl("daemon-reload")

    def start(self) -> None:
        done = self.machine.systemctl("start", UNIT, check=False)
        assert 0 == done.returncode, self.said("")[-20:]

    def stop(self) -> dict[str, str]:
        self.machine.systemctl("stop", UNIT)
        return self.machine.shown(UNIT)

    def grow(self, count: int) -> None:
        """More records, and wait until they have arrived."""
        self.api.grow(count)
        self.caught_up()

    def caught_up(self) -> None:
        wanted = len(self.api.all_records())
        until(lambda: self.arrived() >= wanted, f"{wanted} records", WITHIN)

    def arrived(self) -> int:
        if not self.broker.partitions(self.topic):
            return 0
        return len(self.broker.read(self.topic))

    def values(self) -> list[bytes]:
        return [bytes(each.value or b"") for each in self.broker.read(self.topic)]

    def said(self, pattern: str) -> list[str]:
        """Messages in its journal that match."""
        messages = [str(one["MESSAGE"]) for one in self.machine.journal(UNIT)]
        return [one for one in messages if re.search(pattern, one)]


@pytest.fixture
def service(booted: Machine, embedded: Broker) -> Iterator[Service]:
    with Api(pages=1, records=20) as api:
        made = Service(booted, embedded, api)
        yield made
        booted.systemctl("stop", UNIT, check=False)
        booted.systemctl("reset-failed", check=False)


def test_it_starts_when_it_works_reloads_stops_and_goes_on(service: Service) -> None:
    service.start()

    # `start` came back: every task works.
    shown = service.machine.shown(UNIT)
    assert ("active", "running") == (shown["ActiveState"], shown["SubState"])
    service.caught_up()
    main = service.machine.main(UNIT)
    assert 0 not in main.uids()
    until(
        lambda: "1 connectors, 1 tasks" in service.machine.shown(UNIT)["StatusText"],
        "it tells systemd how it goes",
        WITHIN,
    )
    # Root asks without knowing the port it was given.
    assert f"{service.topic}: " in service.machine.call(PROGRAM, "status").stdout
    # A credential of systemd's is a secret of the configuration.
    assert {"s3cret-of-the-unit"} == {
        asked.headers.get("x-key") for asked in service.api.log
    }
    # Its log is structured where it lands.
    [started] = [
        one
        for one in service.machine.journal(UNIT)
        if "/0 started as process" in str(one["MESSAGE"])
    ]
    assert "6" == started["PRIORITY"]
    assert "s3cret-of-the-unit" not in str(service.machine.journal(UNIT))

    # A reload of what is wrong changes nothing; of what is right, what it says.
    service.write(**{"http.source.poll.interval.ms": "often"})
    service.machine.systemctl("reload", UNIT)
    until(lambda: service.said("reload is refused"), "refused", WITHIN)
    service.grow(10)
    service.write(**{"http.source.poll.interval.ms": 50})
    service.machine.systemctl("reload", UNIT)
    until(lambda: service.said("Reloaded"), "reloaded", WITHIN)
    service.grow(10)
    assert main.pid == service.machine.main(UNIT).pid

    ended = service.stop()
    assert ("inactive", "success") == (ended["ActiveState"], ended["Result"])
    service.start()
    service.grow(10)
    # Stopped and started, each record once.
    assert service.api.all_records() == service.values()


def test_who_dies_is_started_again_and_nothing_is_lost(service: Service) -> None:
    service.start()
    service.caught_up()
    main = service.machine.main(UNIT)

    def task() -> psutil.Process:
        [found] = [p for p in main.children() if "/0" in " ".join(p.cmdline())]
        return found

    # A task: the service does not even notice.
    first = task()
    first.send_signal(signal.SIGKILL)
    until(lambda: service.said("/0 was killed"), "the supervisor saw it", WITHIN)
    service.grow(10)
    assert first.pid != task().pid
    assert "0" == service.machine.shown(UNIT)["NRestarts"]

    # The supervisor: systemd starts all of it anew.
    main.send_signal(signal.SIGKILL)
    until(lambda: service.machine.shown(UNIT)["NRestarts"] == "1", "again", WITHIN)
    service.grow(10)

    assert set(service.api.all_records()) == set(service.values())


def test_a_supervisor_that_stands_still_is_ended_by_the_watchdog(
    service: Service,
) -> None:
    service.drop_in(f"LoadCredential=api-key:{SEEN}/key", "WatchdogSec=2")
    service.start()
    service.caught_up()
    main = service.machine.main(UNIT)

    main.send_signal(signal.SIGSTOP)
    until(lambda: not main.is_running(), "it was ended", WITHIN)

    shown = service.machine.shown(UNIT)
    assert "watchdog" == shown["Result"]


def test_a_configuration_that_is_wrong_is_not_tried_again(service: Service) -> None:
    service.write(**{"http.source.poll.interval.ms": "often"})

    done = service.machine.systemctl("start", UNIT, check=False)

    assert done.returncode != 0
    shown = service.machine.shown(UNIT)
    assert ("failed", "exit-code") == (shown["ActiveState"], shown["Result"])
    assert ("78", "0") == (shown["ExecMainStatus"], shown["NRestarts"])
    assert service.said(r"orders\.properties:\d+.*http\.source\.poll\.interval\.ms")


def test_several_engines_of_one_machine_and_the_target_of_all_instances(
    service: Service,
) -> None:
    """Each from its own file, with its own runtime directory."""
    names = {
        "kafka-http-source@orders.service": "orders",
        "kafka-http-source@more.service": "more",
        "kafka-http-source.service": "connector",
    }
    topics = {}
    for unit, name in names.items():
        topics[unit] = f"{service.topic}-{name}"
        keys = {**service.keys, "name": topics[unit], "kafka.topic": topics[unit]}
        del keys["http.source.headers"]
        place = f"/etc/kafka-http-source/{name}.properties"
        service.machine.write(place, properties(keys))
    one, two, plain = names
    service.machine.systemctl("enable", one, two)

    service.machine.systemctl("start", "kafka-http-source.target", plain)
    for topic in topics.values():
        until(lambda: service.broker.partitions(topic), topic, WITHIN)  # noqa: B023
        until(lambda: len(service.broker.read(topic)) == 20, topic, WITHIN)  # noqa: B023
    kept = set(service.machine.call("ls", "/run").stdout.split())
    runtime = {"", "-orders", "-more"}
    assert {f"kafka-http-source{name}" for name in runtime} <= kept

    service.machine.systemctl("stop", "kafka-http-source.target")
    for unit in (one, two):
        until(
            lambda: service.machine.shown(unit)["ActiveState"] == "inactive",  # noqa: B023
            f"{unit} stops with the target",
            WITHIN,
        )
        assert "success" == service.machine.shown(unit)["Result"]
    assert "active" == service.machine.shown(plain)["ActiveState"]
    service.machine.systemctl("stop", plain)
    service.machine.systemctl("disable", one, two)


class Somebody:
    """A user of the machine, with a systemd of his own."""

    HOME = "/run/homes/somebody"
    RUNTIME = "/run/user/4711"
    MANAGER = f"""\
[Service]
Type=notify
User=somebody
Delegate=yes
Environment=HOME={HOME} XDG_RUNTIME_DIR={RUNTIME}
Environment=SYSTEMD_UNIT_PATH={HOME}/.config/systemd/user:{HOME}/targets
ExecStart=/lib/systemd/systemd --user
"""

    def __init__(self, booted: Machine) -> None:
        self.machine = booted
        for file, line in (
            ("passwd", f"somebody:x:4711:4711::{self.HOME}:/bin/sh"),
            ("group", "somebody:x:4711:"),
        ):
            booted.call("sh", "-c", f"echo '{line}' >> /etc/{file}")
        for target in ("default", "basic", "sockets", "timers", "paths", "shutdown"):
            place = f"{self.HOME}/targets/{target}.target"
            booted.write(place, "[Unit]\nDefaultDependencies=no\n")
        booted.call("install", "-d", "-m", "700", self.RUNTIME)
        booted.call("chown", "-R", "4711:4711", self.RUNTIME, self.HOME)
        booted.write("/run/units/somebody.service", self.MANAGER)
        booted.systemctl("daemon-reload")
        booted.systemctl("start", "somebody")

    def call(self, *words: str) -> str:
        """Run a command as him; what it printed."""
        who = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"]
        where = ["env", f"HOME={self.HOME}", f"XDG_RUNTIME_DIR={self.RUNTIME}"]
        return self.machine.call(*who, *where, *words).stdout


def test_a_user_has_it_without_root(service: Service) -> None:
    somebody = Somebody(service.machine)

    said = somebody.call(INSTALL, "--user", "--program", PROGRAM)
    assert "systemctl --user daemon-reload" in said
    del service.keys["http.source.headers"]
    text = properties(service.keys)
    conf = f"{Somebody.HOME}/.config/kafka-http-source"
    service.machine.write(f"{conf}/connector.properties", f"{text}listeners=none\n")
    somebody.call("systemctl", "--user", "start", "kafka-http-source")
    service.caught_up()

    unit = ["systemctl", "--user", "show", "kafka-http-source", "-p"]
    assert "StatusText=1 connectors" in somebody.call(*unit, "StatusText")
    somebody.call("systemctl", "--user", "stop", "kafka-http-source")
    assert "Result=success\n" == somebody.call(*unit, "Result")
    said = somebody.call(INSTALL, "--user", "--uninstall")
    assert f"Kept: {conf} and the state" in said
    assert "LoadState=not-found\n" == somebody.call(*unit, "LoadState")


def test_it_is_taken_away_again_and_its_state_stays(service: Service) -> None:
    service.start()
    service.caught_up()

    service.machine.call(INSTALL, "--uninstall", "--system", "--program", PROGRAM)
    try:
        shown = service.machine.shown(UNIT)
        assert "inactive" == shown["ActiveState"]
        assert "not-found" == shown["LoadState"]
        kept = service.machine.call("ls", "/var/lib/private/kafka-http-source").stdout
        assert kept.strip()
    finally:
        service.machine.call(INSTALL, "--system", "--program", PROGRAM)
