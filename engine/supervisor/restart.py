"""
Restart: what follows from the end of a child.

Owns the policy and nothing else; pure: it is given the child's past exits and
answers with a pause or a verdict.  It never looks at a clock.

Path: ``supervisor.endings`` reaps -> here -> ``endings`` says when it is due, or FAILED.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from engine.errors import Exit
from engine.policy import doubled

#: Seconds over which exits are counted against `task.restart.limit`.
WINDOW = 300.0

#: Seconds of life after which a child was healthy and its back-off starts anew.
HEALTHY = 60.0

#: Trying again cannot help until somebody changes something.
FINAL = frozenset({Exit.USAGE, Exit.DATA, Exit.NO_INPUT, Exit.PERMISSION, Exit.CONFIG})

#: How a process ends whose mapped file was cut or damaged under it.
CRASHES = frozenset({-signal.SIGSEGV, -signal.SIGBUS})

#: Somebody else is away: tried again for as long as it takes.
WAITING = frozenset({Exit.UNAVAILABLE})

#: From harmless to serious: which of several codes a run ends with.
GRAVITY = (
    Exit.OK,
    Exit.TRY_AGAIN,
    Exit.UNAVAILABLE,
    Exit.DATA,
    Exit.NO_INPUT,
    Exit.PERMISSION,
    Exit.CONFIG,
    Exit.USAGE,
    Exit.IO,
    Exit.BUG,
)


class RestartPolicy(Struct, frozen=True, kw_only=True):
    """
    How patient to be.

    Attributes:
        backoff: Seconds before the first restart, `task.restart.backoff.ms`.
        backoff_max: Longest pause, `task.restart.backoff.max.ms`.
        most: Exits in `WINDOW` that are still forgiven, `task.restart.limit`.
    """

    backoff: float = 0.2
    backoff_max: float = 30.0
    most: int = 10


class Exited(Struct, frozen=True, kw_only=True):
    """
    One unwanted end of a child.

    Attributes:
        code: Exit code, or the negative number of the signal that ended it.
        at: Monotonic seconds.
        lived: Seconds from its fork to its end.
        cause: Why the supervisor ended it ("silent", "memory"), or "".
    """

    code: int
    at: float
    lived: float
    cause: str = ""

    @property
    def why(self) -> str:
        """The end in words for people."""
        if self.cause == "silent":
            return f"gave no sign of life and was killed ({name(self.code)})"
        if self.cause == "memory":
            return "was over process.memory.max.bytes"
        if self.code == -signal.SIGKILL:
            return "was killed (SIGKILL; memory?)"
        if self.code in CRASHES:
            return f"crashed ({name(self.code)}; a damaged shared file?)"
        if self.code < 0:
            return f"was ended by {name(self.code)}"
        if self.code == Exit.OK:
            return "ended though nobody asked it to (exit 0)"
        return f"ended with {name(self.code)}"


class RestartAfter(Struct, frozen=True):
    """Start it again after so many seconds."""

    after: float


class GiveUp(Struct, frozen=True):
    """FAILED until a reload, a restart or a resume."""

    why: str


Verdict: TypeAlias = RestartAfter | GiveUp


def decide(
    exit_: Exited, history: Sequence[Exited], now: float, limits: RestartPolicy
) -> Verdict:
    """
    What to do after an unwanted end.

    Args:
        exit_: The end to judge.
        history: The ends before it, oldest first.

    Source:
        `task.restart.backoff.ms` and its siblings: doubling from the base to
        the cap, anew after 60 s of health; more exits in 5 minutes than the
        limit is FAILED.  Ends for want of a broker are never counted, nor are
        those that were asked for and went well: a task over
        `process.memory.max.bytes` has lost nothing and gets on between two of
        them, however often they come.
    """
    if exit_.code in FINAL:
        return GiveUp(exit_.why)
    ends = [*history, exit_]
    if counts(exit_):
        recent = sum(1 for end in ends if counts(end) and now - end.at < WINDOW)
        if recent > limits.most:
            return GiveUp(f"{exit_.why}; {recent} exits within {WINDOW:.0f} s")
    streak = 0
    for end in reversed(ends):
        if end.lived >= HEALTHY:
            # It was healthy before this one: the pause starts from the base.
            streak += 1
            break
        streak += 1
    return RestartAfter(doubled(limits.backoff, limits.backoff_max, streak))


def counts(end: Exited) -> bool:
    """True if an end counts towards `task.restart.limit`."""
    drained = end.cause == "memory" and end.code == Exit.OK
    return end.code not in WAITING and not drained


def crashes(history: Sequence[Exited], now: float) -> int:
    """Ends of the last 5 minutes by a fault in memory: a damaged shared file?"""
    return sum(end.code in CRASHES and now - end.at < WINDOW for end in history)


def remembered(history: Sequence[Exited], now: float) -> list[Exited]:
    """The part of a history that can still matter to `decide`."""
    kept: list[Exited] = []
    for end in reversed(history):
        if now - end.at >= WINDOW and (not kept or kept[-1].lived >= HEALTHY):
            break
        kept.append(end)
        if len(kept) >= 1000:
            break
    return kept[::-1]


def worst(codes: Sequence[int]) -> int:
    """
    The exit code that says most about a run of several children.

    A child that a signal ended, or a code nobody knows, counts as a bug.
    """
    ranks = [GRAVITY.index(Exit(c)) if c in _KNOWN else len(GRAVITY) - 1 for c in codes]
    return int(GRAVITY[max(ranks, default=0)])


def name(code: int) -> str:
    """An exit code or a negative signal number in words."""
    if code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit {code} ({Exit(code).name})" if code in _KNOWN else f"exit {code}"


_KNOWN = frozenset(int(code) for code in Exit)
