"""
Unchanged: pages that brought the same bytes as in the last finished poll.

Owns the hashes of one shard's pages, of the poll that is under way and of the
one before it; what it knows survives in the state.  A page of a chain has no
twin in another poll and is not looked at.  Knows nothing of the cache: a page
is the same by its bytes, whether they were kept or sent again.

Path: `source.poll` (Page) -> here -> `transform`
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from xxhash import xxh3_64

from engine.errors import StateError
from engine.records import Page, Primitive

#: Bytes of a hash, and pages of which one is kept; later ones are produced.
WIDTH = 8
MOST_PAGES = 10_000

#: Stands for a page of which nothing is known; no page has it.
_UNKNOWN = bytes(WIDTH)


class Unchanged:
    """
    One shard's memory of its pages, for mode FULL.

    Args:
        rules: What shapes the records beside the body, in any form that
            changes with it (mappings, filters, topic, key, converter, ...).
        stored: What `finished` gave the last time, out of the state.
        count: Over how many shards the pages are dealt.
        chain: The pages come out of one another.  Only the first has a twin in
            another poll; it is taken off where the API itself said that nothing
            changed, or where it is all there is.

    Raises: StateError for a stored value it did not write.
    """

    def __init__(
        self,
        rules: bytes,
        stored: Mapping[str, Primitive] | None = None,
        *,
        count: int = 1,
        chain: bool = False,
    ) -> None:
        # It tells pages apart that one API sent, nothing else: 10 us for
        # 145 KB, where SHA-1 takes 90.
        self._rules = xxh3_64(rules + b"\0")
        self._count = count
        self._chain = chain
        self._before = _read(stored)
        self._now: dict[int, bytes] = {}
        self._whole = True

    def begin(self, *, whole: bool = True) -> None:
        """
        A poll starts.

        Args:
            whole: From its first page.  The places of one that is taken up in
                its middle are not those of a whole one: nothing is taken off,
                and the next poll produces everything.
        """
        self._now = {}
        self._whole = whole
        if not whole:
            self._before = {}

    def judge(self, page: Page) -> None:
        """
        Take the records off a page that is the same as in the last finished poll.

        Such a page is `saved`: it was not received, and produces nothing.
        """
        if page.response.request.chained or not self._whole:
            return
        place = page.index // self._count
        if place >= MOST_PAGES:
            return
        found = self._digest(page)
        self._now[place] = found
        alone = not self._chain or page.last or page.response.origin != "network"
        if alone and self._before.get(place) == found:
            page.saved = True
            page.saved_records = page.received
            page.records = []
            page.deduplicated = 0
        else:
            # What is delivered now is newer than the poll before: should this
            # one not be finished, the old page must not pass for it again.
            self._before.pop(place, None)

    def finished(self, poll: int) -> dict[str, Primitive]:
        """
        The poll is over, delivered to its last page: what the state keeps.

        Pages of other shards, and those left out, stand as unknown.
        """
        self._before, self._now = self._now, {}
        last = max(self._before, default=-1)
        raw = b"".join(self._before.get(n, _UNKNOWN) for n in range(last + 1))
        return {"poll": poll, "hashes": base64.b64encode(raw).decode()}

    def _digest(self, page: Page) -> bytes:
        # With what of the body is this page's: shards may share one.
        digest = self._rules.copy()
        digest.update(b"%d %d\0" % (len(page.records), page.deduplicated))
        if page.parent is not None:
            # A child's records may show what its parent says.
            digest.update(page.parent)
            digest.update(b"\0")
        digest.update(page.response.body)
        return digest.digest()


def pages_known(stored: Mapping[str, Any] | None) -> int:
    """How many pages a stored value tells of; 0 for one that cannot be read."""
    try:
        return len(_read(stored))
    except StateError:
        return 0


def _read(stored: Mapping[str, Any] | None) -> dict[int, bytes]:
    if stored is None:
        return {}
    try:
        raw = base64.b64decode(stored["hashes"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as failure:
        raise StateError(f"the stored hashes of pages cannot be read: {failure}") from (
            failure
        )
    if len(raw) % WIDTH:
        raise StateError("the stored hashes of pages are cut")
    pieces = {n // WIDTH: raw[n : n + WIDTH] for n in range(0, len(raw), WIDTH)}
    return {place: piece for place, piece in pieces.items() if piece != _UNKNOWN}
