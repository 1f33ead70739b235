"""
Course: what a recipe goes through, all recipes side by side in one engine.

The files are run as they are; over them lies one file that says where the models
listen, where the broker is and how often to poll.  An engine polls, is stopped, goes on,
is killed in the middle of a poll, and goes on.  What each recipe's topic holds is read
after each part.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.brokers import Broker
from tests.e2e.rig import ROOT, Running
from tests.recipes.documented import Documented

FOLDER = ROOT / "conf" / "recipes"

COMMAND = (sys.executable, "-m", "engine")

#: Seconds for a part of the course, all recipes together on a busy machine.
PATIENCE = 150.0

#: What is not the file's: where things are, and the time that a test has.
OVERRIDES: dict[str, object] = {
    "http.source.poll.interval.ms": 1000,
    "rate.limit.enabled": "false",
    "retry.backoff.ms": 10,
    "retry.backoff.max.ms": 20,
}


class Part:
    """
    What came of one part of the course.

    Attributes:
        arrived: How often each version has arrived by now, by recipe.
        due: Which had to.
        said: What the engine said.
        late: Recipes whose model had not given everything in time.
    """

    def __init__(self, models: Sequence[Documented]):
        self.arrived: dict[str, Counter[str]] = {}
        self.due = {model.recipe: list(model.due) for model in models}
        self.said = ""
        self.late: set[str] = set()


class Course:
    """
    Some recipes, their models, and the engine that runs them.

    Args:
        models: One for each recipe.
        folder: Where everything of it lies.
        broker: Where they write; their topics are theirs alone.
    """

    def __init__(self, models: Sequence[Documented], folder: Path, broker: Broker):
        self.models = models
        self.folder = folder
        self.broker = broker
        self.parts: dict[str, Part] = {}
        self._over = folder / "over.properties"
        lines = [
            f"bootstrap.servers={broker.address}",
            f"state.dir={folder / 'state'}",
            f"cache.dir={folder / 'cache'}",
            f"runtime.dir={folder / 'run'}",
            f"offsets.storage.topic=offsets-{folder.name}",
            "listeners=none",
            *(f"{key}={value}" for key, value in OVERRIDES.items()),
        ]
        for model in models:
            lines.append(f"name={model.recipe}")
            lines += [f"{key}={value}" for key, value in model.settings().items()]
        self._over.write_text("\n".join(lines) + "\n")

    def run(self) -> dict[str, Part]:
        """All parts, in order."""
        models = self.models
        for model in models:
            model.add(model.first)
        with self._engine("run") as engine:
            late = self._settle(engine)
            for model in models:
                model.upset()
                model.add(model.later)
                model.change()
            late |= self._settle(engine)
            ended = engine.end(PATIENCE)
        self._note("polls", ended.err, late)

        for model in models:
            model.add(model.later)
            model.change()
            model.delete()
        with self._engine("run") as engine:
            late = self._settle(engine)
            self._note("restart", engine.err, late, within=10.0)
            for model in models:
                model.add(model.later)
                model.hold()
            self._reach(engine)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(engine.pid, signal.SIGKILL)
        for model in models:
            model.release()
        said = ""
        # Once to end the poll that was cut, and once more where it had begun before.
        for _ in range(2):
            with self._engine("run", "--once") as engine:
                said += engine.done(PATIENCE).err
            late = {model.recipe for model in models if not model.settled}
            if not late:
                break
        self._note("kill", said, late)
        return self.parts

    def _engine(self, *words: str) -> Running:
        files = [str(FOLDER / f"{model.recipe}.properties") for model in self.models]
        command = [*COMMAND, *words, *files, str(self._over)]
        before = dict(os.environ)
        for model in self.models:
            os.environ.update(model.environment)
        try:
            return Running(command, self.folder)
        finally:
            os.environ.clear()
            os.environ.update(before)

    def _settle(self, engine: Running) -> set[str]:
        """Wait until the models have given all; returns those that have not."""
        return self._wait(engine, lambda model: model.settled)

    def _reach(self, engine: Running) -> None:
        """Wait until each is in the middle of a poll."""
        self._wait(engine, lambda model: model.reached.is_set())

    def _wait(self, engine: Running, met: Callable[[Documented], bool]) -> set[str]:
        deadline = time.monotonic() + PATIENCE
        waiting = list(self.models)
        while waiting and time.monotonic() < deadline:
            waiting = [model for model in waiting if not met(model)]
            failed = re.findall(r"FAILED.* connector=([\w.-]+)", engine.err)
            if engine.process.poll() is not None or {
                model.recipe for model in waiting
            } <= set(failed):
                break
            time.sleep(0.2)
        return {model.recipe for model in waiting}

    def _note(self, name: str, said: str, late: set[str], within: float = 0.0) -> None:
        """Read the topics, again until all has come or the time is over."""
        part = Part(self.models)
        part.said, part.late = said, late
        deadline = time.monotonic() + within
        while True:
            found = self._read()
            for model in self.models:
                part.arrived[model.recipe] = Counter(
                    model.arrival(*record) for record in found.get(model.recipe, ())
                )
            whole = all(
                set(part.due[name]) <= set(part.arrived[name]) for name in part.due
            )
            if whole or time.monotonic() >= deadline:
                break
        self.parts[name] = part

    def _read(self) -> Mapping[str, list[tuple[bytes | None, Any]]]:
        """Keys and decoded values of all topics, each named as its recipe."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.broker.address,
                "group.id": "reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )
        found: dict[str, list[tuple[bytes | None, Any]]] = {}
        try:
            topics = consumer.list_topics(timeout=PATIENCE).topics
            places = [
                TopicPartition(model.recipe, number, OFFSET_BEGINNING)
                for model in self.models
                if model.recipe in topics
                for number in topics[model.recipe].partitions
            ]
            consumer.assign(places)
            ended: set[tuple[str, int]] = set()
            quiet = deadline = time.monotonic() + PATIENCE
            while time.monotonic() < quiet:
                assert time.monotonic() < deadline, "no end of the topics"
                for message in consumer.consume(10_000, 0.1):
                    topic, number = str(message.topic()), int(message.partition() or 0)
                    if message.error() is not None:
                        ended.add((topic, number))
                        if len(ended) >= len(places):
                            quiet = time.monotonic() + self.broker.lag
                        continue
                    value = message.value()
                    record = None if value is None else msgspec.json.decode(value)
                    found.setdefault(topic, []).append((message.key(), record))
        finally:
            consumer.close()
        return found
