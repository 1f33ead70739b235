"""Metering: counters of a task, read once a second, and pages timed to their end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from engine.admin.store import MeterStore
from engine.errors import RecordError, Unavailable
from engine.observe import names
from engine.observe.meters import Meters
from engine.records import DeadLetter, Page, Parcel, Request, Response, Shard
from engine.shared.board import Board
from engine.sink.group import End
from engine.source.fetch.waits import Waits
from engine.task.metering import Metering
from engine.task.waited import WaitMeter
from tests.fakes.clock import HandClock
from tests.fakes.view import FakeClock
from tests.sink.rig import Memory


class Counters:
    connections_opened = 0

    def __init__(self) -> None:
        self.repeats: dict[str, int] = {}


class Connections:
    open = 3
    busy = 2


class Room:
    used = 4096
    waited = 0.0


class Ending:
    """Transactions that a test ends."""

    def __init__(self) -> None:
        self.told: Callable[[End, int, float], None] = lambda *_: None


class Sent:
    batches = 0

    def __init__(self) -> None:
        self.transactions: Any = Ending()


class Schemas:
    hits = 0
    misses = 0


class Stage:
    def __init__(self, directory: Path):
        self.directory = str(directory / "m")
        self.clock = FakeClock()
        meters = Meters(
            directory=self.directory, connector="c", task=0, clock=self.clock
        )
        self.counters = Counters()
        self.sent = Sent()
        self.schemas = Schemas()
        self.metering = Metering(meters, schemas=self.schemas, clock=self.clock)
        self.metering.follow(self.counters, Connections(), Room(), self.sent)

    def seen(self) -> dict[tuple[str, ...], float]:
        self.clock.pass_by(1)
        self.metering.tick(self.clock.now)
        return {
            (
                series.sample.removeprefix("http_source_"),
                *(
                    value
                    for name, value in series.labels
                    if name in ("reason", "state", "result")
                ),
            ): value
            for series, value in MeterStore(self.directory).read().items()
            if series.bound is None
        }


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def parcel(sent_at: float, records: int) -> Parcel:
    request = Request("GET", "http://a/")
    response = Response(
        request=request,
        url=request.url,
        status=200,
        headers=(),
        body=b"",
        sent_at=sent_at,
        received_ms=0,
    )
    page = Page(response=response, index=0, records=[], offset={}, last=True)
    return Parcel(page=page, topic="t", values=[b"1"] * records)


def deliver(parcel: Parcel, now: float) -> None:
    for tell in parcel.delivered:
        tell(now)


def test_counters_are_read_once_a_second(stage: Stage) -> None:
    stage.counters.connections_opened = 5
    stage.counters.repeats["429"] = 2

    stage.metering.tick(stage.clock.now + 0.5)
    assert not MeterStore(stage.directory).read()

    found = stage.seen()
    assert (5, 2) == (found["connections_opened_total",], found["retries_total", "429"])
    assert (2, 1) == (
        found["pool_connections", "busy"],
        found["pool_connections", "idle"],
    )
    assert 4096 == found["producer_buffer_bytes",]


def test_only_what_has_grown_is_added(stage: Stage) -> None:
    stage.counters.connections_opened = 5
    stage.counters.repeats["429"] = 2
    stage.seen()
    stage.counters.repeats["429"] = 3

    found = stage.seen()
    assert (5, 3) == (found["connections_opened_total",], found["retries_total", "429"])


def test_new_counters_begin_at_zero_and_totals_go_on(stage: Stage) -> None:
    stage.counters.connections_opened = 5
    stage.schemas.hits = 3
    fresh = Counters()
    stage.metering.follow(fresh, Connections(), Room(), Sent())
    fresh.connections_opened = 2
    stage.schemas.hits += 1

    found = stage.seen()
    assert 7 == found["connections_opened_total",]
    assert 4 == found["schema_requests_total", "hit"]


def test_a_page_is_timed_from_its_request_to_its_acknowledgement(stage: Stage) -> None:
    handed = parcel(stage.clock.now, 7)
    handed = stage.metering.timed(handed, "api1")
    acknowledged_at = stage.clock.now + 0.5
    assert 7 == stage.seen()["records_active",]

    # However late the shard's own thread may hear of it.
    deliver(handed, acknowledged_at)

    found = stage.seen()
    assert 0.5 == pytest.approx(found["fetch_to_ack_seconds_sum",])
    assert 0 == found["records_active",]


def test_a_page_without_records_is_not_timed(stage: Stage) -> None:
    empty = parcel(stage.clock.now, 0)

    empty = stage.metering.timed(empty, "api1")

    assert () == empty.delivered


def test_the_end_writes_what_is_left(stage: Stage) -> None:
    stage.counters.connections_opened = 5

    stage.metering.close()

    values = MeterStore(stage.directory).read().items()
    assert 5 in [n for series, n in values if "opened" in series.family]


class Sink:
    def begin(self) -> None:
        pass

    def hand_over(self, parcel: Parcel, offset: object) -> None:
        self.clock.pass_by(0.25)

    def commit(self) -> None:
        pass

    def __init__(self, clock: FakeClock):
        self.clock = clock


def test_without_detailed_metrics_nothing_stands_between(stage: Stage) -> None:
    sink = Sink(stage.clock)

    assert stage.metering.stage("api1") is None
    assert len is stage.metering.through("api1", "decode", len)
    assert sink is stage.metering.outlet("api1", sink)


def test_with_detailed_metrics_each_step_is_timed_by_api(tmp_path: Path) -> None:
    clock = FakeClock()
    meters = Meters(
        directory=tmp_path / "m", connector="c", task=0, detailed=True, clock=clock
    )
    metering = Metering(meters, clock=clock)
    handed = parcel(clock.now, 1)

    def transform(given: int) -> int:
        clock.pass_by(0.5)
        return given + 1

    assert 2 == metering.through("api1", "transform", transform)(1)
    handed = metering.timed(handed, "api1")
    metering.outlet("api1", Sink(clock)).hand_over(handed, {})
    deliver(handed, clock.now)
    metering.close()

    spent = {
        series.label("stage"): value
        for series, value in MeterStore(str(tmp_path / "m")).read().items()
        if series.sample == "http_source_stage_seconds_sum"
    }
    assert {"transform": 0.5, "encode": 0.25, "ack": 0.25} == spent


def test_waits_go_to_the_board_by_shard_and_by_what_was_waited_for() -> None:
    board, clock = Board(), HandClock()
    one, two = Shard("c", "one"), Shard("c", "two")
    slots = {one: board.shard(3), two: board.shard(4)}
    waits = {one: Waits(clock), two: Waits(clock)}
    room = Room()
    held = WaitMeter(waits, room, slots)

    waits[one].add("limiter", 10.0, 11.5)
    waits[two].add("retry_after", 10.0, 10.5)
    held.move()
    # One that waited beside the other for most of it.
    waits[one].add("limiter", 10.2, 12.0)
    waits[two].shut(10.0)
    clock.move(4.0)
    room.waited = 3.0
    held.move()
    held.move()

    def waited(shard: Shard) -> dict[str, float]:
        counts = slots[shard].read()
        return {on: n / 1e9 for on, name in names.WAITS.items() if (n := counts[name])}

    assert {"limiter": 2.0, "broker": 3.0} == waited(one)
    assert {"retry_after": 0.5, "breaker": 4.0} == waited(two)


def test_bad_records_are_counted_by_stage_and_by_where_they_went(stage: Stage) -> None:
    def transform(page: Page) -> Parcel:
        letter = DeadLetter(
            index=0, value=b"{}", stage="map", cause="RecordError", message="no id"
        )
        return replace(parcel(stage.clock.now, 1), letters=[letter])

    def refusing(page: Page) -> Parcel:
        raise RecordError("no id", stage="validate")

    page = parcel(0.0, 0).page
    stage.metering.transform("api1", transform)(page)
    with pytest.raises(RecordError):
        stage.metering.transform("api1", refusing)(page)

    stage.clock.pass_by(1)
    stage.metering.tick(stage.clock.now)
    seen = {
        (series.family, series.label("stage") or series.label("to")): value
        for series, value in MeterStore(stage.directory).read().items()
    }
    assert 1 == seen["http_source_record_errors_total", "map"]
    assert 1 == seen["http_source_record_errors_total", "validate"]
    assert 1 == seen["http_source_dead_letters_total", "log"]
    assert 0 == seen["http_source_tls_insecure", ""]


def test_what_can_be_counted_is_shown_before_it_is(stage: Stage) -> None:
    found = stage.seen()

    assert 0 == found["retries_total", "429"]
    assert 0 == found["offset_commits_total", "failed"]
    assert 0 == found["batches_total",]
    assert 0 == found["accounting_errors_total",]
    assert 0 == found["schema_requests_total", "hit"]


def test_batches_and_schemas_are_read_from_who_counts_them(stage: Stage) -> None:
    stage.sent.batches = 3
    stage.schemas.hits, stage.schemas.misses = 2, 1

    found = stage.seen()

    assert 3 == found["batches_total",]
    assert 2 == found["schema_requests_total", "hit"]
    assert 1 == found["schema_requests_total", "miss"]


def test_saving_a_position_is_counted_and_timed_to_its_end(stage: Stage) -> None:
    memory = Memory()
    memory.held = []
    ends: list[object] = []
    saver = stage.metering.saver(memory)

    for _ in range(2):
        saver.save(None, {}, {"page": 1}, ends.append)  # type: ignore[arg-type]
    assert [] == ends
    stage.clock.pass_by(0.5)
    memory.held[0](None)
    failure = Unavailable("gone")
    memory.held[1](failure)

    found = stage.seen()
    assert [None, failure] == ends
    assert 1 == found["offset_commits_total", "ok"]
    assert 1 == found["offset_commits_total", "failed"]
    assert 1.0 == pytest.approx(found["offset_commit_seconds_sum",])


def test_a_page_whose_sums_are_off_is_counted(stage: Stage) -> None:
    lost = parcel(stage.clock.now, 2)
    assert not lost.balanced

    stage.metering.transform("api1", lambda page: lost)(lost.page)

    assert 1 == stage.seen()["accounting_errors_total",]


def test_transactions_are_counted_as_they_end(stage: Stage) -> None:
    stage.metering.follow(stage.counters, Connections(), Room(), stage.sent)
    told = stage.sent.transactions.told
    for records in (500, 0, 1500):
        told(End.COMMITTED, records, 0.25)
    told(End.ABORTED, 9999, 30.0)
    told(End.DOUBTFUL, 9999, 30.0)

    seen = stage.seen()
    assert 3 == seen["transactions_total", "committed"]
    assert 1 == seen["transactions_total", "aborted"]
    assert 1 == seen["transactions_total", "doubtful"]
    assert 2000 == seen["transaction_records_total",]
    assert 0 == seen["transaction_records_min",]
    assert 1500 == seen["transaction_records_max",]
    assert 0.75 == seen["transaction_seconds_sum",]


def test_a_task_at_least_once_shows_no_size_of_transactions(stage: Stage) -> None:
    seen = stage.seen()

    assert 0 == seen["transactions_total", "committed"]
    assert ("transaction_records_min",) not in seen
