"""A task that begins anew: what is over stays over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from engine.errors import EngineError, Exit, Unavailable
from engine.policy import Follows
from engine.records import Shard
from engine.shared.board import Board, Layout
from engine.shared.link import Assigned
from engine.task import run
from engine.task.pulse import Pulse
from engine.task.run import Task
from engine.task.shardloop import LoopVerdict

SHARDS = [Shard("c", f"api{at}") for at in (1, 2)]


class Stopping:
    hurried = False

    def __init__(self) -> None:
        self._set = threading.Event()
        self.set, self.is_set, self.wait = (
            self._set.set,
            self._set.is_set,
            self._set.wait,
        )


class Context:
    number = 0

    def __init__(self) -> None:
        self.slot = Board(Layout(children=1, shards=2)).child(0)
        self.assigned = [Assigned(shard, at) for at, shard in enumerate(SHARDS)]
        self.stopping = Stopping()

    def beat(self, phase: str = "") -> None: ...

    def ready(self) -> None: ...

    def report(self, message: object) -> bool:
        return True

    def orders(self) -> list[Any]:
        return []


class ShardLoop:
    """Ends when it is told to, on a thread of its own."""

    def __init__(self, shard: Shard, ended: Callable[[Any], None]) -> None:
        self.shard, self._ended = shard, ended
        self.verdict = LoopVerdict()
        self.pulse = Pulse(fetch=60.0, work=60.0)
        self.over = False

    def start(self) -> None: ...

    def join(self, seconds: float) -> None: ...

    def end(self, failure: EngineError | None) -> None:
        if not self.over:
            self.over = True
            self.verdict = LoopVerdict(failure, follows=Follows.TASK)
            self._ended(self)


class Wired:
    """Its loops fail when it is closed, as by a producer that has gone."""

    away = False

    def __init__(self, loops: list[ShardLoop]) -> None:
        self.loops = loops
        self.done: list[Shard] = []

    def tick(self, now: float) -> float:
        return 0.02

    def close(self, timeout: float) -> None:
        for loop in self.loops:
            loop.end(Unavailable("the producer is closed"))


@pytest.mark.timeout(60)
def test_who_ended_with_one_session_does_not_end_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "LOOK", 0.02)
    context = Context()
    sessions: list[Wired] = []

    def build(*, ended: Callable[[Any], None], **_: Any) -> Any:
        sessions.append(Wired([ShardLoop(shard, ended) for shard in SHARDS]))
        if len(sessions) == 1:
            first = sessions[0].loops[0]
            threading.Timer(0.1, first.end, [Unavailable("no answer")]).start()
        elif len(sessions) == 2:
            threading.Timer(0.5, context.stopping.set).start()
            for loop in sessions[1].loops:
                threading.Timer(0.6, loop.end, [None]).start()
        else:
            context.stopping.set()
        return sessions[-1]

    task = Task(context, build, lambda: True, once=False)  # type: ignore[arg-type]

    assert Exit.OK == task.run()
    assert 2 == len(sessions)
