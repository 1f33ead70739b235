"""
Dev: the whole thing on this machine, for somebody who sees it for the first time.

Owns a folder in the temporary directory and the processes it starts there: the
sample API and an engine with an embedded broker (GATE subprocess).  It reads
the topic back with a client of its own and shows what arrives; all of it is
gone at the end.

Path: ``cli.main`` -> here -> `python -m engine run`
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from engine.clock import SYSTEM
from engine.errors import EngineError, Exit
from engine.sink.cluster import Cluster
from engine.sink.library import Tail
from engine.supervisor.broker import find

CONFIG = """\
# What `kafka-http-source dev` runs; a real one looks the same.
name={connector}
http.source.url={url}/numbered
http.response.data.json.pointer=records
pagination.type=page
pagination.limit.value=500
pagination.limit.param=limit
pagination.max.pages=1000000
pagination.total.field=total
tasks.max={tasks}
kafka.topic={topic}
kafka.key=${{record.customer}}
bootstrap.servers={kafka}
# Each page is asked for once: there is nothing to save.
cache.enabled=false
listeners=none
log.level=WARN
state.dir={folder}/state
runtime.dir={folder}/run
"""

#: Seconds the engine has to come up and to go.
PATIENCE = 30.0

#: Records that are shown.
SHOWN = 3


class DevFailed(EngineError):
    """A part of the demonstration did not come up."""

    code = Exit.UNAVAILABLE


def dev(args: argparse.Namespace) -> int:
    """
    `dev`: until all sample records have arrived, or Ctrl-C.

    With `--kafka` they go to a topic of their own there, which stays.
    """
    if args.kafka is None:
        find()
    with tempfile.TemporaryDirectory(prefix="kafka-http-source-dev-") as folder:
        return Demonstration(Path(folder), args.records, args.tasks, args.kafka).run()


class Demonstration:
    """One run of it."""

    def __init__(self, folder: Path, records: int, tasks: int, kafka: str | None):
        self._folder = folder
        self._kafka = kafka
        # A real Kafka keeps the topic: another demonstration has another.
        self._topic = "orders" if kafka is None else f"orders-{folder.name[-8:]}"
        self._records = records
        self._tasks = tasks
        self._started: list[subprocess.Popen[str]] = []

    def run(self) -> int:
        """Start everything, watch, end everything."""
        say(f"Sample API with {self._records:,} records; {self._tasks} tasks.")
        try:
            url = self._sample()
            config = self._folder / "dev.properties"
            config.write_text(
                CONFIG.format(
                    url=url,
                    tasks=self._tasks,
                    folder=self._folder,
                    topic=self._topic,
                    kafka=self._kafka or "embedded",
                    connector=self._topic if self._kafka else "dev",
                )
            )
            engine = self._start(
                [sys.executable, "-P", "-m", "engine", "run", "-q"], config
            )
            code = self._watch(engine)
        except KeyboardInterrupt:
            say("Ctrl-C: ending.")
            code = Exit.OK
        finally:
            self._end()
        return code

    def _start(self, command: list[str], *more: object) -> subprocess.Popen[str]:
        # A session of its own: Ctrl-C is for us, we pass it on in order.
        process = subprocess.Popen(
            [*command, *map(str, more)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def _sample(self) -> str:
        process = self._start(
            [sys.executable, "-P", "-m", "engine.cli.sample"],
            "--records",
            self._records,
        )
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise DevFailed("the sample API did not start")
        say(f"API      {url}/numbered?page=1&limit=500")
        return url

    def _watch(self, engine: subprocess.Popen[str]) -> int:
        address = self._broker(engine)
        # From here on where all of it has arrived before the first look.
        began = SYSTEM.monotonic()
        tail = Tail(Cluster(bootstrap=(address,)), self._topic)
        before, then = 0, began
        shown = 0
        try:
            while True:
                if engine.poll() is not None:
                    raise DevFailed(f"the engine ended with {engine.returncode}")
                arrived = tail.count()
                now = SYSTEM.monotonic()
                if arrived and not before:
                    if arrived < self._records:
                        began = now
                    for text in tail.first(SHOWN):
                        shown += 1
                        say(f"record {shown} {text}")
                    say(f"{arrived:>12,} records arrived")
                elif arrived != before:
                    rate = (arrived - before) / max(now - then, 1e-9)
                    say(f"{arrived:>12,} records arrived  {rate:>10,.0f}/s")
                before, then = arrived, now
                if arrived >= self._records:
                    break
                with suppress(subprocess.TimeoutExpired):
                    engine.wait(0.5)
        finally:
            tail.close()
            seconds = max(then - began, 1e-9)
            say(
                f"total: {before:,} records arrived in topic {self._topic}, {seconds:.1f} s"
            )
        return Exit.OK

    def _broker(self, engine: subprocess.Popen[str]) -> str:
        """Kafka's address; the embedded one's from the engine's runtime directory."""
        if self._kafka is not None:
            say(f"Kafka    {self._kafka}")
            return self._kafka
        end = SYSTEM.monotonic() + PATIENCE
        while SYSTEM.monotonic() < end:
            for place in (self._folder / "run").glob("*/broker"):
                address = place.read_text().strip()
                if address:
                    say(f"Kafka    {address} (embedded)")
                    return address
            with suppress(subprocess.TimeoutExpired):
                engine.wait(0.1)
                raise DevFailed(f"the engine ended with {engine.returncode}")
        raise DevFailed("the embedded broker did not come up")

    def _end(self) -> None:
        for process in reversed(self._started):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in reversed(self._started):
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def say(text: str) -> None:
    """One line, at once."""
    print(text, flush=True)
