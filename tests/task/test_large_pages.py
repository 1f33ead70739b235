"""What a large page is known again by does not depend on how it is read."""

from __future__ import annotations

import pytest
from msgspec import Raw
from xxhash import xxh3_64, xxh3_64_intdigest

from engine.source.paging import loops
from engine.task import unchanged


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 20, 35])
def test_a_page_hashed_piece_by_piece_has_the_hash_of_all_of_it(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [Raw(b'{"id":%d}' % number) for number in range(count)]
    whole = xxh3_64()
    unchanged._add(whole, records)
    monkeypatch.setattr(loops, "PIECE", 10)
    monkeypatch.setattr(unchanged, "PIECE", 10)

    assert loops.fingerprint(records) == xxh3_64_intdigest(b",".join(records))
    pieces = xxh3_64()
    unchanged._add(pieces, records)
    assert pieces.digest() == whole.digest()
