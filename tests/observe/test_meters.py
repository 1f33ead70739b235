"""Meters: nothing lost between threads, bounded, gone on with after a restart."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import pytest

from engine.admin.store import MeterStore
from engine.observe import meters as module
from engine.observe import names
from engine.observe.meters import Meters


def made(directory: Path, task: int = 0) -> Meters:
    return Meters(directory=directory / "m", connector="c", task=task)


def read(directory: Path) -> dict[tuple[str, tuple[str, ...]], float]:
    """(sample, values of labels) -> value."""
    return {
        (series.sample, tuple(value for _, value in series.labels)): value
        for series, value in MeterStore(str(directory / "m")).read().items()
    }


def test_counts_of_several_threads_are_all_there(tmp_path: Path) -> None:
    meters = made(tmp_path)

    def work() -> None:
        for _ in range(5000):
            meters.count(names.BATCHES)
            meters.timer(names.FETCH_TO_ACK_SECONDS)(0.02)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        meters.flush()
    meters.flush()

    found = read(tmp_path)
    assert 20_000 == found["http_source_batches_total", ("c", "0")]
    assert 400 == round(found["http_source_fetch_to_ack_seconds_sum", ("c", "0")])
    meters.close()


def test_a_value_on_a_bound_is_in_its_bucket(tmp_path: Path) -> None:
    meters = made(tmp_path)
    for seconds in (0.005, 0.0051, 30.0, 31.0):
        meters.timer(names.REQUEST_SECONDS)(seconds)
    meters.flush()

    store = MeterStore(str(tmp_path / "m")).read()
    counts = {series.bound: n for series, n in store.items() if series.bound}
    assert {0.005: 1, 0.01: 1, 30.0: 1, float("inf"): 1} == {
        bound: n for bound, n in counts.items() if n
    }
    meters.close()


def test_a_gauge_keeps_its_last_value(tmp_path: Path) -> None:
    meters = made(tmp_path)
    for value in (3, 1, 2):
        meters.state(names.BUFFER_BYTES, (), value)
    meters.flush()
    meters.flush()

    assert 2 == read(tmp_path)["http_source_producer_buffer_bytes", ("c", "0")]
    meters.close()


def test_a_new_process_of_the_task_goes_on(tmp_path: Path) -> None:
    for _ in range(3):
        meters = made(tmp_path)
        meters.count(names.BATCHES, (), 5)
        meters.timer(names.REQUEST_SECONDS)(1.0)
        meters.close()

    found = read(tmp_path)
    assert 15 == found["http_source_batches_total", ("c", "0")]
    assert 3 == found["http_source_request_duration_seconds_sum", ("c", "0")]


def test_wrong_labels_are_a_mistake_of_ours(tmp_path: Path) -> None:
    meters = made(tmp_path)

    with pytest.raises(ValueError, match="endpoint"):
        meters.count(names.REQUESTS, ("only one",))
    with pytest.raises(ValueError, match="stage"):
        meters.timer(names.STAGE_SECONDS, ("only one",))
    meters.close()


def test_what_nobody_flushes_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOG", 10)
    meters = made(tmp_path)
    for _ in range(25):
        meters.count(names.BATCHES)
    meters.flush()

    assert 10 == read(tmp_path)["http_source_batches_total", ("c", "0")]
    meters.close()


def test_the_directory_is_ours_alone(tmp_path: Path) -> None:
    made(tmp_path).close()

    assert 0o700 == (tmp_path / "m").stat().st_mode & 0o777


def packed(used: int, *parts: bytes) -> bytes:
    return struct.pack("ii", used, 0) + b"".join(parts)


DAMAGE = {
    "garbage": lambda good: b"\xff" * len(good),
    "text": lambda good: b"not a meter at all",
    "cut": lambda good: good[:3],
    "cut in an entry": lambda good: good[:40],
    "used beyond its end": lambda good: packed(2**30, good[8:]),
    "used below nothing": lambda good: packed(-8, good[8:]),
    "a length below nothing": lambda good: packed(
        64, struct.pack("i", -100), good[12:]
    ),
    "a length of nothing": lambda good: packed(64, struct.pack("i", 0), good[12:]),
    "a key that is none": lambda good: good.replace(b'"http_source', b"@http_source"),
    "a key that is no text": lambda good: good.replace(
        b'"http_source', b"\xfe\xff\xfd" * 4
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_put_aside_with_one_warning(
    tmp_path: Path, kind: str, caplog
) -> None:
    before, other = made(tmp_path), made(tmp_path, 1)
    for meters in (before, other):
        meters.count(names.BATCHES, (), 5)
        meters.timer(names.REQUEST_SECONDS)(1.0)
        meters.close()
    [path] = (tmp_path / "m").glob("counter_c-0.db")
    path.write_bytes(DAMAGE[kind](path.read_bytes()))

    # Whoever reads it meanwhile goes without it.
    assert 5 == read(tmp_path)["http_source_batches_total", ("c", "1")]
    after = made(tmp_path)
    after.count(names.BATCHES, (), 2)
    after.close()

    found = read(tmp_path)
    assert 2 == found["http_source_batches_total", ("c", "0")]
    assert 5 == found["http_source_batches_total", ("c", "1")]
    assert 1 == found["http_source_request_duration_seconds_sum", ("c", "0")]
    assert 1 == len([r for r in caplog.records if "put aside" in r.message])
    assert (tmp_path / "m" / "counter_c-0.db.bad").exists()


def test_what_is_no_file_is_put_aside_too(tmp_path: Path) -> None:
    (tmp_path / "m" / "counter_c-0.db").mkdir(parents=True)
    (tmp_path / "m" / "gauge.db").write_bytes(b"")
    meters = made(tmp_path)
    meters.count(names.BATCHES, (), 2)
    meters.close()

    assert 2 == read(tmp_path)["http_source_batches_total", ("c", "0")]
