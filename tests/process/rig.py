"""
Rig: a real supervisor in a process of its own, watched from outside.

Owns the fork, the wait under a deadline and the clearing up; what the children
do is given by each test as functions.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import psutil

from engine.observe import log
from engine.records import Shard
from engine.supervisor import status
from engine.supervisor.assign import AssignableApi
from engine.supervisor.child import ChildContext, ChildSpec
from engine.supervisor.loop import Supervisor
from engine.supervisor.orders import ChildTimeouts, DesiredState, SupervisedConnector
from engine.supervisor.restart import RestartPolicy
from engine.supervisor.runtime import Runtime

#: Seconds that anything may take on a busy machine before the test has failed.
PATIENCE = 60.0

#: Times short enough for a test.
QUICK = ChildTimeouts(
    silence=2.5,
    grace=2.0,
    hurry=0.3,
    dump=0.3,
    restarts=RestartPolicy(backoff=0.05, backoff_max=0.2, most=1000),
)


def until(condition: Callable[[], object], what: str, within: float = PATIENCE) -> None:
    """Wait for a condition; fail by its name."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.01)


def gone(process: psutil.Process) -> bool:
    """True if it has ended; init may not have reaped an orphan yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def work(context: ChildContext) -> int:
    """A well-behaved task."""
    context.ready()
    context.beat("idle")
    while not context.stopping.wait(30):
        pass
    return 0


class Engine:
    """
    One supervisor in a process of its own.

    Attributes:
        pid: Its process.
        base: Where runtime directories are made.
        state: Where locks are kept.
    """

    def __init__(self, tmp: Path, plan: Callable[[], DesiredState], **options: object):
        self.base = tmp / "run"
        self.state = tmp
        self.log_path = tmp / "stderr"
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._live(plan, options)

    def _live(
        self, plan: Callable[[], DesiredState], options: dict[str, object]
    ) -> None:
        code = 99
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            fd = os.open(self.log_path, flags, 0o600)
            fd = int(str(options.pop("stderr", fd)))
            os.dup2(fd, 2)
            os.dup2(fd, 1)
            sys.stdout = os.fdopen(1, "w", closefd=False)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            log.configure(format="text", level="DEBUG")
            make = options.pop("make", None)
            runtime = Runtime(self.base)
            if callable(make):
                options.update(make(runtime))
            code = Supervisor(plan, runtime=runtime, **options).run()  # type: ignore[arg-type]
        except BaseException as failure:  # noqa: BLE001 - the process boundary
            traceback.print_exc()
            code = getattr(failure, "code", 98)
        finally:
            sys.stderr.flush()
            os._exit(int(code))

    @property
    def log(self) -> str:
        """All it wrote so far."""
        return self.log_path.read_text() if self.log_path.exists() else ""

    @property
    def runtime(self) -> Path | None:
        """Its runtime directory while it lives."""
        found = sorted(self.base.glob(f"{self.pid}.*"))
        return found[0] if found else None

    def snapshot(self) -> status.Snapshot | None:
        """How things stand."""
        return status.read(self.runtime) if self.runtime else None

    def child(self, key: str) -> status.ChildStatus:
        """One child as the supervisor sees it."""
        snapshot = self.snapshot()
        children = {c.key: c for c in snapshot.children} if snapshot else {}
        return children.get(key, status.ChildStatus(key=key))

    def pids(self) -> dict[str, int]:
        """Key -> pid of the children that work."""
        snapshot = self.snapshot()
        found = snapshot.children if snapshot else ()
        return {c.key: c.pid for c in found if c.pid and c.state == "RUNNING"}

    def children(self) -> list[psutil.Process]:
        """Its child processes as the kernel knows them."""
        try:
            return psutil.Process(self.pid).children()
        except psutil.NoSuchProcess:
            return []

    def running(self, count: int) -> None:
        """Wait until so many children work."""
        until(lambda: len(self.pids()) == count, f"{count} children run")

    def signal(self, number: signal.Signals) -> None:
        """Send the supervisor a signal."""
        os.kill(self.pid, number)

    def wait(self, within: float = PATIENCE) -> int:
        """Its exit code, once it has ended."""
        until(self._ended, "the supervisor ends", within)
        assert self.code is not None
        return self.code

    def stop(self) -> int:
        """SIGTERM, then its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def clear_up(self) -> None:
        """Nothing survives the test."""
        if self.code is None and not self._ended():
            children = self.children()
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.code = -signal.SIGKILL
            for child in children:
                try:
                    child.kill()
                except psutil.NoSuchProcess:
                    pass

    def _ended(self) -> bool:
        if self.code is None:
            pid, raw = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(raw)
        return self.code is not None


def connector(
    tmp: Path,
    entry: Callable[[ChildContext], int] = work,
    *,
    name: str = "c",
    tasks: int = 1,
    apis: tuple[AssignableApi, ...] = (AssignableApi("api1", splittable=True),),
    **more: object,
) -> SupervisedConnector:
    """A connector whose tasks run `entry`."""
    return SupervisedConnector(
        name=name,
        entry=entry,
        apis=apis,
        claims=tmp,
        tasks=tasks,
        **more,  # type: ignore[arg-type]
    )


def wanted(*connectors: SupervisedConnector, **more: object) -> DesiredState:
    """A plan with times short enough for a test."""
    more.setdefault("patience", QUICK)
    return DesiredState(connectors=connectors, **more)  # type: ignore[arg-type]


def auxiliary(entry: Callable[[ChildContext], int], key: str = "admin") -> ChildSpec:
    """A child that is no task."""
    return ChildSpec(key=key, fingerprint="", entry=entry, auxiliary=True)


def shards_of(context: ChildContext) -> list[Shard]:
    """What a task polls."""
    return [assigned.shard for assigned in context.assigned]
