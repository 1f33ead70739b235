"""
Rig: the command line as a user has it, in real processes.

Owns a folder for each connector (configuration, state, runtime), the processes
that are started on it and their end; what they wrote is kept in files, so that
nothing waits for a full pipe.  Tests judge by the topic, the API's log and the
exit code, never by the engine's own objects.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import psutil
from confluent_kafka import KafkaException

from tests.brokers import Broker, Reading, Seen

ROOT = Path(__file__).parents[2]

#: Seconds a command may take on a busy machine before the test has failed.
PATIENCE = 60.0

_NAMES = itertools.count()

#: What a type needs beside its name, against `tests.fakes.api`.
TYPES: dict[str, dict[str, object]] = {
    "none": {},
    "offset": {"pagination.limit.value": 50},
    "page": {"pagination.limit.value": 50},
    "cursor": {"pagination.limit.value": 50, "pagination.cursor.field": "next"},
    "next_url": {"pagination.cursor.field": "next"},
    "link_header": {},
    "keyset": {"pagination.limit.value": 50, "http.offset.json.pointer": "n"},
    "odata": {"http.response.data.json.pointer": "value"},
}


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its standard output as the one JSON document it is."""
        return json.loads(self.out)

    @property
    def total(self) -> dict[str, Any]:
        found: dict[str, Any] = self.document["total"]
        return found


def until(condition: Callable[[], Any], what: str, within: float = PATIENCE) -> Any:
    """Wait for a condition and return what it gave; fail by its name."""
    deadline = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within:.0f} s: {what}"
        time.sleep(0.02)
    return found


def seeded() -> tuple[random.Random, int]:
    """Dice that fall otherwise in each run, and the SEED with which they fall again."""
    seed = int(os.environ.get("SEED") or random.randrange(1 << 32))
    # What a test prints is shown where it fails.
    print(f"SEED={seed}")
    return random.Random(seed), seed


class Running:
    """An engine that runs; a context that ends it."""

    def __init__(self, command: list[str], folder: Path) -> None:
        number = next(_NAMES)
        self._out = folder / f"out-{number}"
        self._err = folder / f"err-{number}"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            # A session of its own, as a shell's job: Ctrl-C goes to all of it.
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    @property
    def out(self) -> str:
        return self._out.read_text(errors="replace")

    def done(self, within: float = PATIENCE) -> Done:
        """Wait for its end."""
        code = self.process.wait(within)
        return Done(code, self.out, self.err)

    def tell(self, sign: signal.Signals) -> None:
        """Signal the supervisor alone."""
        self.process.send_signal(sign)

    def interrupt(self) -> None:
        """Ctrl-C: the terminal tells every process of the job."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGINT)

    def end(self, within: float = PATIENCE) -> Done:
        """A clean stop."""
        self.tell(signal.SIGTERM)
        return self.done(within)

    def children(self) -> list[psutil.Process]:
        """The processes it has now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def said(self, pattern: str) -> re.Match[str] | None:
        """What it has said that matches, or None."""
        return re.search(pattern, self.err)

    def tasks(self) -> dict[int, int]:
        """Number -> pid of each task, as last said to have started."""
        started = re.findall(r"\S+/(\d+) started as process (\d+)", self.err)
        return {int(number): int(pid) for number, pid in started}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        """Leave nothing behind, whatever the test did."""
        if failure is not None:
            print(f"{failure.__name__} after the engine said:", self.err[-6000:])
        left = self.children()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(PATIENCE)


class Setup:
    """
    A connector of its own: name, topic, files.

    Args:
        folder: Where everything of it lies.
        url: What it polls.
        broker: Where it writes, or an address.
        keys: Further keys, as they stand in the file.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        broker: Broker | str,
        keys: Mapping[str, object] | None = None,
    ) -> None:
        self.folder = folder
        self.broker = broker
        self.name = f"c{os.getpid()}-{next(_NAMES)}"
        self.topic = f"{self.name}-topic"
        self.file = folder / f"{self.name}.properties"
        address = broker if isinstance(broker, str) else broker.address
        self.keys: dict[str, object] = {
            "name": self.name,
            "http.source.url": url,
            "http.response.data.json.pointer": "items",
            "kafka.topic": self.topic,
            "bootstrap.servers": address,
            "state.dir": folder / "state",
            "cache.dir": folder / "cache",
            "runtime.dir": folder / "run",
            "listeners": "none",
        }
        self._counting: tuple[str, Reading, int] | None = None
        self.write(**dict(keys or {}))

    def write(self, **keys: object) -> None:
        """Change keys (None takes one out) and write the file anew."""
        self.keys.update(keys)
        lines = [f"{k}={v}\n" for k, v in self.keys.items() if v is not None]
        self.file.write_text("".join(lines))

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "engine", *words, str(self.file)]

    def call(self, *words: str, within: float = PATIENCE) -> Done:
        """Run a command on the file to its end."""
        with Running(self.command(*words), self.folder) as running:
            return running.done(within)

    def once(self, *words: str, within: float = PATIENCE) -> Done:
        """`run --once --json`."""
        return self.call("run", "--once", "--json", *words, within=within)

    @contextlib.contextmanager
    def running(self, *words: str) -> Iterator[Running]:
        """`run`, ended at the end of the context."""
        with Running(self.command("run", *words), self.folder) as running:
            yield running

    def seen(self) -> list[Seen]:
        """What another client finds in the topic."""
        assert isinstance(self.broker, Broker)
        return self.broker.read(self.topic)

    def values(self) -> list[bytes]:
        """The values of the topic, by partition and offset."""
        return [bytes(each.value or b"") for each in self.seen()]

    def arrived(self) -> int:
        """
        How many records the topic has by now; 0 without a topic.

        Asked again and again: what was counted is not read again.
        """
        assert isinstance(self.broker, Broker)
        if self.broker.lag:
            # What is committed late may stand before what was counted.
            return len(self.seen()) if self.broker.partitions(self.topic) else 0
        if self._counting is None or self._counting[0] != self.topic:
            if not self.broker.partitions(self.topic):
                return 0
            self._counting = self.topic, Reading(self.broker, self.topic), 0
        topic, reading, count = self._counting
        try:
            count += len(reading.take())
        except KafkaException:
            # The topic is another one, or the broker was away.
            self._counting = None
            raise
        self._counting = topic, reading, count
        return count
