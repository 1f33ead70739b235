"""
Signals: blocked at the start, and taken when the loop asks for them.

Owns the set of signals the supervisor lives by.  It installs no handler: a
signal that is blocked and waited for needs no queue, no reentrancy and no
argument about the moment it comes.

Path: the kernel -> here -> ``supervisor.loop``; ``supervisor.child`` undoes it
in a forked child.
"""

from __future__ import annotations

import signal

#: What the loop waits for: stop, stop, reload, a child ended, look at the links.
WATCHED = frozenset(
    {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGCHLD,
        signal.SIGUSR1,
    }
)

#: All that is held back, the end of a wait among them.
BLOCKED = WATCHED | {signal.SIGALRM}


def block() -> None:
    """
    Hold back the watched signals; call it before the first child is forked.

    A parent that ignores SIGCHLD hands that on, and the kernel would then
    reap our children unseen: the default is put back.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def wait(timeout: float) -> frozenset[signal.Signals]:
    """
    The signals that came, each once however often it was sent.

    Signals of one kind merge while they are blocked: who reaps or reads links
    after this does it until nothing is left.

    Blocks: at most `timeout` seconds.
    """
    came = _pending()
    if came or timeout <= 0:
        return came
    # Not sigtimedwait: we are stopped while it waits, go on after its time is
    # over, it is interrupted, and CPython 3.11 returns what happened to lie in
    # its memory as the signal.  A timer's signal among those waited for ends a
    # wait that has no time-out of its own.
    signal.setitimer(signal.ITIMER_REAL, max(timeout, 0.001))
    woken = signal.Signals(signal.sigwaitinfo(BLOCKED).si_signo)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return (_pending() | {woken}) - {signal.SIGALRM}


def _pending() -> frozenset[signal.Signals]:
    """What waits already; a wait for nothing is never interrupted."""
    came: set[signal.Signals] = set()
    while (found := signal.sigtimedwait(BLOCKED, 0)) is not None:
        came.add(signal.Signals(found.si_signo))
    return frozenset(came - {signal.SIGALRM})


def stop_is_pending() -> bool:
    """True if the engine was asked to stop and has not taken notice yet."""
    return not signal.sigpending().isdisjoint({signal.SIGTERM, signal.SIGINT})
