"""Keys go where Kafka's Java client sends them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as reference

from engine.sink import murmur2 as hashing
from engine.sink.murmur2 import (
    MOST_KNOWN,
    Partitions,
    murmur2,
    partition_of,
    partitions_of,
)

#: Hashes that Kafka's own `UtilsTest.testMurmur2` states, as unsigned numbers.
KNOWN = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def test_the_hashes_are_those_of_the_java_client() -> None:
    found = {key: murmur2(key) for key in KNOWN}

    assert {key: value & 0xFFFFFFFF for key, value in KNOWN.items()} == found


@given(st.lists(st.binary(max_size=40), max_size=60), st.integers(1, 2000))
def test_many_keys_at_once_get_the_partitions_of_one_by_one(
    keys: list[bytes], count: int
) -> None:
    expected = [(reference(key) & 0x7FFFFFFF) % count for key in keys]

    assert expected == partitions_of(keys, list(map(len, keys)), count)
    assert expected == [partition_of(key, count) for key in keys]


@given(st.integers(1, 50), st.integers(4, 300), st.integers(1, 1000), st.randoms())
def test_keys_of_one_length_share_a_number(
    length: int, keys: int, count: int, random: object
) -> None:
    made = [random.randbytes(length) for _ in range(keys)]  # type: ignore[attr-defined]
    expected = [(reference(key) & 0x7FFFFFFF) % count for key in made]

    assert expected == partitions_of(made, list(map(len, made)), count)


@pytest.mark.parametrize("fresh", [0.0, 0.3, 1.0], ids=["known", "mixed", "new"])
@pytest.mark.parametrize("count", [1, 2, 6, 50])
def test_known_keys_belong_where_they_would_if_hashed(count: int, fresh: float) -> None:
    draw = random.Random(count)
    known = Partitions(count)
    old = [b"k" * draw.randrange(9) + b"%d" % at for at in range(500)]
    new = iter(range(10**9))
    for _ in range(2 * MOST_KNOWN // 400):
        keys = [
            b"new-%d" % next(new) if draw.random() < fresh else draw.choice(old)
            for _ in range(400)
        ]
        lengths = list(map(len, keys))
        found = known.dealt(keys, lengths)
        places = {at: part for part, each in enumerate(found) for at in each}
        assert all(each == sorted(each) for each in found)
        assert partitions_of(keys, lengths, count) == [places[at] for at in range(400)]
        assert sum(map(len, found)) == 400


@pytest.mark.parametrize(("again", "looks"), [(True, True), (False, False)])
def test_new_keys_are_not_looked_up_for_long(
    again: bool, looks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []
    real = hashing.partitions_of

    def noted(keys: Sequence[bytes], lengths: Sequence[int], count: int) -> list[int]:
        hashed.append(len(keys))
        return real(keys, lengths, count)

    monkeypatch.setattr(hashing, "partitions_of", noted)
    known, pages = Partitions(6), 2 * MOST_KNOWN // 500
    for page in range(pages):
        keys = [b"%08d" % (at + (0 if again else page * 500)) for at in range(500)]
        known.dealt(keys, [8] * 500)
    assert (pages if not again else 1) == len(hashed)
    assert looks == (not known._resting)
