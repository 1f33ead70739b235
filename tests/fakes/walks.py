"""
Walks: a poll over the oracle API, put together from the engine's real parts.

Owns the defaults that each pagination type needs against `tests.fakes.api`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from engine.records import Offset, Page
from engine.seams import Fetch, Stopping
from engine.source.decode.decoder import Decode, compile_decoder
from engine.source.paging.asking import BookmarkKeys
from engine.source.paging.bookmark import Incremental
from engine.source.paging.pager import Paging, ShardCoordination
from engine.source.paging.paginator import Paginator
from engine.source.paging.request import Shape
from engine.source.poll import Poll
from engine.source.wire.origin import AllowedOrigins, origin_of
from tests.fakes.fetch import PlainFetch

TYPES = (
    "none",
    "offset",
    "page",
    "cursor",
    "next_url",
    "link_header",
    "keyset",
    "odata",
)

#: What each type needs to know about the oracle's envelope.
NEEDS: dict[str, dict[str, Any]] = {
    "cursor": {"cursor_field": "next"},
    "next_url": {"cursor_field": "next"},
    "keyset": {"offset_field": "n"},
}


class Never:
    """A stopping flag that is never set; waits for real."""

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        return False


@lru_cache
def _decoder(records: str, wanted: tuple[str, ...]) -> Decode:
    return compile_decoder(data_path=records, wanted=wanted)


def poll_of(
    url: str,
    kind: str,
    *,
    source: int = 0,
    path: str | None = None,
    fetch: Fetch | None = None,
    index: int = 0,
    count: int = 1,
    others: Sequence[tuple[int, int, Offset]] = (),
    coordination: ShardCoordination | None = None,
    notes: list[str] | None = None,
    stopping: Stopping | None = None,
    shape: dict[str, Any] | None = None,
    poll: dict[str, Any] | None = None,
    bookmark: BookmarkKeys | None = None,
    **paging: Any,
) -> Poll:
    """
    A poll over one list of the oracle.

    Args:
        bookmark: Makes it an incremental one.
    """
    if bookmark is not None:
        paging = {
            "mode": "INCREMENTAL",
            "bookmarked": True,
            "offset_field": bookmark.pointer,
            **paging,
        }
    keys = Paging(type=kind, **{**NEEDS.get(kind, {}), **paging})
    made = Shape(
        url=path or f"{url}/{kind}/{source}",
        paging=keys,
        **{"method": "GET", **(shape or {})},
    )
    note = (lambda name: None) if notes is None else notes.append
    paginator = Paginator(
        keys,
        shape=made,
        follow=AllowedOrigins((origin_of(url),)).follow,
        index=index,
        count=count,
        others=others,
        coordination=coordination,
        note=note,
        around=None if bookmark is None else Incremental(bookmark, note=note),
    )
    records = "value" if kind == "odata" else "items"
    return Poll(
        paginator,
        fetch=fetch or PlainFetch(),
        decode=_decoder(records, paginator.paths),
        stopping=stopping or Never(),
        **(poll or {}),
    )


def bytes_of(pages: Sequence[Page]) -> list[bytes]:
    """All records of some pages, in order."""
    return [bytes(record) for page in pages for record in page.records]
