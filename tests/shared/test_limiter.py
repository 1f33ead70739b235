from __future__ import annotations

import itertools
import logging
import os
import shutil
from pathlib import Path

import pytest

from engine.shared.demands import GLANCE, Listening
from engine.shared.limiter import LONGEST_ANSWER, RateLimiter, RateLimits
from engine.shared.rates import Rate
from tests.fakes.hands import Hands


@pytest.fixture
def clock() -> Hands:
    return Hands()


def highest(low: float, high: float) -> float:
    return high


def limits(rate: Rate | None = None, *, listening=None, **more) -> RateLimits:
    """Limits; `listening` is how each of the apis here takes what is said."""
    names = ("a", "api1", "api2") if listening is not None else ()
    return RateLimits(rate=rate, listening=dict.fromkeys(names, listening), **more)


def limiter(
    path: Path, clock: Hands, rate: Rate | None = None, *, task=0, tasks=1, **more
) -> RateLimiter:
    return RateLimiter(
        [path],
        "orders",
        limits(rate, **more),
        task=task,
        tasks=tasks,
        clock=clock,
        draw=highest,
    )


def go(one: RateLimiter, clock: Hands, host: str = "h", api: str = "api1") -> float:
    """Wait as told; the moment the request goes."""
    wait = one.reserve(host, api)
    while wait > 0:
        assert wait <= LONGEST_ANSWER
        clock.turn(wait)
        wait = one.recheck(host)
    return clock.seconds


def rate_of(
    one: RateLimiter, clock: Hands, host: str, api: str, count: int = 20
) -> float:
    began = go(one, clock, host, api)
    for _ in range(count):
        last = go(one, clock, host, api)
    return count / (last - began)


def test_twenty_requests_with_a_burst_of_ten_take_a_second(tmp_path, clock) -> None:
    one = limiter(tmp_path, clock, Rate(10.0, burst=10))

    moments = [go(one, clock) - 1000.0 for _ in range(20)]

    assert pytest.approx(1.0, abs=1e-3) == moments[-1]
    assert "limiter" == one.cause


def test_without_a_rate_nobody_waits_but_the_server_is_obeyed(tmp_path, clock) -> None:
    one = limiter(tmp_path, clock)
    assert 0.0 == one.reserve("h", "api1")

    one.observe("h", "a", 429, [("Retry-After", "5")])

    assert 1005.0 == pytest.approx(go(one, clock))
    assert "retry_after" == one.cause


def test_global_is_one_bucket_for_all_hosts_and_apis(tmp_path, clock) -> None:
    one = limiter(tmp_path, clock, Rate(10.0, burst=1))
    go(one, clock, "a", "api1")

    assert 1000.1 == pytest.approx(go(one, clock, "b", "api2"))


@pytest.mark.parametrize(
    ("scope", "same", "other"),
    [
        ("PER_API", ("b", "api1"), ("a", "api2")),
        ("PER_HOST", ("a", "api2"), ("b", "api1")),
    ],
)
def test_a_scope_has_a_bucket_each(tmp_path, clock, scope, same, other) -> None:
    one = limiter(tmp_path, clock, Rate(10.0, burst=1), scope=scope)
    go(one, clock, "a", "api1")

    assert 1000.0 == go(one, clock, *other)
    assert 1000.1 == pytest.approx(go(one, clock, *same))


def test_per_task_counts_each_task_and_a_task_started_again_goes_on(
    tmp_path, clock
) -> None:
    tasks = [
        limiter(tmp_path, clock, Rate(10.0, burst=1), scope="PER_TASK", task=n)
        for n in (0, 1, 0)
    ]
    assert 1000.0 == go(tasks[0], clock)
    assert 1000.0 == go(tasks[1], clock)

    assert 1000.1 == pytest.approx(go(tasks[2], clock))


def test_an_api_has_its_own_limit_inside_the_global_one(tmp_path, clock) -> None:
    one = limiter(
        tmp_path, clock, Rate(10.0, burst=1), apis={"slow": Rate(2.0, burst=1)}
    )
    assert 2.0 == pytest.approx(rate_of(one, clock, "h", "slow"), rel=0.01)
    assert 10.0 == pytest.approx(rate_of(one, clock, "h", "fast"), rel=0.01)
    go(one, clock, "h", "slow")
    assert one.reserve("h", "slow") > 0
    assert "api_limiter" == one.cause

    fast = limiter(
        tmp_path / "b", clock, Rate(10.0, burst=1), apis={"a": Rate(50.0, burst=1)}
    )
    assert 10.0 == pytest.approx(rate_of(fast, clock, "h", "a"), rel=0.01)


def test_who_waits_for_the_inner_limit_takes_nothing_of_the_outer(
    tmp_path, clock
) -> None:
    """Else one slow api would hold places that others could use."""
    one = limiter(
        tmp_path, clock, Rate(10.0, burst=1), apis={"slow": Rate(0.1, burst=1)}
    )
    go(one, clock, "h", "slow")
    clock.turn(1)
    assert one.reserve("h", "slow") > 0

    assert 10.0 == pytest.approx(rate_of(one, clock, "h", "fast"), rel=0.01)


def test_an_api_without_limit_costs_nobody_anything(tmp_path, clock) -> None:
    one = limiter(tmp_path, clock, Rate(1.0, burst=1), unlimited=("free",))

    for _ in range(10):
        assert 0.0 == one.reserve("h", "free")
    assert 0.0 == one.reserve("h", "api1")


def test_all_tasks_of_the_host_obey_at_once_and_no_other_host(tmp_path, clock) -> None:
    one, other = (limiter(tmp_path, clock, Rate(1000.0)) for _ in range(2))
    for each in (one, other):
        each.reserve("h", "api1")
    clock.turn(1)

    one.observe("h", "a", 503, [("retry-after", "20")])

    assert 0.0 == other.reserve("elsewhere", "api1")
    assert pytest.approx(1021.0) == go(other, clock)


def test_a_pause_set_meanwhile_binds_who_already_waits(tmp_path, clock) -> None:
    one, other = (limiter(tmp_path, clock, Rate(10.0, burst=1)) for _ in range(2))
    one.reserve("h", "api1")
    wait = one.reserve("h", "api1")
    assert wait > 0
    other.observe("h", "a", 429, [("retry-after", "3")])

    clock.turn(wait)
    left = one.recheck("h")

    assert left > 0
    assert "retry_after" == one.cause
    while left:
        clock.turn(left)
        left = one.recheck("h")
    assert clock.seconds >= 1003.0


def test_those_who_waited_through_a_pause_do_not_go_all_at_once(
    tmp_path, clock
) -> None:
    tasks = [limiter(tmp_path, clock, Rate(10.0, burst=1)) for _ in range(8)]
    waiting = {n: task.reserve("h", "api1") for n, task in enumerate(tasks)}
    tasks[0].observe("h", "a", 429, [("retry-after", "2")])

    gone: list[float] = []
    due = {n: clock.seconds + wait for n, wait in waiting.items()}
    while due:
        n = min(due, key=due.__getitem__)
        clock.turn(max(0.0, due[n] - clock.seconds))
        left = tasks[n].recheck("h") if waiting[n] else 0.0
        if left:
            due[n] = clock.seconds + left
        else:
            gone.append(clock.seconds)
            del due[n]

    late = [moment for moment in gone if moment > 1000.0]
    assert min(late) >= 1002.0
    assert all(b - a >= 0.1 - 1e-6 for a, b in itertools.pairwise(late))


def test_demands_beyond_the_limit_are_cut_and_logged(tmp_path, clock, caplog) -> None:
    one = limiter(tmp_path, clock, listening=Listening(longest=10.0))

    one.observe("h", "a", 429, [("retry-after", "86400")])

    assert pytest.approx(10.0) == one.paused("h")
    assert "86400" in caplog.text


def test_a_throttling_that_names_no_time_doubles_its_pause(tmp_path, clock) -> None:
    one = limiter(tmp_path, clock)
    pauses = []
    for _ in range(8):
        one.observe("h", "a", 429, [("retry-after", "0")])
        one.observe("h", "a", 429, [])  # in flight when the first one came
        pauses.append(round(one.paused("h"), 3))
        clock.turn(pauses[-1] + 0.01)
    assert [1, 2, 4, 8, 16, 32, 60, 60] == pauses

    one.observe("h", "a", 200, [])
    one.observe("h", "a", 429, [])

    assert pytest.approx(1.0) == one.paused("h")
    assert "throttled" == one.host_readings()[0].cause


def test_an_empty_budget_pauses_until_it_is_whole(tmp_path, clock) -> None:
    one = limiter(tmp_path, clock)
    one.observe("h", "a", 200, [("ratelimit", '"a";r=3;t=30')])
    reading = one.host_readings()[0]
    assert (0.0, 3.0, 30.0) == (reading.paused, reading.remaining, reading.reset)

    one.observe("h", "a", 200, [("ratelimit", '"a";r=0;t=30')])

    assert 1030.0 == pytest.approx(go(one, clock))
    assert "budget" == one.cause


def test_a_server_that_is_not_to_be_listened_to_pauses_nobody(tmp_path, clock) -> None:
    one = limiter(tmp_path, clock, listening=Listening(respect=False))

    one.observe("h", "a", 429, [("retry-after", "30"), ("ratelimit", '"a";r=0;t=30')])

    assert 0.0 == one.reserve("h", "api1")


def test_the_whole_wait_is_known_beside_its_next_part(tmp_path, clock) -> None:
    one = limiter(tmp_path, clock)
    one.observe("h", "a", 503, [("retry-after", "30")])

    assert LONGEST_ANSWER == one.reserve("h", "a")
    assert ("retry_after", 30.0) == (one.cause, pytest.approx(one.left))
    clock.turn(20.0)
    assert LONGEST_ANSWER == one.recheck("h")
    assert 10.0 == pytest.approx(one.left)


def test_who_does_not_listen_is_not_held_by_what_others_heard(tmp_path, clock) -> None:
    more = {"api1": Listening(respect=False), "api2": Listening(longest=4.0)}
    one = RateLimiter([tmp_path], "c", RateLimits(listening=more), clock=clock)

    one.observe("h", "api2", 429, [("retry-after", "30")])

    assert 0.0 == one.reserve("h", "api1")
    assert 1004.0 == pytest.approx(go(one, clock, "h", "api2"))


def test_a_refusal_that_names_no_time_is_waited_as_the_retries_are(
    tmp_path, clock
) -> None:
    for number, (listening, pauses) in enumerate(
        (
            (Listening(backoff=0.1, backoff_max=0.3), [0.1, 0.2, 0.3, 0.3]),
            (Listening(backoff=0.1, exponential=False), [0.1, 0.1, 0.1]),
            (Listening(backoff=0.001), [0.05, 0.05]),
        )
    ):
        one = limiter(tmp_path / str(number), clock, listening=listening)
        for pause in pauses:
            one.observe("h", "a", 503, [])
            assert pytest.approx(pause) == one.paused("h")
            clock.turn(pause + 0.01)


def test_what_a_host_told_is_whole_again_after_its_window(tmp_path, clock) -> None:
    one = limiter(tmp_path, clock)
    told = [("x-ratelimit-limit", "60"), ("x-ratelimit-remaining", "7")]

    one.observe("h", "a", 200, [*told, ("x-ratelimit-reset", "30")])
    one.observe("other", "a", 200, told)
    clock.turn(31)

    found = {each.host: each for each in one.host_readings()}
    assert (60, 60, None) == (
        found["h"].limit,
        found["h"].remaining,
        found["h"].reset,
    )
    # Without a word on when, it stays as it was told.
    assert (60, 7) == (found["other"].limit, found["other"].remaining)


def test_other_limits_are_adopted_by_those_who_wait(tmp_path, clock) -> None:
    """From one rate to two, to another scope, to none at all."""
    slow, fast = Rate(0.01, burst=1), Rate(10.0, burst=1)
    for number, then in enumerate(
        (
            limits(fast, apis={"api1": fast}),
            limits(fast, scope="PER_HOST"),
            limits(fast, scope="PER_API"),
            limits(),
        )
    ):
        one = limiter(tmp_path / str(number), clock, slow)
        go(one, clock)
        wait = one.reserve("h", "api1")
        clock.turn(0.01)
        began = clock.seconds
        one.adopt(then)

        while wait:
            clock.turn(wait)
            wait = one.recheck("h")
        assert clock.seconds - began <= LONGEST_ANSWER + 0.25
        one.close()


def test_the_adaptive_rate_halves_once_a_429_and_creeps_up(tmp_path, clock) -> None:
    one = limiter(
        tmp_path, clock, Rate(100.0, burst=1), listening=Listening(adaptive=True)
    )
    go(one, clock)
    for _ in range(8):
        one.observe("h", "a", 429, [])  # all of one moment
    assert 0.5 == one.host_readings()[0].factor

    clock.turn(1.0)
    rates = []
    for _ in range(16):
        rates.append(rate_of(one, clock, "h", "api1", 50))
        clock.turn(1.0)

    assert 50 < rates[0] < 60
    assert sorted(rates) == pytest.approx(rates, rel=0.02)
    assert 100 == pytest.approx(rates[-1], rel=0.02)


def test_the_adaptive_rate_of_one_host_is_not_that_of_another(tmp_path, clock) -> None:
    one = limiter(
        tmp_path,
        clock,
        Rate(100.0, burst=1),
        listening=Listening(adaptive=True, respect=False),
    )
    for host in "ab":
        go(one, clock, host)
    for _ in range(4):
        one.observe("a", "a", 429, [])
        clock.turn(1.5)

    assert 100 == pytest.approx(rate_of(one, clock, "b", "api1", 50), rel=0.02)
    assert rate_of(one, clock, "a", "api1", 5) < 20


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"x",
        b"\xff" * 4096,
        b"\x00" * 4096,
        os.urandom(4096),
        b"lim1" + b"\x7f" * 60,
    ],
)
def test_garbage_in_a_file_costs_at_most_the_bucket(tmp_path, clock, garbage) -> None:
    rate = Rate(10.0, burst=5)
    one = limiter(tmp_path, clock, rate)
    for _ in range(3):
        go(one, clock)
    (path,) = tmp_path.glob("limit-*")
    path.write_bytes(garbage)

    began = clock.seconds
    assert go(one, clock) - began <= 0.5
    assert 10.0 == pytest.approx(rate_of(one, clock, "h", "api1", 40), rel=0.2)


def test_a_file_cut_under_a_sliding_window_recovers(tmp_path, clock) -> None:
    one = limiter(tmp_path, clock, Rate(10.0, "SLIDING_WINDOW"))
    for _ in range(30):
        go(one, clock)
    (path,) = tmp_path.glob("limit-*")
    os.truncate(path, 1030)

    began = clock.seconds
    assert go(one, clock) - began <= 1.0 + 1e-6
    assert 10.0 == pytest.approx(rate_of(one, clock, "h", "api1", 40), rel=0.2)


def test_a_deleted_file_is_left_together(tmp_path, clock) -> None:
    one, other = (limiter(tmp_path, clock, Rate(10.0, burst=1)) for _ in range(2))
    for each in (one, other):
        go(each, clock)
    for path in tmp_path.iterdir():
        path.unlink()
    clock.turn(0.2)

    moments = []
    for _ in range(20):
        for each in (one, other):
            moments.append(go(each, clock))

    gaps = [b - a for a, b in itertools.pairwise(moments)]
    assert min(gaps) >= 0.1 - 1e-6
    assert any(tmp_path.glob("limit-*"))


def test_the_whole_directory_may_go(tmp_path, clock) -> None:
    path = tmp_path / "run"
    one = limiter(path, clock, Rate(10.0, burst=1))
    go(one, clock)
    shutil.rmtree(path)
    clock.turn(0.2)

    assert 10.0 == pytest.approx(rate_of(one, clock, "h", "api1"), rel=0.05)
    assert any(path.glob("limit-*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_a_foreign_owner_is_put_aside(tmp_path, clock) -> None:
    limiter(tmp_path, clock, Rate(10.0)).reserve("h", "api1")
    (path,) = tmp_path.glob("limit-*")
    os.chown(path, 65534, 65534)

    one = limiter(tmp_path, clock, Rate(10.0, burst=1))
    go(one, clock)

    assert os.geteuid() == path.stat().st_uid
    assert 65534 == path.with_name(path.name + ".bad").stat().st_uid


def test_a_link_or_a_directory_in_its_place_is_put_aside(tmp_path, clock) -> None:
    limiter(tmp_path, clock, Rate(10.0)).reserve("h", "api1")
    (path,) = tmp_path.glob("limit-*")
    (target := tmp_path / "precious").write_bytes(b"x" * 100)
    for place in (lambda: path.symlink_to(target), path.mkdir):
        path.unlink()
        place()

        one = limiter(tmp_path, clock, Rate(10.0, burst=1))
        assert 0.0 == one.reserve("h", "api1")
        assert one.readings()[0].shared
        assert path.is_file()
        assert not path.is_symlink()
    assert b"x" * 100 == target.read_bytes()


def test_without_any_file_a_task_keeps_to_its_part(tmp_path, clock, caplog) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        one = limiter(tmp_path / "file", clock, Rate(40.0, burst=4), tasks=4)
        rate = rate_of(one, clock, "h", "api1", 50)

    assert 10.0 == pytest.approx(rate, rel=0.05)
    assert not one.readings()[0].shared
    assert 1 == caplog.text.count("keeps to 1/4")


def test_after_a_restart_of_the_machine_nothing_is_believed(
    tmp_path, clock, monkeypatch
) -> None:
    clock.turn(1e6)
    one = limiter(tmp_path, clock, Rate(0.001, burst=1))
    for _ in range(1):
        one.reserve("h", "api1")
    one.observe("h", "a", 429, [("retry-after", "3000")])
    (boot := tmp_path / "boot").write_text("another")
    monkeypatch.setattr("engine.shared.cell._BOOT_ID", boot)
    clock.seconds = 5.0

    again = limiter(tmp_path, clock, Rate(0.001, burst=1))

    assert 0.0 == again.reserve("h", "api1")


def test_a_jump_of_the_wall_clock_is_not_noticed(tmp_path, clock) -> None:
    one = limiter(tmp_path, clock, Rate(10.0, burst=1))
    go(one, clock)
    one.observe("h", "a", 429, [("retry-after", "3")])
    clock.wall += 86_400_000

    assert pytest.approx(1003.0) == go(one, clock)
    clock.wall -= 2 * 86_400_000
    assert pytest.approx(1003.1) == go(one, clock)


def test_names_of_any_kind_make_files_of_their_own(tmp_path, clock) -> None:
    one = limiter(tmp_path, clock, Rate(10.0, burst=1), scope="PER_HOST")
    hosts = ["a/b", "a_b", "../../etc", "x" * 5000, "\u00fc", ""]
    for host in hosts:
        assert 0.0 == one.reserve(host, "api1")

    assert len(hosts) == len(list(tmp_path.glob("limit-*")))
    assert all(path.parent == tmp_path for path in tmp_path.rglob("*"))


def test_a_reload_reaches_those_who_wait_within_a_second(tmp_path, clock) -> None:
    one = limiter(tmp_path, clock, Rate(0.02, burst=1))
    go(one, clock)
    wait = one.reserve("h", "api1")
    assert wait == LONGEST_ANSWER
    clock.turn(0.1)

    one.adopt(limits(Rate(100.0, burst=1)))

    clock.turn(wait - 0.1)
    while wait := one.recheck("h"):
        clock.turn(wait)
    assert clock.seconds - 1000.0 <= 1.1


def test_two_connectors_do_not_share_a_limit_but_a_hosts_demand(
    tmp_path, clock
) -> None:
    one, two = (
        RateLimiter([tmp_path], name, limits(Rate(1.0, burst=1)), clock=clock)
        for name in ("orders", "users")
    )
    assert 0.0 == one.reserve("h", "api1")
    assert 0.0 == two.reserve("h", "api1")

    one.observe("h", "a", 429, [("retry-after", "9")])
    clock.turn(GLANCE)

    assert 9.0 - GLANCE == pytest.approx(two.paused("h"))
