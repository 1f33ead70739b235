"""Keys go where Kafka's Java client sends them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as reference

from engine.sink.murmur2 import murmur2, partition_of, partitions_of

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
