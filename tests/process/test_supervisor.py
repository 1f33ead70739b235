"""The supervisor with real forks, real signals and real kills."""

from __future__ import annotations

import ctypes
import errno
import itertools
import logging
import os
import random
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from engine.errors import ConfigError, Exit, Fenced, Unavailable
from engine.shared import link
from engine.supervisor import telling
from engine.supervisor.assign import AssignableApi
from engine.supervisor.child import ChildContext, ChildSpec
from engine.supervisor.notify import Notify
from engine.supervisor.orders import DesiredState
from engine.supervisor.restart import RestartPolicy
from engine.supervisor.runtime import Runtime
from engine.supervisor.scale import Load, Scaling
from engine.supervisor.status import Rebalances
from engine.supervisor.stopper import ECHO
from tests.process.rig import (
    PATIENCE,
    QUICK,
    Engine,
    auxiliary,
    connector,
    gone,
    shards_of,
    until,
    wanted,
    work,
)

Start = Callable[..., Engine]


# --- stopping -------------------------------------------------------------


def test_sigterm_drains_and_ends_with_0(engine: Start, tmp_path: Path) -> None:
    def entry(context: ChildContext) -> int:
        context.ready()
        context.stopping.wait(60)
        time.sleep(0.2)
        (tmp_path / f"drained-{context.number}").touch()
        return 0

    run = engine(lambda: wanted(connector(tmp_path, entry, tasks=3)))
    run.running(3)
    children = run.children()

    assert 0 == run.stop()
    assert 3 == len(list(tmp_path.glob("drained-*")))
    assert all(map(gone, children))
    assert [] == list(run.base.iterdir())
    assert "Traceback" not in run.log


def test_a_signal_that_comes_before_the_first_child_is_obeyed(
    engine: Start, tmp_path: Path
) -> None:
    def plan() -> DesiredState:
        os.kill(os.getpid(), signal.SIGTERM)
        return wanted(connector(tmp_path))

    assert 0 == engine(plan).wait()


def ask_again(run: Engine) -> None:
    """
    A second request to stop, later than the echo of the first would be.

    Once: on a machine that stands still, one more would be a third.
    """
    noticed = time.monotonic()
    until(lambda: time.monotonic() > noticed + ECHO, "an echo would have come")
    run.signal(signal.SIGTERM)
    until(lambda: "Asked again" in run.log, "it is asked again")


def test_a_second_sigterm_hurries_the_children(engine: Start, tmp_path: Path) -> None:
    def entry(context: ChildContext) -> int:
        context.ready()
        context.stopping.wait(60)
        while not context.stopping.hurried:
            time.sleep(0.01)
        (tmp_path / "hurried").touch()
        return 0

    patience = msgspec.structs.replace(QUICK, grace=60.0, hurry=30.0)
    run = engine(lambda: wanted(connector(tmp_path, entry), patience=patience))
    run.running(1)

    run.signal(signal.SIGTERM)
    until(lambda: "Stopping" in run.log, "it takes notice")
    ask_again(run)

    assert 0 == run.wait()
    assert (tmp_path / "hurried").exists()


def test_two_sigterms_in_a_row_hurry_a_child_that_is_busy(
    engine: Start, tmp_path: Path
) -> None:
    """Both wait while the child computes, and merge; the link tells it."""

    def entry(context: ChildContext) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        context.ready()
        time.sleep(0.5)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        context.stopping.wait(60)
        context.orders()
        (tmp_path / f"hurried-{context.stopping.hurried}").touch()
        return 0

    patience = msgspec.structs.replace(QUICK, grace=60.0, hurry=30.0)
    run = engine(lambda: wanted(connector(tmp_path, entry), patience=patience))
    run.running(1)
    run.signal(signal.SIGTERM)
    until(lambda: "Stopping" in run.log, "it takes notice")
    ask_again(run)

    assert 0 == run.wait()
    assert (tmp_path / "hurried-True").exists()


def test_a_third_signal_ends_it_at_once(engine: Start, tmp_path: Path) -> None:
    def entry(context: ChildContext) -> int:
        context.ready()
        time.sleep(60)
        return 0

    patience = msgspec.structs.replace(QUICK, grace=60.0, hurry=60.0)
    run = engine(lambda: wanted(connector(tmp_path, entry), patience=patience))
    run.running(1)
    run.signal(signal.SIGTERM)
    until(lambda: "Stopping" in run.log, "it takes notice")
    ask_again(run)
    asked = time.monotonic()
    until(lambda: time.monotonic() > asked + ECHO, "an echo would have come")
    run.signal(signal.SIGTERM)

    assert Exit.TRY_AGAIN == run.wait()


def test_a_child_that_does_not_drain_is_killed_after_its_grace(
    engine: Start, tmp_path: Path
) -> None:
    def entry(context: ChildContext) -> int:
        context.ready()
        while True:
            time.sleep(0.1)
            context.beat()

    patience = msgspec.structs.replace(QUICK, grace=0.5)
    run = engine(lambda: wanted(connector(tmp_path, entry, tasks=2), patience=patience))
    run.running(2)

    # It would never end by itself.
    assert Exit.TRY_AGAIN == run.stop()
    assert "did not drain" in run.log


def test_ctrl_c_for_the_whole_group_is_one_orderly_stop(
    engine: Start, tmp_path: Path
) -> None:
    def entry(context: ChildContext) -> int:
        context.ready()
        context.stopping.wait(60)
        (tmp_path / f"drained-{context.number}").touch()
        return 0

    def plan() -> DesiredState:
        os.setpgid(0, 0)
        return wanted(connector(tmp_path, entry, tasks=3))

    run = engine(plan)
    run.running(3)

    os.killpg(run.pid, signal.SIGINT)

    assert 0 == run.wait()
    assert 3 == len(list(tmp_path.glob("drained-*")))
    assert "Traceback" not in run.log


def test_a_closed_window_is_a_stop_and_not_a_reload(
    engine: Start, tmp_path: Path
) -> None:
    leader, follower = os.openpty()

    def plan() -> DesiredState:
        os.close(leader)
        return wanted(connector(tmp_path))

    run = engine(plan, stderr=follower)
    run.running(1)
    os.close(leader)
    os.close(follower)
    run.signal(signal.SIGHUP)

    assert 0 == run.wait()


def test_tasks_that_could_not_deliver_end_the_run_with_try_again(
    engine: Start, tmp_path: Path
) -> None:
    def entry(context: ChildContext) -> int:
        context.ready()
        context.stopping.wait(60)
        return int(Exit.TRY_AGAIN)

    run = engine(lambda: wanted(connector(tmp_path, entry)))
    run.running(1)

    assert Exit.TRY_AGAIN == run.stop()
    assert "did not drain" in run.log


def test_admin_ends_after_the_tasks(engine: Start, tmp_path: Path) -> None:
    order = tmp_path / "order"

    def noting(name: str, delay: float) -> Callable[[ChildContext], int]:
        def entry(context: ChildContext) -> int:
            context.ready()
            context.stopping.wait(60)
            time.sleep(delay)
            with order.open("a") as file:
                file.write(f"{name} ")
            return 0

        return entry

    run = engine(
        lambda: wanted(
            connector(tmp_path, noting("task", 0.3)),
            others=(auxiliary(noting("admin", 0.0)),),
        )
    )
    run.running(2)

    assert 0 == run.stop()
    assert "task admin " == order.read_text()


# --- dying ----------------------------------------------------------------


def test_a_killed_task_is_started_again_and_the_others_go_on(
    engine: Start, tmp_path: Path
) -> None:
    run = engine(lambda: wanted(connector(tmp_path, tasks=2)))
    run.running(2)
    before = run.pids()

    os.kill(before["c/0"], signal.SIGKILL)
    until(lambda: run.child("c/0").restarts == 1, "it starts again")
    run.running(2)

    assert run.pids()["c/0"] != before["c/0"]
    assert run.pids()["c/1"] == before["c/1"]
    assert "memory?" in run.child("c/0").last_exit
    assert 0 == run.stop()


def test_fifty_kills_at_random_moments_leave_no_zombie_and_no_descriptor(
    engine: Start, tmp_path: Path
) -> None:
    run = engine(lambda: wanted(connector(tmp_path, tasks=4)))
    run.running(4)
    before = psutil.Process(run.pid).num_fds()
    dice = random.Random(1)

    kills = 0
    while kills < 50:
        if pids := list(run.pids().values()):
            try:
                os.kill(dice.choice(pids), signal.SIGKILL)
            except ProcessLookupError:
                continue
            kills += 1
        time.sleep(dice.random() * 0.04)

    run.running(4)
    until(lambda: len(run.children()) == 4, "no zombie and nobody missing")
    assert before == psutil.Process(run.pid).num_fds()
    assert 0 == run.stop()


def test_all_tasks_killed_at_once_are_all_reaped_and_started_again(
    engine: Start, tmp_path: Path
) -> None:
    run = engine(lambda: wanted(connector(tmp_path, tasks=8)))
    run.running(8)
    before = set(run.pids().values())

    os.kill(run.pid, signal.SIGSTOP)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    os.kill(run.pid, signal.SIGCONT)

    until(
        lambda: len(run.pids()) == 8 and not before & set(run.pids().values()),
        "eight new ones",
    )
    until(
        lambda: not [c for c in run.children() if c.status() == "zombie"], "no zombie"
    )
    assert 0 == run.stop()


def test_children_go_with_a_killed_supervisor(engine: Start, tmp_path: Path) -> None:
    run = engine(lambda: wanted(connector(tmp_path, tasks=3)))
    run.running(3)
    children = run.children()

    run.signal(signal.SIGKILL)
    assert -signal.SIGKILL == run.wait()

    until(lambda: all(map(gone, children)), "no orphan", 1.0)


def test_a_supervisor_killed_while_it_stops_leaves_nobody(
    engine: Start, tmp_path: Path
) -> None:
    def entry(context: ChildContext) -> int:
        context.ready()
        context.stopping.wait(60)
        time.sleep(60)
        return 0

    run = engine(lambda: wanted(connector(tmp_path, entry, tasks=2)))
    run.running(2)
    children = run.children()

    run.signal(signal.SIGTERM)
    time.sleep(0.05)
    run.signal(signal.SIGKILL)
    run.wait()

    until(lambda: all(map(gone, children)), "no orphan", 1.0)


def test_the_next_start_after_a_kill_takes_the_lock_and_clears_the_directory(
    engine: Start, tmp_path: Path
) -> None:
    first = engine(lambda: wanted(connector(tmp_path)))
    first.running(1)
    left_behind = first.runtime
    assert left_behind is not None
    first.signal(signal.SIGKILL)
    first.wait()
    assert left_behind.exists()

    second = engine(lambda: wanted(connector(tmp_path)))
    second.running(1)

    assert not left_behind.exists()
    assert 0 == second.stop()


def test_a_stopped_task_is_given_up_and_another_takes_its_place(
    engine: Start, tmp_path: Path
) -> None:
    run = engine(lambda: wanted(connector(tmp_path, tasks=2)))
    run.running(2)
    before = run.pids()

    os.kill(before["c/1"], signal.SIGSTOP)
    until(lambda: run.pids().get("c/1", before["c/1"]) != before["c/1"], "another one")

    assert not psutil.pid_exists(before["c/1"])
    assert before["c/0"] == run.pids()["c/0"]
    assert "no sign of life" in run.child("c/1").last_exit
    assert 0 == run.stop()


def test_an_endless_loop_is_ended_with_its_stack_in_the_log(
    engine: Start, tmp_path: Path
) -> None:
    def spins_for_ever(context: ChildContext) -> int:
        context.ready()
        context.beat("transforming")
        if not (tmp_path / "spun").exists():
            (tmp_path / "spun").touch()
            while True:
                pass
        return work(context)

    run = engine(lambda: wanted(connector(tmp_path, spins_for_ever)))
    until(lambda: run.child("c/0").restarts == 1, "it is started again")
    run.running(1)

    assert "in spins_for_ever" in run.log
    assert "while it was transforming" in run.log
    assert 0 == run.stop()


def test_a_supervisor_that_was_stopped_does_not_blame_its_children(
    engine: Start, tmp_path: Path
) -> None:
    run = engine(lambda: wanted(connector(tmp_path, tasks=2)))
    run.running(2)
    before = run.pids()

    processes = [run.pid, *before.values()]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(3.5)
    for pid in processes:
        os.kill(pid, signal.SIGCONT)
    time.sleep(0.5)

    assert before == run.pids()
    assert 0 == run.stop()


def test_a_task_that_always_crashes_fails_and_the_others_go_on(
    engine: Start, tmp_path: Path
) -> None:
    def entry(context: ChildContext) -> int:
        if context.number == 1:
            raise RuntimeError("a page from hell")
        return work(context)

    patience = msgspec.structs.replace(
        QUICK, restarts=RestartPolicy(backoff=0.01, backoff_max=0.02, most=10)
    )
    run = engine(lambda: wanted(connector(tmp_path, entry, tasks=2), patience=patience))
    until(lambda: run.child("c/1").state == "FAILED", "it is given up")

    assert "11 exits" in run.child("c/1").trace
    assert 11 == run.log.count("RuntimeError: a page from hell")
    assert "RUNNING" == run.child("c/0").state
    assert Exit.BUG == run.stop()


def test_a_configuration_that_cannot_work_is_not_tried_again(
    engine: Start, tmp_path: Path
) -> None:
    def entry(context: ChildContext) -> int:
        raise ConfigError("the topic is not compacted")

    run = engine(lambda: wanted(connector(tmp_path, entry)))
    until(lambda: run.child("c/0").state == "FAILED", "it is given up")

    assert 0 == run.child("c/0").restarts
    until(lambda: "No task works any more" in run.log, "it is said")
    assert Exit.CONFIG == run.stop()


def test_waiting_for_the_broker_is_never_counted(engine: Start, tmp_path: Path) -> None:
    def entry(context: ChildContext) -> int:
        raise Unavailable("no broker")

    patience = msgspec.structs.replace(
        QUICK, restarts=RestartPolicy(backoff=0.01, backoff_max=0.02, most=2)
    )
    run = engine(lambda: wanted(connector(tmp_path, entry), patience=patience))
    until(lambda: run.child("c/0").restarts > 12, "it tries on")

    assert "FAILED" != run.child("c/0").state
    # It may be in the middle of an attempt just then.
    assert run.stop() in {Exit.OK, Exit.TRY_AGAIN}


def test_a_task_that_ends_with_0_unasked_is_started_again(
    engine: Start, tmp_path: Path
) -> None:
    def entry(context: ChildContext) -> int:
        if (tmp_path / "once").exists():
            return work(context)
        (tmp_path / "once").touch()
        return 0

    run = engine(lambda: wanted(connector(tmp_path, entry)))
    run.running(1)

    assert 1 == run.child("c/0").restarts
    assert "nobody asked" in run.child("c/0").last_exit
    assert 0 == run.stop()


def test_a_machine_without_room_for_a_process_is_waited_for(
    engine: Start, tmp_path: Path
) -> None:
    real = os.fork
    refusals = [0]

    def fork() -> int:
        if refusals[0] < 2:
            refusals[0] += 1
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return real()

    def plan() -> DesiredState:
        os.fork = fork
        return wanted(connector(tmp_path))

    run = engine(plan)
    run.running(1)

    assert 2 == run.log.count("Resource temporarily unavailable")
    assert 0 == run.stop()


def test_an_unknown_child_is_reaped_and_not_taken_for_a_task(
    engine: Start, tmp_path: Path
) -> None:
    def orphans(context: ChildContext) -> int:
        if not (tmp_path / "orphan").exists():
            if os.fork() == 0:
                time.sleep(0.3)
                os._exit(7)
            (tmp_path / "orphan").touch()
            os._exit(1)
        return work(context)

    def plan() -> DesiredState:
        # As PID 1 of a container does, take in the orphans of our children.
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
        return wanted(connector(tmp_path, orphans))

    run = engine(plan)
    run.running(1)
    until(lambda: len(run.children()) == 1, "the orphan is reaped")

    assert 1 == run.child("c/0").restarts
    assert 0 == run.stop()


def test_a_task_over_its_memory_drains_and_starts_anew(
    engine: Start, tmp_path: Path
) -> None:
    def entry(context: ChildContext) -> int:
        hoard = b""
        if not (tmp_path / "hoarded").exists():
            (tmp_path / "hoarded").touch()
            hoard = b"x" * (300 * 1024 * 1024)
        context.ready()
        context.board.shard(context.assigned[0].slot).add("pages")
        context.stopping.wait(60)
        if hoard:
            (tmp_path / "drained").touch()
        return 0

    limit = 250 * 1024 * 1024
    run = engine(lambda: wanted(connector(tmp_path, entry, memory_max=limit)))
    until(lambda: run.child("c/0").restarts == 1, "it starts anew")
    run.running(1)

    assert (tmp_path / "drained").exists()
    assert "process.memory.max.bytes" in run.child("c/0").last_exit
    assert 0 == run.stop()


def test_admin_dying_again_and_again_touches_nothing(
    engine: Start, tmp_path: Path
) -> None:
    def entry(context: ChildContext) -> int:
        return int(Exit.CONFIG)

    patience = msgspec.structs.replace(
        QUICK, restarts=RestartPolicy(backoff=0.01, backoff_max=0.02, most=2)
    )
    run = engine(
        lambda: wanted(
            connector(tmp_path), others=(auxiliary(entry),), patience=patience
        )
    )
    until(lambda: run.child("admin").restarts > 5, "admin is tried on")

    assert "RUNNING" == run.child("c/0").state
    assert 0 == run.child("c/0").restarts
    assert 0 == run.stop()


# --- the second engine ----------------------------------------------------


def test_a_second_engine_on_the_same_connector_is_refused_by_pid(
    engine: Start, tmp_path: Path
) -> None:
    first = engine(lambda: wanted(connector(tmp_path)))
    first.running(1)

    second = engine(lambda: wanted(connector(tmp_path)))

    # The first goes on meanwhile: it waits for nobody.
    assert Exit.TRY_AGAIN == second.wait()
    assert f"process {first.pid}" in second.log
    assert 0 == first.stop()


def test_two_engines_with_different_connectors_live_together(
    engine: Start, tmp_path: Path
) -> None:
    one = engine(lambda: wanted(connector(tmp_path, name="one")))
    two = engine(lambda: wanted(connector(tmp_path, name="two")))
    one.running(1)
    two.running(1)

    assert one.runtime != two.runtime
    assert 0 == one.stop()
    assert 0 == two.stop()


# --- what a child is ------------------------------------------------------


class Report(msgspec.Struct):
    """What a child sees of itself."""

    blocked: list[int]
    descriptors: dict[str, str]
    environment: dict[str, str]
    umask: int
    core: int
    command: str
    pid_of_parent: int


def report(tmp: Path, context: ChildContext) -> int:

    context.ready()
    names = {fd: "" for fd in os.listdir("/proc/self/fd")}
    for fd in list(names):
        try:
            names[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            del names[fd]
    umask = os.umask(0)
    os.umask(umask)
    seen = Report(
        blocked=[int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        descriptors=names,
        environment=dict(os.environ),
        umask=umask,
        core=resource.getrlimit(resource.RLIMIT_CORE)[0],
        command=Path("/proc/self/cmdline").read_text()
        + Path("/proc/self/comm").read_text(),
        pid_of_parent=os.getppid(),
    )
    path = tmp / f"report-{context.key.replace('/', '-')}"
    path.with_suffix(".new").write_bytes(msgspec.json.encode(seen))
    path.with_suffix(".new").rename(path)
    context.stopping.wait(60)
    return 0


def test_a_child_inherits_no_mask_no_descriptor_and_no_secret(
    engine: Start, tmp_path: Path
) -> None:
    def plan() -> DesiredState:
        os.environ["API_PASSWORD"] = "canary"
        os.environ["NOTIFY_SOCKET"] = "/nowhere"
        return wanted(
            connector(tmp_path, lambda context: report(tmp_path, context), tasks=3),
            others=(auxiliary(lambda context: report(tmp_path, context)),),
            secrets=frozenset({"API_PASSWORD"}),
        )

    secret_file = (tmp_path / "opened").open("w")
    run = engine(plan)
    run.running(4)
    until(lambda: len(list(tmp_path.glob("report-*[!w]"))) == 4, "all have reported")
    secret_file.close()

    for path in tmp_path.glob("report-*"):
        seen = msgspec.json.decode(path.read_bytes(), type=Report)
        assert [] == seen.blocked
        # The standard three, its link, both ends of its wake-up pipe.
        assert 6 == len(seen.descriptors), seen.descriptors
        assert "/dev/null" == seen.descriptors["0"]
        assert "API_PASSWORD" not in seen.environment
        assert "NOTIFY_SOCKET" not in seen.environment
        assert 0o077 == seen.umask
        assert 0 == seen.core
        assert run.pid == seen.pid_of_parent
        assert path.name[7:].replace("-", "/") in seen.command
    assert 0 == run.stop()


def test_two_children_draw_different_numbers(engine: Start, tmp_path: Path) -> None:
    def entry(context: ChildContext) -> int:
        (tmp_path / f"drawn-{context.number}").write_text(str(random.random()))
        return work(context)

    def plan() -> DesiredState:
        random.seed(1)
        return wanted(connector(tmp_path, entry, tasks=3))

    run = engine(plan)
    run.running(3)

    assert 3 == len({path.read_text() for path in tmp_path.glob("drawn-*")})
    assert 0 == run.stop()


def test_a_supervisor_with_a_thread_refuses_to_fork(
    engine: Start, tmp_path: Path
) -> None:

    def plan() -> DesiredState:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        return wanted(connector(tmp_path))

    run = engine(plan)

    assert Exit.BUG == run.wait()
    assert "2 threads" in run.log


# --- once -----------------------------------------------------------------


def test_once_ends_with_0_when_all_tasks_are_done(
    engine: Start, tmp_path: Path
) -> None:
    def entry(context: ChildContext) -> int:
        context.ready()
        time.sleep(0.1 * context.number)
        return 0

    run = engine(
        lambda: wanted(connector(tmp_path, entry, tasks=3), others=(auxiliary(work),)),
        once=True,
    )

    assert 0 == run.wait()


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((0, 75), Exit.TRY_AGAIN),
        ((75, 65), Exit.DATA),
        ((69, 0), Exit.UNAVAILABLE),
        ((78, 65), Exit.CONFIG),
    ],
)
def test_once_ends_with_the_code_that_says_most(
    engine: Start, tmp_path: Path, codes: tuple[int, int], expected: Exit
) -> None:
    run = engine(
        lambda: wanted(connector(tmp_path, lambda c: codes[c.number], tasks=2)),
        once=True,
    )

    assert expected == run.wait()


def test_once_goes_on_after_a_kill(engine: Start, tmp_path: Path) -> None:
    def entry(context: ChildContext) -> int:
        context.ready()
        if not (tmp_path / "first").exists():
            (tmp_path / "first").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    run = engine(lambda: wanted(connector(tmp_path, entry)), once=True)

    assert 0 == run.wait()
    assert "starts again" in run.log


# --- reload ---------------------------------------------------------------


def edited(tmp: Path) -> str:
    path = tmp / "edited"
    return path.read_text() if path.exists() else ""


def test_a_reload_restarts_only_what_changed(engine: Start, tmp_path: Path) -> None:
    def plan() -> DesiredState:
        apis = (AssignableApi("a", "1"), AssignableApi("b", f"1{edited(tmp_path)}"))
        return wanted(
            connector(tmp_path, tasks=2, apis=apis),
            connector(tmp_path, name="d"),
        )

    run = engine(plan)
    run.running(3)
    before = run.pids()

    (tmp_path / "edited").write_text("x")
    run.signal(signal.SIGHUP)
    until(lambda: run.pids().get("c/1", before["c/1"]) != before["c/1"], "b restarts")

    after = run.pids()
    assert {"c/0", "d/0"} == {key for key in after if after[key] == before[key]}
    snapshot = run.snapshot()
    assert snapshot is not None
    assert {"ok": 1, "failed": 0} == snapshot.reloads
    assert 0 == run.stop()


def test_a_reload_that_fails_changes_nothing(engine: Start, tmp_path: Path) -> None:
    def plan() -> DesiredState:
        match edited(tmp_path):
            case "bad":
                raise ConfigError("line 3: tasks.max is not a number")
            case "bug":
                raise ZeroDivisionError
            case "twice":
                return wanted(connector(tmp_path, tasks=5), connector(tmp_path))
            case "held":
                return wanted(
                    connector(tmp_path, tasks=5), connector(tmp_path, name="h")
                )
        return wanted(connector(tmp_path, tasks=2))

    other = engine(lambda: wanted(connector(tmp_path, name="h")))
    other.running(1)
    run = engine(plan)
    run.running(2)
    before = run.pids()

    for number, edit in enumerate(("bad", "bug", "twice", "held"), 1):
        (tmp_path / "edited").write_text(edit)
        run.signal(signal.SIGHUP)

        def refused(count: int = number) -> bool:
            snapshot = run.snapshot()
            return snapshot is not None and snapshot.reloads["failed"] == count

        until(refused, f"{edit} is refused")

    assert before == run.pids()
    assert f"process {other.pid}" in run.log
    assert 0 == run.stop()
    assert 0 == other.stop()


def test_a_reload_tries_again_what_had_failed(engine: Start, tmp_path: Path) -> None:
    def entry(context: ChildContext) -> int:
        if edited(tmp_path):
            return work(context)
        raise ConfigError("no such topic")

    run = engine(lambda: wanted(connector(tmp_path, entry)))
    until(lambda: run.child("c/0").state == "FAILED", "it is given up")

    (tmp_path / "edited").write_text("x")
    run.signal(signal.SIGHUP)
    run.running(1)

    assert 0 == run.stop()


def test_reloads_during_restarts_and_shutdown_are_taken_one_by_one(
    engine: Start, tmp_path: Path
) -> None:
    run = engine(lambda: wanted(connector(tmp_path, tasks=3)))
    run.running(3)

    for _ in range(20):
        run.signal(signal.SIGHUP)
        os.kill(next(iter(run.pids().values()), run.pids().get("c/0", 0)) or run.pid, 0)
        time.sleep(0.01)
    run.signal(signal.SIGTERM)
    run.signal(signal.SIGHUP)

    assert 0 == run.wait()


def test_a_removed_connector_ends_and_its_lock_is_free(
    engine: Start, tmp_path: Path
) -> None:
    def plan() -> DesiredState:
        if edited(tmp_path):
            return wanted(connector(tmp_path))
        return wanted(connector(tmp_path), connector(tmp_path, name="d"))

    run = engine(plan)
    run.running(2)
    (tmp_path / "edited").write_text("x")
    run.signal(signal.SIGHUP)
    until(lambda: len(run.children()) == 1, "d has ended")
    time.sleep(0.1)

    other = engine(lambda: wanted(connector(tmp_path, name="d")))
    other.running(1)

    assert 0 == other.stop()
    assert 0 == run.stop()


# --- scaling and moving ---------------------------------------------------


def holding(tmp: Path) -> Callable[[ChildContext], int]:
    """A task that marks each of its shards while it holds it, and drains slowly."""

    def entry(context: ChildContext) -> int:
        marks = []
        for shard in shards_of(context):
            for index in range(shard.index, 12, shard.count):
                mark = tmp / f"held-{shard.api}-{index}"
                try:
                    mark.touch(exist_ok=False)
                except FileExistsError:
                    (tmp / "twice").write_text(mark.name)
                marks.append(mark)
        context.ready()
        context.stopping.wait(60)
        time.sleep(0.1)
        for mark in marks:
            mark.unlink()
        return 0

    return entry


def test_pages_are_never_held_by_two_tasks_while_their_number_changes(
    engine: Start, tmp_path: Path
) -> None:
    def plan() -> DesiredState:
        count = int(edited(tmp_path) or 4)
        return wanted(connector(tmp_path, holding(tmp_path), tasks=count))

    run = engine(plan)
    run.running(4)
    for count in (2, 3, 1):
        (tmp_path / "edited").write_text(str(count))
        run.signal(signal.SIGHUP)
        until(
            lambda: len(run.children()) == len(run.pids()) == count,  # noqa: B023
            f"{count} tasks",
        )
        until(lambda: 12 == len(list(tmp_path.glob("held-*"))), "all pages are held")

    assert not (tmp_path / "twice").exists()
    assert 0 == run.stop()


def test_load_that_rises_and_falls_moves_the_number_of_tasks(
    engine: Start, tmp_path: Path
) -> None:
    """Steps at least two intervals apart, within the bounds."""
    (tmp_path / "rate").write_text("0")
    total = [0.0, time.monotonic()]

    def load(*_: object) -> Load:
        now = time.monotonic()
        total[0] += float((tmp_path / "rate").read_text()) * (now - total[1])
        total[1] = now
        return Load(int(total[0]), 0.0, 1)

    scaling = Scaling(least=1, most=3, up=1000.0, down=100.0, interval=0.3)
    run = engine(
        lambda: wanted(connector(tmp_path, holding(tmp_path), scaling=scaling)),
        load=load,
    )
    run.running(1)

    (tmp_path / "rate").write_text("100000")
    until(lambda: len(run.children()) == len(run.pids()) == 3, "three tasks")
    (tmp_path / "rate").write_text("30")

    def stepped(direction: str) -> int:
        snapshot = run.snapshot()
        return snapshot.scaling.get(f"c {direction} throughput", 0) if snapshot else 0

    until(lambda: stepped("down") == 2, "two steps down")
    run.running(1)
    assert 2 == stepped("up")
    assert not (tmp_path / "twice").exists()
    assert 0 == run.stop()


def test_each_time_shards_change_hands_is_told_with_its_duration(
    engine: Start, tmp_path: Path
) -> None:
    """The start, a reload that deals anew; not a restart, a pause, a mere reload."""

    def slow(context: ChildContext) -> int:
        context.ready()
        context.stopping.wait(60)
        until(lambda: not (tmp_path / "gate").exists(), "the gate is open")
        return 0

    def plan() -> DesiredState:
        count, _, print_ = (edited(tmp_path) or "2").partition(" ")
        return wanted(connector(tmp_path, slow, tasks=int(count), fingerprint=print_))

    def tally() -> Rebalances:
        snapshot = run.snapshot()
        return snapshot.rebalances if snapshot else Rebalances()

    def reload(text: str) -> None:
        reloads = run.snapshot().reloads["ok"]  # type: ignore[union-attr]
        (tmp_path / "edited").write_text(text)
        run.signal(signal.SIGHUP)
        until(lambda: run.snapshot().reloads["ok"] > reloads, "reloaded")  # type: ignore[union-attr]

    run = engine(plan)
    run.running(2)
    until(lambda: tally().completed == 1, "the start is over")
    start = tally()
    assert not start.running
    assert 0 < start.longest == start.seconds

    # The same shards with the same tasks, started anew.
    first = run.pids()
    reload("2 changed")
    until(lambda: not set(first.values()) & set(run.pids().values()), "both anew")
    run.running(2)
    assert start == tally()

    (tmp_path / "gate").touch()
    reload("1 changed")
    until(lambda: tally().running, "under way")
    assert 1 == tally().completed
    (tmp_path / "gate").unlink()
    until(lambda: tally().completed == 2, "over")
    after = tally()
    assert not after.running
    assert after.last_ms > start.last_ms
    assert after.seconds > after.longest >= after.seconds - after.longest
    assert 0 == run.stop()


# --- orders of admin ------------------------------------------------------


def asking(tmp: Path) -> Callable[[ChildContext], int]:
    """An admin that asks what the test writes down, and writes down what it is told."""

    def admin(context: ChildContext) -> int:
        context.ready()
        while not context.stopping.wait(0.02):
            ask = tmp / "ask"
            if ask.exists():
                context.report(msgspec.json.decode(ask.read_bytes(), type=link.Ask))
                ask.unlink()
            for message in context.orders():
                assert isinstance(message, link.AskOutcome)
                (tmp / f"told-{message.id}").write_bytes(msgspec.json.encode(message))
        return 0

    return admin


def ask(tmp: Path, verb: str, connector: str = "c", **more: object) -> link.AskOutcome:
    """Ask through that admin, and wait for the answer."""
    number = next(_ASKS)
    wanted = link.Ask(number, verb, connector, who="a test", **more)  # type: ignore[arg-type]
    (tmp / "draft").write_bytes(msgspec.json.encode(wanted))
    (tmp / "draft").rename(tmp / "ask")
    told = tmp / f"told-{number}"
    until(lambda: told.exists() and told.stat().st_size, f"{verb} is answered")
    return msgspec.json.decode(told.read_bytes(), type=link.AskOutcome)


_ASKS = itertools.count(1)


def obedient(tmp: Path) -> Callable[[ChildContext], int]:
    """A task that writes down whether it is paused."""

    def task(context: ChildContext) -> int:
        context.ready()
        while not context.stopping.wait(0.02):
            for message in context.orders():
                if isinstance(message, link.SetPaused):
                    (tmp / f"paused-{os.getpid()}").write_text(str(message.paused))
        return 0

    return task


def test_admin_pauses_resumes_stops_and_restarts_a_connector(
    engine: Start, tmp_path: Path
) -> None:
    def plan() -> DesiredState:
        return wanted(
            connector(tmp_path, obedient(tmp_path), tasks=2),
            others=(auxiliary(asking(tmp_path)),),
        )

    run = engine(plan)
    run.running(3)
    first = run.pids()
    said = [tmp_path / f"paused-{first[f'c/{n}']}" for n in (0, 1)]

    assert "" == ask(tmp_path, "pause").refusal
    until(lambda: all(p.exists() for p in said), "both tasks were told")
    assert ["True", "True"] == [path.read_text() for path in said]
    assert "PAUSED" == run.child("c/0").state
    paused = {child.pid for child in run.children()}
    assert set(first.values()) == paused, "they live on"

    assert "" == ask(tmp_path, "resume").refusal
    until(lambda: said[0].read_text() == "False", "it goes on")
    assert first == run.pids()

    assert (0, 1) == ask(tmp_path, "restart", tasks=True).restarted
    until(lambda: len({**first, **run.pids()}.items() - first.items()) == 2, "anew")
    assert () == ask(tmp_path, "restart").restarted
    assert () == ask(tmp_path, "restart", tasks=True, failed=True).restarted
    second = run.pids()
    assert (1,) == ask(tmp_path, "restart-task", task=1).restarted
    until(lambda: run.pids().get("c/1", second["c/1"]) != second["c/1"], "only one")
    assert second["c/0"] == run.pids()["c/0"]

    assert "" == ask(tmp_path, "stop").refusal
    until(lambda: len(run.children()) == 1, "only admin is left")
    assert not run.child("c/0").listed
    assert "unknown-task" == ask(tmp_path, "restart-task", task=1).refusal
    assert "unknown" == ask(tmp_path, "pause", "gone").refusal
    assert "invalid" == ask(tmp_path, "dance").refusal
    assert 0 == run.stop()
    assert "Connector c: PAUSED, asked for by a test." in run.log

    # What was decided holds for the next engine, too.
    again = engine(plan)
    again.running(1)
    assert "STOPPED" == again.child("c/0").state
    assert "" == ask(tmp_path, "resume").refusal
    again.running(3)
    assert 0 == again.stop()


def test_a_decision_that_cannot_be_kept_changes_nothing(
    engine: Start, tmp_path: Path
) -> None:
    claims = tmp_path / "claims"
    claims.mkdir()
    task = obedient(tmp_path)

    def plan() -> DesiredState:
        made = msgspec.structs.replace(connector(tmp_path, task), claims=claims)
        return wanted(made, others=(auxiliary(asking(tmp_path)),))

    run = engine(plan)
    run.running(2)
    # Root writes into any directory; nobody writes over a directory.
    (claims / ".c.state.new").mkdir()
    told = ask(tmp_path, "pause")

    assert "unsaved" == told.refusal
    assert "nothing was done" in told.message
    assert "RUNNING" == run.child("c/0").state
    assert 0 == run.stop()


def test_a_level_set_by_admin_reaches_every_process(
    engine: Start, tmp_path: Path
) -> None:

    def task(context: ChildContext) -> int:
        context.ready()
        while not context.stopping.wait(0.02):
            level = logging.getLogger().getEffectiveLevel()
            (tmp_path / f"level-{context.number}").write_text(str(level))
        return 0

    def admin(context: ChildContext) -> int:
        context.ready()
        context.report(link.SetLevel("root", "WARN"))
        context.stopping.wait(60)
        return 0

    run = engine(
        lambda: wanted(connector(tmp_path, task, tasks=2), others=(auxiliary(admin),))
    )
    run.running(3)

    def quiet() -> bool:
        levels = [path.read_text() for path in tmp_path.glob("level-*")]
        return levels == [str(logging.WARNING)] * 2

    until(quiet, "both tasks have the level")
    snapshot = run.snapshot()
    assert snapshot is not None
    assert "WARN" == snapshot.levels[""]
    assert 0 == run.stop()


def test_a_shard_that_failed_is_told_and_tried_again_by_a_resume(
    engine: Start, tmp_path: Path
) -> None:
    def task(context: ChildContext) -> int:
        context.ready()
        if not edited(tmp_path):
            mine = context.assigned[0]
            context.report(link.ShardFailed(mine.shard, mine.slot, "Denied: 401", 65))
        context.stopping.wait(60)
        return 0

    def admin(context: ChildContext) -> int:
        context.ready()
        while not context.stopping.wait(0.02):
            if edited(tmp_path):
                context.report(link.Ask(1, "resume", "c"))
                context.stopping.wait(60)
        return 0

    run = engine(lambda: wanted(connector(tmp_path, task), others=(auxiliary(admin),)))
    until(lambda: run.child("c/0").state == "FAILED", "its only shard has failed")
    snapshot = run.snapshot()
    assert snapshot is not None
    assert ["Denied: 401"] == [shard.failed for shard in snapshot.shards]

    (tmp_path / "edited").write_text("x")
    until(lambda: run.child("c/0").state == "RUNNING", "tried again")

    assert 0 == run.stop()


def test_an_engine_whose_connector_another_one_has_taken_over_ends(
    engine: Start, tmp_path: Path
) -> None:
    """No task of it is started again, also not those that have not noticed."""

    def task(context: ChildContext) -> int:
        context.ready()
        (tmp_path / f"started-{context.number}-{os.getpid()}").touch()
        if context.number == 0:
            context.report(link.TakenOverNotice("another engine has it"))
            return 75
        context.stopping.wait(60)
        return 0

    run = engine(lambda: wanted(connector(tmp_path, task, tasks=2)))

    assert 75 == run.wait()
    assert "Connector c ends here: another engine has it" in run.log
    assert 2 == len(list(tmp_path.glob("started-*")))


# --- the display and the directory ----------------------------------------


def test_a_display_that_fails_does_not_end_the_engine(
    engine: Start, tmp_path: Path
) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError

    run = engine(lambda: wanted(connector(tmp_path)), on_tick=broken)
    run.running(1)

    assert 0 == run.stop()
    assert "The display failed" in run.log


def test_a_runtime_directory_that_goes_away_does_not_end_the_engine(
    engine: Start, tmp_path: Path
) -> None:
    run = engine(lambda: wanted(connector(tmp_path)))
    run.running(1)
    assert run.runtime is not None
    for file in run.runtime.iterdir():
        file.unlink()
    run.runtime.rmdir()
    child = run.children()[0]

    child.kill()
    until(lambda: [c for c in run.children() if c.pid != child.pid], "another one")

    assert 0 == run.stop()


def test_the_supervisor_itself_costs_next_to_nothing(
    engine: Start, tmp_path: Path
) -> None:
    run = engine(
        lambda: wanted(connector(tmp_path, tasks=8, memory_max=1 << 40)),
    )
    run.running(8)
    process = psutil.Process(run.pid)
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    time.sleep(4)
    used = sum(process.cpu_times()[:2]) - before

    assert used / (time.monotonic() - began) < 0.02
    assert 0 == run.stop()


def test_a_bug_in_the_loop_leaves_nobody_behind(engine: Start, tmp_path: Path) -> None:
    def load(*_: object) -> Load:
        raise ZeroDivisionError

    def plan() -> DesiredState:
        scaling = Scaling(most=2, interval=0.1)
        return wanted(connector(tmp_path, tasks=2, scaling=scaling))

    run = engine(plan, load=load)

    assert 98 == run.wait()
    until(lambda: "ZeroDivisionError" in run.log, "the reason is written")
    assert [] == list(run.base.iterdir())


def test_a_fenced_task_is_started_again(engine: Start, tmp_path: Path) -> None:
    def entry(context: ChildContext) -> int:
        if not (tmp_path / "fenced").exists():
            (tmp_path / "fenced").touch()
            raise Fenced("a newer producer owns this")
        return work(context)

    run = engine(lambda: wanted(connector(tmp_path, entry)))
    run.running(1)

    assert 1 == run.child("c/0").restarts
    assert "Fenced: a newer producer" in run.log
    assert 0 == run.stop()


def test_a_plan_of_several_hundred_tasks_is_refused_before_anything_starts(
    engine: Start, tmp_path: Path
) -> None:
    many = tuple(
        ChildSpec(key=f"x{i}", fingerprint="", entry=work, auxiliary=True)
        for i in range(300)
    )
    run = engine(lambda: wanted(connector(tmp_path), others=many))

    assert Exit.BUG == run.wait()
    assert "301 processes" in run.log


def test_runtime_directories_are_private(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path / "base")

    assert 0o700 == runtime.path.stat().st_mode & 0o777
    assert 0o700 == (tmp_path / "base").stat().st_mode & 0o777
    runtime.remove()
    assert not runtime.path.exists()


# --- systemd --------------------------------------------------------------


def test_systemd_hears_ready_alive_reloading_and_stopping(
    engine: Start, tmp_path: Path
) -> None:
    address = str(tmp_path / "notify")

    def plan() -> DesiredState:
        return wanted(connector(tmp_path, tasks=2))

    def make(_: Runtime) -> dict[str, object]:
        environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"}
        return {"notify": Notify(environ)}

    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(5)

        def until_heard(word: str) -> None:
            while not any(word in line for line in heard):
                heard.append(systemd.recv(4096).decode())

        run = engine(plan, make=make)
        until_heard("READY=1")
        assert 2 == len(run.pids())
        until_heard("STATUS=1 connectors, 2 tasks")
        until_heard("WATCHDOG=1")
        del heard[:]
        run.signal(signal.SIGHUP)
        until_heard("RELOADING=1\nMONOTONIC_USEC=")
        until_heard("READY=1")
        run.signal(signal.SIGTERM)
        until_heard("STOPPING=1")

    assert 0 == run.wait()


def test_the_watchdog_is_not_fed_while_a_task_cannot_be_ended(
    engine: Start, tmp_path: Path
) -> None:
    """A child that is silent, and that no signal ends, is systemd's affair."""
    address = str(tmp_path / "notify")

    def entry(context: ChildContext) -> int:
        context.ready()
        time.sleep(60)
        return 0

    def make(_: Runtime) -> dict[str, object]:
        environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"}
        return {"notify": Notify(environ)}

    def plan() -> DesiredState:
        # As if the kernel held the task in a sleep that nothing ends.
        os.kill = lambda *_: None
        telling.PAST, telling.STATUS_PERIOD = 1.0, 0.5
        return wanted(
            connector(tmp_path, entry),
            patience=msgspec.structs.replace(QUICK, silence=0.3, dump=0.1),
        )

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(PATIENCE)
        run = engine(plan, make=make)

        def fed() -> bool:
            """True if the watchdog was fed between two lines of status."""
            found = False
            while b"STATUS=" not in (said := systemd.recv(4096)):
                found = found or b"WATCHDOG=1" in said
            return found

        while b"READY=1" not in systemd.recv(4096):
            pass
        fed()
        assert fed(), "while it may still be ended"
        deadline = time.monotonic() + PATIENCE
        while fed():
            assert time.monotonic() < deadline, "it is fed for ever"
        # Nor later, while the supervisor goes on saying how things stand.
        assert not fed()

    run.clear_up()


def test_while_tasks_start_systemd_is_asked_for_more_time(
    engine: Start, tmp_path: Path
) -> None:
    address = str(tmp_path / "notify")

    def entry(context: ChildContext) -> int:
        context.report(link.BrokerWaiting(time.monotonic(), "nobody at 127.0.0.1:1"))
        context.stopping.wait(60)
        return 0

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(5)
        run = engine(
            lambda: wanted(connector(tmp_path, entry)),
            make=lambda _: {"notify": Notify({"NOTIFY_SOCKET": address})},
        )
        heard = [systemd.recv(4096).decode() for _ in range(3)]
        until(lambda: run.child("c/0").waiting, "the wait is known")

    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in heard)
    assert "READY=1" not in heard
    assert "nobody at 127.0.0.1:1" == run.child("c/0").waiting
    assert 0 == run.stop()


# --- a log nobody reads ---------------------------------------------------


def test_a_log_nobody_reads_holds_nothing_up(engine: Start, tmp_path: Path) -> None:
    def entry(context: ChildContext) -> int:
        context.ready()
        log = logging.getLogger("engine.test")
        for _ in range(300):
            log.info("x" * 500)
            context.beat()
        (tmp_path / f"wrote-{context.number}").touch()
        context.stopping.wait(60)
        return 0

    reader, writer = os.pipe()
    run = engine(lambda: wanted(connector(tmp_path, entry, tasks=2)), stderr=writer)
    os.close(writer)
    until(lambda: len(list(tmp_path.glob("wrote-*"))) == 2, "both have written")
    os.close(reader)
    os.kill(run.pids()["c/0"], signal.SIGKILL)
    until(lambda: run.child("c/0").restarts == 1, "it goes on without a reader")
    run.running(2)

    assert 0 == run.stop()
