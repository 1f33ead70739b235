"""
What a fault is put into: API, proxy, broker, connector and two readers.

The API is a process of its own, which knows every record and what it was asked for.
The proxy stands on the port that the broker advertises, so that no client walks
around it; readers and tests have a listener of their own behind it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import psutil
from confluent_kafka import KafkaException

from tests.brokers import Apache, Broker, apache_kafka
from tests.e2e.rig import PATIENCE, ROOT, Done, Running, Setup, until
from tests.fakes.api import record
from tests.faults.hygiene import Held, held
from tests.faults.proxy import Proxy
from tests.faults.readers import Read, Reader

#: Independent lists of records, and records of a page.
SOURCES, PAGE = 4, 20

#: Pages that each list has at first, and those it gets when a fault is over.
PAGES, FRESH = 120, 10

#: Seconds of the API for each answer.
LATENCY = 0.03

TASKS = 2

#: Bytes of a record.
SIZE = 200

#: A secret that must never leave the engine but to the API.
CANARY = "canary-5f2c9a"
os.environ["CANARY"] = CANARY

#: Delivery modes and how the connector's file asks for them.
MODES = {"at least once": "disabled", "exactly once": "required"}

ISOLATIONS = ("read_committed", "read_uncommitted")

INSIDE = Path(__file__).parent / "inside"


class Oracle:
    """The API, a process of its own; `sizes` is how many records each list has."""

    def __init__(
        self,
        pages: int = PAGES,
        latency: float = LATENCY,
        sources: int = SOURCES,
        page: int = PAGE,
    ) -> None:
        self.page = page
        command = [sys.executable, "-m", "tests.fakes.api", "--log"]
        command += [f"--sources={sources}", f"--pages={pages}", f"--records={page}"]
        command += [f"--bytes={SIZE}", f"--latency={latency}"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        self.sizes = [pages * page] * sources

    def grow(self, pages: int = FRESH) -> None:
        """Each list gets more pages."""
        for source in range(len(self.sizes)):
            self._ask(f"/-/grow?source={source}&count={pages * self.page}")
            self.sizes[source] += pages * self.page

    def asked(self) -> list[tuple[float, int, int]]:
        """When, of which source and what page, in order of arrival."""
        found = []
        for at, target, _ in self._ask("/-/log"):
            source = re.search(r"/keyset/(\d+)", target)
            cursor = re.search(r"cursor=(\d+)", target)
            assert source is not None, target
            page = (int(cursor[1]) + 1) // self.page if cursor else 0
            found.append((at, int(source[1]), page))
        return found

    def requests(self) -> int:
        found: int = self._ask("/-/counts")["requests"]
        return found

    def records(self) -> dict[bytes, tuple[int, int]]:
        """All there is: value -> source and number."""
        return {
            record(source, number, SIZE): (source, number)
            for source, size in enumerate(self.sizes)
            for number in range(size)
        }

    def _ask(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as found:
            return json.load(found)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Field:
    """
    A broker behind its proxy, for one row or many.

    Attributes:
        broker: Its process.
        direct: The same broker for readers, not through the proxy.
    """

    def __init__(self, broker: Apache, direct: int, proxy: Proxy) -> None:
        self.broker = broker
        self.direct = Broker(f"127.0.0.1:{direct}")
        self.proxy = proxy

    @property
    def address(self) -> str:
        """What a connector is told."""
        return f"127.0.0.1:{self.proxy.port}"

    def restart(self) -> None:
        """Start a broker that has been stopped, and wait until it serves."""
        self.broker.start()
        self.serves()

    def serves(self) -> None:
        def answered() -> bool:
            with contextlib.suppress(KafkaException, AssertionError):
                self.direct.partitions("none")
                return True
            return False

        until(answered, "the broker serves")


@contextlib.contextmanager
def field(extra: Mapping[str, str] | None = None) -> Iterator[Field]:
    """A field of its own; `extra` are lines of server.properties."""
    proxy = Proxy()
    with socket.create_server(("127.0.0.1", 0)) as free:
        direct = free.getsockname()[1]
    lines = {
        "listeners": "PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:"
        f"${{controller}},DIRECT://127.0.0.1:{direct}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{proxy.port},"
        f"DIRECT://127.0.0.1:{direct}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,DIRECT:PLAINTEXT,"
        "CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "DIRECT",
        **(extra or {}),
    }
    words = [word for k, v in lines.items() for word in ("--set", f"{k}={v}")]
    try:
        with apache_kafka(*words) as broker:
            host, _, port = broker.address.rpartition(":")
            proxy.to = (host, int(port))
            found = Field(broker, direct, proxy)
            found.serves()
            yield found
    finally:
        proxy.close()


class Run:
    """
    One connector under one fault.

    Attributes:
        mode: One of `MODES`.
        rewinds: Shards that may begin anew, all crashes together.
        healed: When the last fault was over, by the monotonic clock.
        held: What the engine held when it was first underway.
        note: What a reader of the table should know.
    """

    def __init__(
        self,
        field: Field,
        folder: Path,
        mode: str,
        *,
        oracle: Oracle | None = None,
        sources: int = SOURCES,
        **keys: object,
    ) -> None:
        self.field, self.mode, self.folder = field, mode, folder
        self.proxy = field.proxy
        self.oracle = oracle or Oracle(sources=sources)
        self.sources = sources
        self.rewinds = 0
        self.healed = 0.0
        self.note = ""
        self.inside = folder / "inside"
        self.inside.mkdir(exist_ok=True)
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self.engines: list[Running] = []
        self.pids: set[int] = set()
        self.held: Held | None = None
        self.shared_before = set(os.listdir("/dev/shm"))
        self.setup = Setup(folder, "", field.direct, self._keys(keys))
        self.topic, self.state = self.setup.topic, f"{self.setup.name}-offsets"
        field.direct.create(self.topic, 3)
        field.direct.create(self.state, 3, cleanup_policy="compact")
        self.readers: dict[tuple[str, str], Reader] = {}
        self.watch(range(3))
        self._watch(self.state, range(3))

    def watch(self, partitions: Sequence[int], seen: Sequence[Read] = ()) -> None:
        """Read the data topic's partitions from their beginning, behind `seen`."""
        self._watch(self.topic, partitions)
        for isolation in ISOLATIONS:
            # What a topic held that is gone stands before all that this one has.
            self.readers[self.topic, isolation].read[:0] = [
                each._replace(offset=each.offset - (1 << 40)) for each in seen
            ]

    def _watch(self, topic: str, partitions: Sequence[int]) -> None:
        for isolation in ISOLATIONS:
            if old := self.readers.pop((topic, isolation), None):
                old.close()
            self.readers[topic, isolation] = Reader(
                self.field.direct.address, topic, partitions, isolation
            )

    def _keys(self, keys: Mapping[str, object]) -> dict[str, object]:
        found: dict[str, object] = {
            "http.source.url": None,
            "bootstrap.servers": self.field.address,
            "apis.num": self.sources,
            "tasks.max": TASKS,
            "cache.enabled": "false",
            "http.source.poll.interval.ms": 300,
            "task.restart.limit": 1000,
            "task.restart.backoff.max.ms": 1000,
            "offset.storage.partitions": 3,
            "exactly.once.support": MODES[self.mode],
            "auth.type": "API_KEY",
            "api.key.name": "X-Api-Key",
            "api.key.value": "${env:CANARY}",
        }
        for at in range(self.sources):
            found |= {
                f"api{at + 1}.http.source.url": f"{self.oracle.url}/keyset/{at}",
                f"api{at + 1}.pagination.type": "keyset",
                f"api{at + 1}.pagination.limit.value": self.oracle.page,
                f"api{at + 1}.http.offset.mode": "CHAINING",
                f"api{at + 1}.http.offset.json.pointer": "n",
            }
        return {**found, **{key.replace("_", "."): v for key, v in keys.items()}}

    # -- the engine -----------------------------------------------------------------

    @property
    def engine(self) -> Running:
        """The one that was started last."""
        return self.engines[-1]

    def start(self, **more: object) -> Running:
        """Start an engine; `more` are keys for this one."""
        keys = {"offset.storage.topic": self.state}
        keys |= {key.replace("_", "."): str(value) for key, value in more.items()}
        self.setup.write(**keys)
        path = os.pathsep.join([str(INSIDE), str(ROOT)])
        with _environment(
            PYTHONPATH=path, FAULTS=str(self.inside), TMPDIR=str(self.temporary)
        ):
            engine = Running(self.setup.command("run", "--json"), self.folder)
        self.engines.append(engine)
        return engine

    def tasks(self) -> list[int]:
        """Pids of the tasks that run."""
        pids = {child.pid for child in self.engine.children()}
        self.pids |= pids
        return [pid for pid in self.engine.tasks().values() if pid in pids]

    def underway(self, pages: int = 3) -> None:
        """Wait until each source has had so many more pages and some are readable."""
        # Whatever was behind before, there is enough to come.
        self.oracle.grow(2 * pages)

        def asked() -> bool:
            assert self.engine.process.poll() is None, self.engine.err[-3000:]
            counts = [0] * self.sources
            for _, source, _ in self.oracle.asked():
                counts[source] += 1
            return min(counts) >= pages

        until(asked, "each source is asked", 120)
        reader = self.readers[self.topic, "read_committed"]
        count = len(reader.read)
        until(
            lambda: len(reader.read) > count + pages * self.oracle.page,
            "records come",
            120,
        )
        self.held = self.held or self._steady()

    def _steady(self) -> Held:
        """What the engine holds once each source has delivered and saved where it is."""
        data = self.readers[self.topic, "read_committed"].read
        state = self.readers[self.state, "read_committed"].read

        def all_at_work() -> bool:
            delivered = {json.loads(each.value)["source"] for each in list(data)}
            saved = {each.key for each in list(state) if each.key.startswith(b"[")}
            return min(len(delivered), len(saved)) >= self.sources

        until(all_at_work, "each source delivers and saves", 120)
        return held(self)

    def kill_task(self, pid: int) -> None:
        """SIGKILL; its shards begin anew."""
        self.rewinds += self.sources // TASKS
        os.kill(pid, signal.SIGKILL)

    def crash(self, pid: int, sign: int) -> None:
        """As `kill_task`, by another signal."""
        self.rewinds += self.sources // TASKS
        os.kill(pid, sign)

    def kill_engine(self) -> None:
        """SIGKILL to the supervisor; all its children go within a second or so."""
        family = self.engine.children()
        self.rewinds += self.sources
        self.engine.tell(signal.SIGKILL)
        self.engine.process.wait(10)
        _, alive = psutil.wait_procs(family, 5)
        assert not alive, f"outlive their supervisor: {alive}"

    def restarted(self, pids: list[int], within: float = 60.0) -> None:
        """Wait until as many tasks as before run, none of them one of these."""
        until(
            lambda: (
                len(set(self.tasks()) - set(pids)) >= TASKS
                or (self.engine.process.poll() is not None)
            ),
            "the tasks are back",
            within,
        )
        assert self.engine.process.poll() is None, self.engine.err[-3000:]

    # -- the end --------------------------------------------------------------------

    def heal(self) -> None:
        """The fault is over; there is something new to fetch."""
        self.proxy.heal()
        self.healed = time.monotonic()
        self.oracle.grow()

    def settle(self, within: float = 120.0) -> None:
        """Wait until all there is can be read by a read_committed reader."""
        wanted = sum(self.oracle.sizes)
        reader = self.readers[self.topic, "read_committed"]
        until(
            lambda: (
                len({each.value for each in reader.read}) >= wanted
                or self.engine.process.poll() is not None
            ),
            "all records are readable",
            within,
        )
        assert self.engine.process.poll() is None, (
            f"the engine ended by {self.engine.process.poll()}: "
            + self.engine.err[-3000:]
        )

    def stop(self) -> Done:
        """A clean stop."""
        self.pids |= {child.pid for child in self.engine.children()}
        done = self.engine.end(60.0)
        assert 0 == done.code, (done.code, done.err[-3000:])
        return done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failed: object) -> None:
        self.proxy.heal()
        self.proxy.up()
        for engine in self.engines:
            if engine.process.poll() is None:
                family = [child.pid for child in engine.children()]
                for pid in [engine.pid, *family]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
            engine.__exit__(failed[0] if failed else None)  # type: ignore[arg-type]
        for reader in self.readers.values():
            reader.close()
        self.oracle.close()


@contextlib.contextmanager
def _environment(**names: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
