"""What follows from each failure in each mode: the whole table."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import engine
from engine import errors
from engine.errors import EngineError, RecordError
from engine.policy import (
    Follows,
    doubled,
    is_passing,
    of_child,
    of_credentials,
    of_host,
    of_poll,
    of_request,
    of_task,
    of_walk,
)

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
    "SpoolError": (RETRY, FAILS, NEXT, NEXT, None),
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


#: Those after which other credentials, a new beginning of the walk may help, and
#: which tell of the host although it gave no answer; each other one is for all.
RENEWED = {"Denied"}
BEGUN_ANEW = {"StartOver", "CursorExpired"}
SILENT = {"Unreachable", "CircuitOpen"}


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


def source(name: str, status: int | None) -> errors.SourceError:
    failure = made(name)
    assert isinstance(failure, errors.SourceError)
    failure.status = status
    return failure


def never() -> bool:
    raise AssertionError("asked although it does not matter")


def test_every_failure_stands_in_the_table() -> None:
    assert {kind.__name__ for kind in tree()} == set(TABLE)


def of_source() -> list[str]:
    return [kind.__name__ for kind in tree(errors.SourceError)]


@pytest.mark.parametrize("name", of_source())
def test_of_credentials(name: str) -> None:
    for status in (None, 200, 401, 403, 419, 500):
        failure = source(name, status)
        refused = name in RENEWED or status == 401
        expected = Follows.RENEWED if refused else FAILS
        assert expected is of_credentials(failure, stale=False, renewed=False)
        assert Follows.RENEWED is of_credentials(failure, stale=True, renewed=False)
        for stale in (False, True):
            assert FAILS is of_credentials(failure, stale=stale, renewed=True)


@pytest.mark.parametrize("name", of_source())
def test_of_a_host(name: str) -> None:
    silent = Follows.HOST_FAILED if name in SILENT else Follows.HOST_UNKNOWN
    table = {
        None: silent,
        200: Follows.HOST_WORKS,
        404: Follows.HOST_WORKS,
        499: Follows.HOST_WORKS,
        500: Follows.HOST_FAILED,
        503: Follows.HOST_FAILED,
    }
    for status, expected in table.items():
        assert expected is of_host(source(name, status))
        assert Follows.HOST_UNKNOWN is of_host(source(name, status), stopping=True)


@pytest.mark.parametrize("name", of_source())
def test_of_a_walk(name: str) -> None:
    failure = source(name, None)
    for may_leave in (False, True):
        anew = name in BEGUN_ANEW and (may_leave or name != "CursorExpired")
        expected = Follows.ANEW if anew else FAILS
        assert expected is of_walk(failure, begun_anew=False, may_leave=may_leave)
        assert FAILS is of_walk(failure, begun_anew=True, may_leave=may_leave)


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


def test_what_passes_is_what_a_request_is_tried_again_for() -> None:
    assert {name for name, row in TABLE.items() if row[0] is RETRY} == {
        name for name in TABLE if is_passing(made(name))
    }


#: What a failure's class tells beside what follows from it: to people, to a counter,
#: to a limiter, or which of two failures the answer stands for.
TELL_CLASSES_APART = {
    "observe/failures.py",
    "source/fetch/cache.py",
    "source/fetch/policy.py",
    "source/fetch/retry.py",
    "source/prefetch.py",
    "task/rehearsal.py",
    "task/run.py",
}


def test_nobody_else_decides_what_follows() -> None:
    """`then` is read here alone, and who tells classes apart says here what for."""
    root = Path(engine.__file__).parent
    names = {kind.__name__ for kind in tree()}
    readers, tellers = set(), set()
    for path in sorted(root.rglob("*.py")):
        place = str(path.relative_to(root))
        loops = place.startswith(("task/", "source/", "observe/", "supervisor/"))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "then":
                readers.add(place)
            if loops and isinstance(node, ast.Call) and len(node.args) == 2:
                kinds = {
                    getattr(each, "id", getattr(each, "attr", ""))
                    for each in ast.walk(node.args[1])
                }
                if getattr(node.func, "id", "") == "isinstance" and kinds & names:
                    tellers.add(place)

    assert {"policy.py"} == readers
    # The root of all failures tells a bug from one of ours.
    assert tellers - {"supervisor/reloading.py"} == TELL_CLASSES_APART
