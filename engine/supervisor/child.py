"""
Child: from the fork to the end of one process.

Owns the fork, the first steps of every child and what is handed to its entry
function; it is the only file that speaks to prctl (GATE ctypes).  It decides
nothing: who runs, how often and for how long is the loop's affair.

Before the fork the parent makes the link, clears the child's slot of the board
and sees to it that it has one thread.  After it, in the child and in this
order: own handlers, unblock, death with the parent and a look whether it still
lives, standard input away, everybody else's descriptors closed, environment,
new seeds, no core files, stack dump on SIGABRT and SIGQUIT, umask, title; then the entry
function, which opens what it needs.  It ends with `os._exit` and never returns
into the parent's stack.

Path: ``supervisor.loop`` -> here -> the entry function of a task or of admin
"""

from __future__ import annotations

import ctypes
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.config.libraries import load
from engine.errors import EngineError, Exit
from engine.observe import log
from engine.shared.board import Board
from engine.shared.link import Assigned, Link, Message, Ready, Stop
from engine.supervisor import signals
from engine.supervisor.stopper import Stopper

_LOG = logging.getLogger(__name__)


#: prctl(2): the signal a process gets when the thread that forked it ends; the
#: name that `top` shows, 15 bytes of it.
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15

_LIBC = ctypes.CDLL(None, use_errno=True)

_TITLES = load("a process's title")
if _TITLES is not None:
    # At its first call the library looks for where the title goes, and no longer
    # finds it once a variable has left the environment, as systemd's do.
    _TITLES.getproctitle()


def _title(words: str) -> None:
    """Name this process in ps and top; without the extra by the short name of top."""
    if _TITLES is not None:
        _TITLES.setproctitle(f"kafka-http-source: {words}")
    else:
        _LIBC.prctl(_PR_SET_NAME, f"khs {words}".encode()[:15], 0, 0, 0)


#: What systemd told the supervisor alone.
_NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


#: Lets go of a descriptor of the parent's, in the child, and of nothing else.
LetGo: TypeAlias = Callable[[], None]


class ChildSpec(Struct, frozen=True, kw_only=True):
    """
    One child as it is wanted.

    Attributes:
        key: Who it is, for life: "orders/0", "admin".
        fingerprint: Changes when it has to be started anew.
        entry: What it runs; returns its exit code.
        connector: The connector's name, or "".
        number: The task's number, or 0.
        shards: What it polls.
        auxiliary: Its end is no failure of the data path, and it never fails
            for good.
        memory_max: Resident bytes over which it is drained and started anew,
            0 for none.
    """

    key: str
    fingerprint: str
    entry: Entry
    connector: str = ""
    number: int = 0
    shards: tuple[Assigned, ...] = ()
    auxiliary: bool = False
    memory_max: int = 0

    @property
    def everything(self) -> list[Assigned]:
        """All shards of a task, each with what is below it."""
        return [each for assigned in self.shards for each in assigned.tree]


class ChildContext:
    """
    What a child is given: who it is, what it shares, how it is told to end.

    Attributes:
        key: Who it is: "orders/0", "admin".
        connector: Its connector's name, or "".
        number: Its task number.
        assigned: The shards it polls, with their places on the board.
        board: The board; `slot` is the child's own place, `index` its number.
        link: Its end of the link to the supervisor.
        stopping: Whether to end, and the way to wait.
        runtime: The supervisor's runtime directory.
    """

    def __init__(
        self,
        spec: ChildSpec,
        *,
        board: Board,
        index: int,
        link: Link,
        runtime: Path,
        parent: int,
        clock: Clock = SYSTEM,
    ) -> None:
        self.key = spec.key
        self.connector = spec.connector
        self.number = spec.number
        self.assigned = spec.shards
        self.board = board
        self.index = index
        self.slot = board.child(index)
        self.link = link
        self.runtime = runtime
        self.stopping = Stopper(self.slot, link, clock=clock)
        self._parent = parent

    def beat(self, phase: str = "") -> None:
        """Alive now, and, where given, busy with one of `board.PHASES`."""
        if phase:
            self.slot.enter(phase)
        else:
            self.slot.beat()

    def ready(self) -> None:
        """All that is needed is open; the work begins."""
        self.slot.become("running")
        self.report(Ready())

    def report(self, message: Message) -> bool:
        """
        Tell the supervisor, and wake it.

        Returns: False if the link is full: say it again later.
        Blocks: never.
        """
        sent = self.link.send(message)
        try:
            os.kill(self._parent, signal.SIGUSR1)
        except ProcessLookupError:
            pass
        return sent

    def orders(self) -> list[Message]:
        """Orders that came since the last call, but for stop and log levels."""
        return self.stopping.orders()


Entry: TypeAlias = Callable[[ChildContext], int]


class Child:
    """
    A running child as the parent sees it.

    Attributes:
        spec: What it was started as.
        pid: Its process.
        index: Its place on the board.
        link: The parent's end.
        started: Monotonic seconds of the fork.
    """

    def __init__(
        self, spec: ChildSpec, *, pid: int, index: int, link: Link, started: float
    ) -> None:
        self.spec = spec
        self.pid = pid
        self.index = index
        self.link = link
        self.started = started

    def signal(self, number: signal.Signals) -> None:
        """
        Send a signal; nothing if it has ended.

        Only the loop reaps, so a pid kept here is never another process's.
        """
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def hurry(self) -> None:
        """
        Ask it to drop the page in hand.

        Two SIGTERM that wait for the same child merge into one: the link says
        it, too.
        """
        self.link.send(Stop(hurry=True))
        self.signal(signal.SIGTERM)


def spawn(
    spec: ChildSpec,
    *,
    board: Board,
    index: int,
    runtime: Path,
    others: Sequence[LetGo],
    secrets: Iterable[str] = (),
    clock: Clock = SYSTEM,
) -> Child:
    """
    Fork a child that runs `spec.entry`.

    Args:
        index: Its place on the board, nobody else's.
        runtime: Handed to the child.
        others: Called first thing in the child, one for each object of the
            parent that holds a descriptor: swept up behind its back, such an
            object might later close a number that has become somebody else's.
        secrets: Names of environment variables that no child may read.

    Raises: OSError if the machine has no room for another process (EAGAIN,
        ENOMEM); nothing is left behind then.
    """
    require_one_thread()
    ours, theirs = Link.pair()
    slot = board.child(index)
    slot.clear()
    slot.become("starting")
    # What is buffered here would be written once more by the child.
    _flush()
    parent = os.getpid()
    started = clock.monotonic()
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        slot.clear()
        raise
    if pid == 0:
        _live(
            spec,
            board=board,
            index=index,
            link=theirs,
            runtime=runtime,
            others=(*others, ours.close),
            secrets=secrets,
            parent=parent,
            clock=clock,
        )
    theirs.close()
    return Child(spec, pid=pid, index=index, link=ours, started=started)


def _live(
    spec: ChildSpec,
    *,
    board: Board,
    index: int,
    link: Link,
    runtime: Path,
    others: Sequence[LetGo],
    secrets: Iterable[str],
    parent: int,
    clock: Clock,
) -> NoReturn:
    """The whole life of a child; whatever happens, it ends here."""
    code = int(Exit.BUG)
    try:
        context = ChildContext(
            spec,
            board=board,
            index=index,
            link=link,
            runtime=runtime,
            parent=parent,
            clock=clock,
        )
        context.stopping.arm()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.BLOCKED)
        die_with(parent, signal.SIGKILL)
        _close_what_is_others(others, {link.fileno(), *context.stopping.keeps()})
        for name in (*_NOT_INHERITED, *secrets):
            os.environ.pop(name, None)
        random.seed()
        signals.steady()
        os.umask(0o077)
        entitle(spec.key)
        log.name_process(connector=spec.connector, task=_task(spec))
        code = _run(spec, context)
    except BaseException:  # noqa: BLE001 - the process boundary
        _LOG.critical("A child could not be set up.", exc_info=True)
    finally:
        try:
            board.child(index).enter("ended")
            logging.shutdown()
            _flush()
        finally:
            # Not sys.exit: the parent's stack and its exit hooks are not ours.
            os._exit(code & 0xFF)


def _run(spec: ChildSpec, context: ChildContext) -> int:
    try:
        return int(spec.entry(context))
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(Exit.BUG)
    except EngineError as failure:
        _LOG.error("%s: %s", type(failure).__name__, failure)
        _LOG.debug("It came from here.", exc_info=True)
        return int(failure.code)
    except BaseException:  # noqa: BLE001 - the process boundary
        _LOG.critical("A bug ended %s.", spec.key, exc_info=True)
        return int(Exit.BUG)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            # None where the descriptor was closed when Python started.
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            # A reader that has gone, a disk that is full: it ends nothing.
            pass


def _task(spec: ChildSpec) -> str:
    return spec.key if spec.auxiliary else str(spec.number)


def die_with(parent: int, number: signal.Signals) -> None:
    """
    Be sent `number` when the parent's main thread ends; end now if it has.

    The kernel ties this to the thread that forked: the parent forks from its
    only one.  Undone by a set-uid exec, and not inherited by grandchildren.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    # P dies before the child's prctl: no signal will come any more.
    if os.getppid() != parent:
        os._exit(int(Exit.TRY_AGAIN))


def entitle(words: str) -> None:
    """Say in `ps` and `top` what this process is."""
    _title(words)


def require_one_thread() -> None:
    """
    Refuse to fork from a process with threads.

    A lock that another thread holds at the fork stays locked in the child
    for ever.

    Raises: EngineError.
    """
    count = len(os.listdir("/proc/self/task"))
    if count != 1 or threading.active_count() != 1:
        raise EngineError(f"the supervisor has {count} threads and must have one")


def _close_what_is_others(others: Sequence[LetGo], keep: set[int]) -> None:
    for let_go in others:
        let_go()
    keep |= {0, 1, 2}
    # A terminal read by several processes at once serves none of them.
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:
                # The listing's own descriptor is closed by now.
                pass
