"""Failures: the kind of each, and what a shard remembers of them."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from engine import errors
from engine.observe.failures import (
    KINDS,
    LONGEST,
    SIZE,
    FailureLog,
    LastFailure,
    decoded,
    kind_of,
)
from tests.fakes.clock import HandClock


def caused(failure: Exception, cause: BaseException) -> Exception:
    try:
        raise failure from cause
    except type(failure) as raised:
        return raised


UNREACHABLE = errors.Unreachable("no answer")

KIND_CASES: list[tuple[BaseException, str]] = [
    (caused(errors.Unreachable("x"), socket.gaierror(-2, "unknown")), "dns"),
    (caused(errors.Unreachable("x"), ConnectionRefusedError(111, "no")), "refused"),
    (caused(errors.Unreachable("x"), ConnectionResetError(104, "no")), "cut"),
    (caused(errors.Unreachable("x"), BrokenPipeError(32, "no")), "cut"),
    (caused(errors.Unreachable("x"), TimeoutError("slow")), "timeout"),
    (caused(errors.Unreachable("x"), ssl.SSLCertVerificationError("bad")), "tls"),
    (
        caused(errors.Unreachable("x"), OSError(errno.EHOSTUNREACH, "no route")),
        "unreachable",
    ),
    (errors.Unreachable("x", sent=False), "unreachable"),
    (errors.Unreachable("the answer is cut"), "cut"),
    (errors.CircuitOpen("x", sent=False), "unreachable"),
    (errors.Unreachable("x", status=500), "server_error"),
    (errors.Unreachable("x", status=408), "client_error"),
    (errors.Unexpected("x", status=404), "client_error"),
    (errors.Denied("x", status=401), "denied"),
    (errors.Denied("x", status=403), "denied"),
    (errors.Throttled("x", status=429), "throttled"),
    (errors.Throttled("x", status=503), "throttled"),
    (errors.CursorExpired("x", status=410), "cursor_expired"),
    (errors.BadPage("x", status=200), "bad_page"),
    (errors.Looping("x"), "loop"),
    (errors.Forbidden("x"), "forbidden"),
    (errors.RecordError("x", stage="map"), "record"),
    (errors.Refused("x"), "record"),
    (errors.Unavailable("x"), "broker"),
    (errors.Misconfigured("x"), "configuration"),
    (errors.StateError("x"), "state"),
    (caused(errors.StateError("x"), OSError(errno.ENOSPC, "full")), "disk_full"),
    (caused(errors.StateError("x"), OSError(errno.EDQUOT, "full")), "disk_full"),
    (ZeroDivisionError("x"), "bug"),
]


@pytest.mark.parametrize(("failure", "kind"), KIND_CASES)
def test_the_kind_of(failure: BaseException, kind: str) -> None:
    assert kind == kind_of(failure)


def test_every_kind_has_a_case() -> None:
    assert set(KINDS) == {kind for _, kind in KIND_CASES}


def test_tries_of_one_outage_are_counted_together_and_end_with_an_answer() -> None:
    clock = HandClock()
    log = FailureLog(clock=clock)

    log.failed(UNREACHABLE, 2.0)
    began = clock.wall_ms()
    clock.move(2)
    log.failed(errors.Unreachable("now a 500", status=500), 4.0)

    last = log.last
    assert last is not None
    assert (2, 0, began) == (last.count, last.polls, last.since_ms)
    assert ("server_error", "now a 500") == (last.kind, last.message)
    assert clock.wall_ms() + 4000 == last.next_ms

    clock.move(4)
    log.answered()
    assert log.last is not None and log.last.over_ms == clock.wall_ms()

    log.failed(UNREACHABLE)
    assert log.last.count == 1 and log.last.over_ms == 0


def test_polls_given_up_are_made_good_by_a_poll_and_not_by_its_first_page() -> None:
    log = FailureLog(clock=HandClock())
    for _ in range(3):
        log.answered()
        log.failed(UNREACHABLE)
        log.given_up(UNREACHABLE, 60.0)

    last = log.last
    assert last is not None and (3, 3, 0) == (last.count, last.polls, last.over_ms)

    log.succeeded()
    assert log.last is not None and log.last.over_ms


def test_an_open_breaker_hides_no_cause() -> None:
    log = FailureLog(clock=HandClock())
    log.failed(errors.Unexpected("answers 404", status=404))

    log.given_up(errors.CircuitOpen("left alone", sent=False), 1.0)

    assert log.last is not None
    assert ("client_error", "answers 404") == (log.last.kind, log.last.message)


def test_another_process_goes_on_with_what_the_first_has_told() -> None:
    first = FailureLog(clock=HandClock())
    first.given_up(UNREACHABLE)

    second = FailureLog(decoded(first.last.encoded()), clock=HandClock())  # type: ignore[union-attr]
    second.given_up(UNREACHABLE)

    assert second.last is not None and second.last.polls == 2


@pytest.mark.parametrize("text", ["x" * 5000, "\x00" * LONGEST, "\U0001f600" * LONGEST])
def test_any_message_fits_its_place(text: str) -> None:
    log = FailureLog(clock=HandClock())
    log.failed(errors.Unreachable(text))

    assert log.last is not None
    content = log.last.encoded()
    assert len(content) <= SIZE and b"\0" not in content
    assert isinstance(decoded(content), LastFailure)


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b"[]"])
def test_what_is_no_failure_is_none(content: bytes | None) -> None:
    assert decoded(content) is None
