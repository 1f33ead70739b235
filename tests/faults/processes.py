"""Rows F01 to F18: processes that are killed, stopped, slow, wild, or too many."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable

import psutil

from tests.e2e.rig import until
from tests.faults import proxy
from tests.faults.field import TASKS, Run
from tests.faults.inside import sitecustomize as inside
from tests.faults.proxy import Link
from tests.faults.rows import row
from tests.faults.verdict import look

#: Another heartbeat than the usual, so that silence is seen soon.
QUICK = {"task.heartbeat.timeout.ms": 5000}


@row("F01", "SIGKILL of a task at random moments, five times")
def kills(run: Run) -> None:
    dice = random.Random(run.topic)
    for _ in range(5):
        time.sleep(dice.random())
        victims = until(run.tasks, "tasks")
        victim = dice.choice(victims)
        run.kill_task(victim)
        run.restarted([victim])
    look(run)


def owner(run: Run, link: Link) -> int:
    """The task at the other end of a connection; 0 if it is none."""
    for pid in run.tasks():
        try:
            for each in psutil.Process(pid).net_connections("tcp"):
                if each.laddr.port == link.port:
                    return pid
        except psutil.NoSuchProcess:
            pass
    return 0


def _killer(run: Run, before: bool, seen: list[int]) -> proxy.Hook:
    """Kills the process at the other end of a connection, once."""

    def hook(link: Link) -> bool:
        if seen:
            return True
        if pid := owner(run, link):
            seen.append(pid)
            run.kill_task(pid)
            return not before
        return True

    return hook


def at_point(run: Run, kind: int, where: str) -> None:
    """SIGKILL when a request of a kind is sent, was done, or was answered."""
    seen: list[int] = []
    hook = _killer(run, where == "before", seen)
    hooks = run.proxy.replies if where == "done" else run.proxy.requests
    hooks[kind] = hook
    until(lambda: seen, f"a request of kind {kind}", 60)
    hooks.pop(kind)
    run.restarted(seen)


@row("F02 a", "SIGKILL while the API's answer is on its way")
def mid_body(run: Run) -> None:
    before = run.oracle.requests()
    until(lambda: run.oracle.requests() > before, "a request", 30)
    [victim, *_] = run.tasks()
    run.kill_task(victim)
    run.restarted([victim])


@row("F02 b", "SIGKILL before a batch reaches the broker")
def before_produce(run: Run) -> None:
    at_point(run, proxy.PRODUCE, "before")


@row("F02 c", "SIGKILL as a batch reaches the broker")
def with_produce(run: Run) -> None:
    at_point(run, proxy.PRODUCE, "with")


@row("F02 d", "SIGKILL after a batch is written, before its acknowledgement")
def after_produce(run: Run) -> None:
    at_point(run, proxy.PRODUCE, "done")


@row("F02 e", "SIGKILL before the commit reaches the broker", modes=("exactly once",))
def before_commit(run: Run) -> None:
    at_point(run, proxy.END_TXN, "before")


@row("F02 f", "SIGKILL as the commit reaches the broker", modes=("exactly once",))
def with_commit(run: Run) -> None:
    at_point(run, proxy.END_TXN, "with")


@row("F02 g", "SIGKILL after the commit, before its reply", modes=("exactly once",))
def after_commit(run: Run) -> None:
    at_point(run, proxy.END_TXN, "done")


@row("F03", "SIGKILL of the supervisor; its children go, the next start goes on")
def supervisor(run: Run) -> None:
    run.kill_engine()
    run.start()


@row(
    "F04",
    "an engine frozen while another takes over, then woken: a zombie",
    loaded=True,
    modes=("exactly once",),
)
def zombie(run: Run) -> None:
    first = run.engine
    family = [child.pid for child in first.children()]
    for pid in [first.pid, *family]:
        os.kill(pid, signal.SIGSTOP)
    run.rewinds += run.sources
    run.start(runtime_dir=run.folder / "run-2", state_dir=run.folder / "state-2")
    run.underway()
    for pid in [*family, first.pid]:
        os.kill(pid, signal.SIGCONT)
    until(lambda: first.process.poll() is not None, "the zombie says so and ends", 60)


@row("F05", "SIGTERM under load, and a new start")
def clean_stop(run: Run) -> None:
    began = time.monotonic()
    done = run.engine.end(30.0)
    assert 0 == done.code, done.err[-2000:]
    assert time.monotonic() - began < 12, "within the graceful time"
    run.start()


@row("F06", "SIGTERM, and SIGKILL to all 50 ms later")
def hard_stop(run: Run) -> None:
    family = run.engine.children()
    run.rewinds += run.sources
    run.engine.tell(signal.SIGTERM)
    time.sleep(0.05)
    for each in [psutil.Process(run.engine.pid), *family]:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            pass
    run.engine.process.wait(10)
    psutil.wait_procs(family, 10)
    run.start()


@row("F07", "Ctrl-C on the terminal, and once twice")
def interrupts(run: Run) -> None:
    for times in (1, 2):
        for _ in range(times):
            run.engine.interrupt()
            time.sleep(0.3)
        done = run.engine.done(30.0)
        assert done.code in (0, 75), (done.code, done.err[-2000:])
        # The second one asks for a fast stop: what is in hand may come again.
        run.rewinds += run.sources if times == 2 else 0
        run.start()
        run.underway()


@row("F08", "SIGSTOP of a task until its heartbeat is missed, then SIGCONT", keys=QUICK)
def frozen(run: Run) -> None:
    [victim, *_] = run.tasks()
    run.crash(victim, signal.SIGSTOP)
    until(lambda: victim not in run.tasks(), "it is declared dead", 40)
    try:
        os.kill(victim, signal.SIGCONT)
    except ProcessLookupError:
        pass
    run.restarted([victim])


@row("F09", "a task in an endless loop", keys=QUICK)
def endless(run: Run) -> None:
    [victim, *_] = run.tasks()
    run.crash(victim, inside.LOOP)
    until(lambda: victim not in run.tasks(), "it is declared dead", 40)
    run.restarted([victim])


@row(
    "F10",
    "a task that leaks memory",
    keys={"process.memory.max.bytes": 256 << 20},
)
def leak(run: Run) -> None:
    [victim, *_] = run.tasks()
    run.crash(victim, inside.LEAK)
    until(lambda: victim not in run.tasks(), "it is ended", 60)
    assert "memory" in run.engine.err, "the reason is said"
    run.restarted([victim])


@row("F11", "a task that ends at once, always, until it is let")
def crash_loop(run: Run) -> None:
    (run.inside / "crash").touch()
    [victim, other, *_] = run.tasks()
    run.kill_task(victim)
    before = run.engine.err.count("started as process")
    until(
        lambda: run.engine.err.count("started as process") >= before + 3,
        "it is started again with pauses",
        60,
    )
    assert other in run.tasks(), "the other one runs on"
    (run.inside / "crash").unlink()
    run.restarted([victim])


@row("F12", "a task that ends by 0 unasked")
def leaves(run: Run) -> None:
    [victim, *_] = run.tasks()
    run.crash(victim, inside.LEAVE)
    run.restarted([victim])


@row("F13", "no fork for the task that is to be started again (EAGAIN)")
def no_fork(run: Run) -> None:
    (run.inside / "no-fork").touch()
    [victim, *_] = run.tasks()
    run.kill_task(victim)
    time.sleep(3.0)
    assert run.engine.process.poll() is None, "the supervisor lives"
    (run.inside / "no-fork").unlink()
    run.restarted([victim])


@row("F14", "SIGKILL of all tasks at once")
def all_at_once(run: Run) -> None:
    victims = run.tasks()
    for victim in victims:
        run.kill_task(victim)
    run.restarted(victims)
    zombies = [
        child
        for child in run.engine.children()
        if child.status() == psutil.STATUS_ZOMBIE
    ]
    assert not zombies


@row("F15", "an unknown child of the supervisor ends")
def unknown_child(run: Run) -> None:
    run.engine.end(30.0)
    (run.inside / "orphan").touch()
    engine = run.start()
    run.underway()
    time.sleep(6.0)
    assert engine.process.poll() is None
    started = engine.err.count("started as process")
    assert started == TASKS, "no task was started for it"


@row("F16", "a second engine on the same directories")
def second(run: Run) -> None:
    done = run.setup.call("run")
    assert 0 != done.code
    assert "Traceback" not in done.err
    assert "another" in done.err.lower() or "already" in done.err.lower(), done.err


def _tasks(run: Run, count: int) -> Callable[[], bool]:
    return lambda: len(run.tasks()) == count


@row("F17", "tasks.max 2, 1, 4, 2 by SIGHUP while it runs")
def resized(run: Run) -> None:
    for count in (1, 4, 2):
        run.setup.write(**{"tasks.max": count})
        run.engine.tell(signal.SIGHUP)
        until(_tasks(run, count), f"{count} tasks", 90)
        run.underway(1)


@row("F18", "all processes killed, runtime directory gone, as by a reboot")
def reboot(run: Run) -> None:
    run.kill_engine()
    shutil.rmtree(run.folder / "run")
    run.start()
