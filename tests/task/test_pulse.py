"""A loop that works or waits for an answer too long is noticed, one that waits is not."""

from __future__ import annotations

import threading

import pytest

from engine.task.pulse import LoopStopping, Pulse
from tests.fakes.clock import HandClock


@pytest.mark.parametrize(
    ("verb", "phase", "allowed"),
    [("working", "work", 30.0), ("fetching", "fetch", 60.0)],
)
def test_a_loop_may_be_at_a_thing_for_so_long(
    verb: str, phase: str, allowed: float
) -> None:
    clock = HandClock()
    pulse = Pulse(fetch=60.0, work=30.0, clock=clock)

    getattr(pulse, verb)()

    assert phase == pulse.phase
    clock.move(allowed)
    assert pulse.alive(clock.monotonic())
    clock.move(0.1)
    assert not pulse.alive(clock.monotonic())
    # Whatever it does next, its time begins anew.
    getattr(pulse, verb)()
    assert pulse.alive(clock.monotonic())


@pytest.mark.parametrize("phase", ["send", "commit", "wait", "ended"])
def test_a_loop_that_waits_on_purpose_is_alive(phase: str) -> None:
    clock = HandClock()
    pulse = Pulse(fetch=60.0, work=30.0, clock=clock)
    pulse.working()

    pulse.idle(phase)

    clock.move(1e6)
    assert (phase, True) == (pulse.phase, pulse.alive(clock.monotonic()))


def test_one_that_has_not_begun_is_alive() -> None:
    pulse = Pulse(fetch=60.0, work=30.0)

    assert ("starting", True) == (pulse.phase, pulse.alive(1e12))


@pytest.mark.parametrize(
    ("before", "after"), [("fetching", "fetch"), ("working", "work")]
)
@pytest.mark.parametrize("stopped", [False, True])
def test_behind_a_wait_a_loop_is_at_what_it_was(
    before: str, after: str, stopped: bool
) -> None:
    phases: list[str] = []

    class Stop(threading.Event):
        """Says what the loop is seen at while it waits."""

        def wait(self, timeout: float | None = None) -> bool:
            phases.append(pulse.phase)
            return self.is_set()

    stop = Stop()
    if stopped:
        stop.set()
    pulse = Pulse(fetch=60.0, work=30.0)
    getattr(pulse, before)()

    assert stopped is LoopStopping(stop, pulse).wait(5.0)
    assert (["wait"], after) == (phases, pulse.phase)
    assert stopped is LoopStopping(stop, pulse).is_set()
