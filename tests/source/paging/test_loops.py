"""The memory of the loop guard, against a dict."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.source.paging.loops import SeenPages


@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1)).filter(
                lambda key: key != 1
            ),
            st.integers(0, 2**64 - 1),
        ),
        max_size=300,
    )
)
def test_it_remembers_what_each_key_had_last(pairs: list[tuple[int, int]]) -> None:
    seen = SeenPages()
    known: dict[int, int] = {}

    for key, value in pairs:
        assert known.get(key) == seen.swap(key, value)
        known[key] = value


def test_many_keys_that_share_their_low_bits_are_all_found() -> None:
    seen = SeenPages()
    keys = [number << 20 for number in range(1, 200)]
    for key in keys:
        assert seen.swap(key, key + 1) is None

    assert [key + 1 for key in keys] == [seen.swap(key, 0) for key in keys]
