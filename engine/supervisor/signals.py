"""
Signals: blocked at the start, and taken when the loop asks for them.

Owns the set of signals the supervisor lives by, and what every other signal does to
our processes: nothing, or a dump of their stacks.  It installs no handler of Python's:
a signal that is blocked and waited for needs no queue, no reentrancy and no
argument about the moment it comes.

Path: the kernel -> here -> ``supervisor.loop``; ``supervisor.child`` undoes it
in a forked child.
"""

from __future__ import annotations

import faulthandler
import resource
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

#: What writes the stacks of all threads to stderr and ends nothing: whoever sends
#: one wants to know what a process is at (SIGQUIT is a JVM's thread dump).
DUMPS = (signal.SIGQUIT, signal.SIGUSR2)

#: What says that something is wrong with the process itself, or cannot be caught.
_FATAL = {
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSEGV,
    signal.SIGSYS,
    signal.SIGTRAP,
    signal.SIGKILL,
    signal.SIGSTOP,
}

#: What a terminal does with its jobs, and what ends nobody by default.
_JOBS = {
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCONT,
    signal.SIGCHLD,
    signal.SIGURG,
    signal.SIGWINCH,
}

#: What would end a process without a word, and means nothing to us: timers, limits
#: of time and size, input and output, real-time signals.
MEANINGLESS = (
    frozenset(signal.valid_signals())
    - _FATAL
    - _JOBS
    - set(DUMPS)
    - {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM}
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
    steady()


def steady() -> None:
    """
    Let no signal end this process without a word; inherited by a fork.

    Memory that may hold secrets is never written to a core file.
    """
    for number in MEANINGLESS:
        signal.signal(number, signal.SIG_IGN)
    for number in DUMPS:
        faulthandler.register(number, file=2, all_threads=True)
    faulthandler.enable(file=2, all_threads=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def restore() -> None:
    """Give a program that is started its signals back; between fork and exec."""
    for number in (*MEANINGLESS, *DUMPS, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)


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
