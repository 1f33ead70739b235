"""What follows from each failure in each mode: the whole table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine import errors
from engine.errors import EngineError, RecordError
from engine.policy import Follows, doubled, of_child, of_poll, of_request, of_task

FAILS, RETRY = Follows.FAILS, Follows.RETRY
NEXT, SHARD, TASK = Follows.NEXT_POLL, Follows.SHARD_FAILED, Follows.TASK

#: Failure: a request with tries left; a child of a tolerant parent; a poll that goes
#: on, strict and tolerant; the task.
TABLE = {
    "Unreachable": (RETRY, FAILS, NEXT, NEXT, None),
    "CircuitOpen": (RETRY, FAILS, NEXT, NEXT, None),
    "Throttled": (RETRY, FAILS, NEXT, NEXT, None),
    "Denied": (FAILS, Follows.NEXT_CHILD, SHARD, NEXT, None),
    "Unexpected": (FAILS, Follows.NEXT_CHILD, SHARD, NEXT, None),
    "BadPage": (RETRY, Follows.NEXT_CHILD, SHARD, NEXT, None),
    "Looping": (FAILS, Follows.NEXT_CHILD, SHARD, NEXT, None),
    "CursorExpired": (FAILS, Follows.NEXT_CHILD, SHARD, SHARD, None),
    "StartOver": (FAILS, Follows.NEXT_CHILD, SHARD, NEXT, None),
    "Forbidden": (FAILS, Follows.NEXT_CHILD, SHARD, NEXT, None),
    "SourceError": (FAILS, Follows.NEXT_CHILD, SHARD, NEXT, None),
    "RecordError": (FAILS, FAILS, SHARD, SHARD, None),
    "Refused": (FAILS, FAILS, SHARD, SHARD, Follows.ALL_FAILED),
    "Misconfigured": (FAILS, Follows.NEXT_CHILD, SHARD, SHARD, Follows.ALL_FAILED),
    "StateError": (FAILS, Follows.NEXT_CHILD, SHARD, SHARD, Follows.ALL_FAILED),
    "Occupied": (FAILS, Follows.NEXT_CHILD, SHARD, SHARD, Follows.ALL_FAILED),
    "ConfigError": (FAILS, Follows.NEXT_CHILD, SHARD, SHARD, Follows.ALL_FAILED),
    "NoInput": (FAILS, Follows.NEXT_CHILD, SHARD, SHARD, Follows.ALL_FAILED),
    "NotReadable": (FAILS, Follows.NEXT_CHILD, SHARD, SHARD, Follows.ALL_FAILED),
    "Unavailable": (FAILS, FAILS, TASK, TASK, Follows.WAITS),
    "NoTransactions": (FAILS, FAILS, TASK, TASK, Follows.WAITS),
    "Aborted": (FAILS, FAILS, TASK, TASK, Follows.ANEW),
    "Fenced": (FAILS, FAILS, TASK, TASK, Follows.TASK_ENDS),
    "TakenOver": (FAILS, FAILS, TASK, TASK, Follows.TASK_ENDS),
    "Doubtful": (FAILS, FAILS, TASK, TASK, Follows.TASK_ENDS),
    "Accounting": (FAILS, FAILS, TASK, TASK, Follows.TASK_ENDS),
    "SharedError": (FAILS, FAILS, TASK, TASK, Follows.TASK_ENDS),
    "SinkError": (FAILS, FAILS, TASK, TASK, Follows.TASK_ENDS),
    "EngineError": (FAILS, FAILS, TASK, TASK, Follows.TASK_ENDS),
}


def tree(root: type[EngineError] = EngineError) -> Iterator[type[EngineError]]:
    yield root
    for below in root.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from tree(below)


def made(name: str) -> EngineError:
    """A failure of that class, whatever it is constructed from."""
    kind = getattr(errors, name)
    failure = kind.__new__(kind)
    assert isinstance(failure, EngineError)
    return failure


def never() -> bool:
    raise AssertionError("asked although it does not matter")


def test_every_failure_stands_in_the_table() -> None:
    assert {kind.__name__ for kind in tree()} == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_of_a_request(name: str) -> None:
    failure = made(name)

    assert TABLE[name][0] is of_request(failure, tried=5, most=5, repeatable=True)
    assert FAILS is of_request(failure, tried=6, most=5, repeatable=True)
    assert FAILS is of_request(failure, tried=1, most=5, repeatable=False)


@pytest.mark.parametrize("name", TABLE)
def test_of_a_child(name: str) -> None:
    assert TABLE[name][1] is of_child(made(name), tolerant=True)
    assert FAILS is of_child(made(name), tolerant=False)


@pytest.mark.parametrize("name", TABLE)
def test_of_a_poll(name: str) -> None:
    failure = made(name)
    _, _, strict, tolerant, _ = TABLE[name]
    asked = []

    def unborne() -> bool:
        asked.append(name)
        return False

    def poll(
        once: bool = False, tolerant: bool = False, stopping: bool = False
    ) -> Follows:
        return of_poll(
            failure, once=once, tolerant=tolerant, stopping=stopping, borne=unborne
        )

    assert strict is poll()
    assert (["BadPage"] if name == "BadPage" else []) == asked
    asked.clear()
    assert tolerant is poll(tolerant=True)
    # There is no next poll: what is not the task's ends the shard.
    for tolerance in (False, True):
        lasting = TASK if TASK is strict else SHARD
        assert lasting is poll(once=True, tolerant=tolerance)
    stopped = isinstance(failure, errors.SourceError)
    assert (Follows.STOPPED if stopped else strict) is poll(stopping=True)
    assert [] == asked


def test_a_bad_page_that_is_borne_with_is_the_next_polls() -> None:
    failure = made("BadPage")

    assert NEXT is of_poll(
        failure, once=False, tolerant=False, stopping=False, borne=lambda: True
    )


def test_a_bug_is_the_shards() -> None:
    for stopping in (False, True):
        assert SHARD is of_poll(
            ZeroDivisionError(),
            once=False,
            tolerant=True,
            stopping=stopping,
            borne=never,
        )


@pytest.mark.parametrize(
    "name", [name for name, row in TABLE.items() if row[-1] is not None]
)
def test_of_a_task(name: str) -> None:
    failure, follows = made(name), TABLE[name][-1]

    for once in (False, True):
        for opened in (False, True):
            late = name in ("Unavailable", "NoTransactions") and once and opened
            expected = Follows.RUN_ENDS if late else follows
            assert expected is of_task(
                failure, once=once, stopping=False, opened=opened
            )
            assert Follows.LEAVES is of_task(
                failure, once=once, stopping=True, opened=opened
            )


def test_a_record_is_no_reason_to_ask_again() -> None:
    failure = made("RecordError")

    assert isinstance(failure, RecordError)
    assert FAILS is of_request(failure, tried=1, most=5, repeatable=True)


def test_rests_double_up_to_a_bound() -> None:
    assert [1, 2, 4, 8, 10, 10] == [doubled(1, 10, n) for n in range(1, 7)]
    assert 10 == doubled(1, 10, 10**9)
    assert 0 == doubled(0, 10, 5)
