"""
Faults from inside the engine's processes, which no signal or socket can make.

Python imports this file at its start because the matrix puts its directory into
PYTHONPATH; the engine knows nothing of it.  FAULTS names a directory: files in it
switch faults on.

    crash      each task ends by 1 as soon as it is forked
    no-fork    the supervisor's fork fails by EAGAIN
    orphan     (before the start) the supervisor has a child that is none of its own
"""

import errno
import os
import signal
import time

PLACE = os.environ.get("FAULTS", "")

#: What a task does when it gets one of these.
LOOP, LEAK, LEAVE = (signal.SIGRTMIN + at for at in (3, 4, 5))

#: Bytes of a step of the leak; a step takes 50 ms.
STEP = 8 << 20


def _on(fault: str) -> bool:
    return os.path.exists(os.path.join(PLACE, fault))


def _loop(*_: object) -> None:
    while True:
        pass


def _leak(*_: object) -> None:
    held = []
    while True:
        held.append(bytearray(os.urandom(1) * STEP))
        time.sleep(0.05)


def _leave(*_: object) -> None:
    os._exit(0)


def _in_child() -> None:
    signal.signal(LOOP, _loop)
    signal.signal(LEAK, _leak)
    signal.signal(LEAVE, _leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {LOOP, LEAK, LEAVE})
    if _on("crash"):
        os._exit(1)


def _install() -> None:
    fork = os.fork

    def refusing() -> int:
        if _on("no-fork"):
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return fork()

    if _on("orphan") and fork() == 0:
        time.sleep(6)
        os._exit(0)
    set_ = signal.signal

    def keeping(number: int, handler: object) -> object:
        # The engine ignores what means nothing to it; these mean something here.
        if number in (LOOP, LEAK, LEAVE) and handler == signal.SIG_IGN:
            return None
        return set_(number, handler)

    signal.signal = keeping
    os.fork = refusing
    os.register_at_fork(after_in_child=_in_child)


if PLACE:
    _install()
