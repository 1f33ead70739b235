"""Showing: for how long a shard was polled, over reloads."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cli import run
from engine.cli.display import Silence
from engine.shared.board import Board, Layout
from engine.supervisor.status import ShardStatus, Snapshot
from tests.fakes.clock import HandClock


def shard(slot: int, **changed: object) -> ShardStatus:
    values: dict[str, object] = {
        "connector": "orders",
        "api": f"api{slot}",
        "entity": None,
        "label": f"api{slot}",
        "slot": slot,
        "task": 0,
    }
    return ShardStatus(**{**values, **changed})  # type: ignore[arg-type]


def test_a_shards_seconds_are_those_in_which_it_was_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = HandClock()
    monkeypatch.setattr(run, "SYSTEM", clock)
    board = Board(Layout(children=1, shards=4))
    showing = run.Showing(Silence(), once=False, meters=tmp_path)

    def seconds(*shards: ShardStatus) -> dict[str, float]:
        showing.tick(
            Snapshot(pid=1, started_ms=0, state="running", shards=shards), board
        )
        return {row.shard: row.seconds for row in showing.rows}

    clock.move(1)
    assert {"api0": 1.0, "api1": 1.0} == seconds(shard(0), shard(1))
    clock.move(9)
    # One has failed, and a reload brings another.
    assert {"api0": 10.0, "api1": 10.0, "api2": 0.0} == seconds(
        shard(0), shard(1, failed="401"), shard(2)
    )
    clock.move(10)
    # The reload has taken one away; what had failed is tried again a while later.
    assert {"api0": 20.0, "api1": 10.0, "api2": 10.0} == seconds(
        shard(0), shard(1, failed="401"), shard(2)
    )
    assert {"api0": 20.0, "api1": 20.0, "api2": 10.0} == seconds(shard(1), shard(2))
    clock.move(5)
    assert {"api0": 20.0, "api1": 25.0, "api2": 15.0} == seconds(shard(1), shard(2))
