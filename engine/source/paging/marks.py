"""
Marks: where an incremental poll stands, as its offset says.

Owns the fields that a position has beside those of the pager of its type, and the reading
of them.  Never guesses: what cannot be read is a StateError.

Path: `source.paging.bookmark` -> here -> `source.paging.ties`
"""

from __future__ import annotations

from typing import Final

from engine.errors import StateError
from engine.records import Offset, Primitive
from engine.source.paging.asking import BookmarkKeys
from engine.source.paging.position import COMMON, fields_under, text_in, whole
from engine.source.paging.ties import Ties
from engine.source.paging.values import KINDS, restored

#: What a position has beside the inner pager's own fields.
FIELDS: Final = (
    "bookmark",
    "kind",
    "initial",
    "ties",
    "ties.at",
    "seen",
    "seen.at",
    "high",
    "next.position",
    "cap",
    "order",
    "limit",
)
#: Fields that the inner pager has under the same name, and what they are called then.
RENAMED: Final = {"ties": "walk.ties"}


class StoredBookmark:
    """An offset of this mode, read."""

    def __init__(self, offset: Offset | None, keys: BookmarkKeys):
        self.poll = 1
        self.kind = keys.value_type if keys.value_type in KINDS else ""
        self.bookmark: object = None
        self.initial: object = None
        #: `${last.<path>}`: fields of the record that the bookmark is of, and of the one
        #: with the largest value since.
        self.last: dict[str, object] = {}
        self.peak: dict[str, object] = {}
        self.high: object = None
        self.next: object = None
        self.cap: int | None = None
        #: The page size that the walk counts pages of, or 0.
        self.limit = 0
        #: "NONE" where a record was out of order in this poll.
        self.order = ""
        self.ties, self.seen = Ties(), Ties()
        #: The inner pager's part; empty at the beginning of a poll.
        self.walk: dict[str, Primitive] = {}
        if offset is None:
            return
        self.poll = whole(offset, "poll", 1, least=1)
        done = offset.get("done", False)
        if not isinstance(done, bool):
            raise StateError(f"the stored offset's done is {done!r}: not a bool")
        kind = text_in(offset, "kind")
        if kind and kind not in KINDS:
            raise StateError(f"the stored offset's kind is {kind!r}")
        self.kind = self.kind or kind
        self.bookmark = restored(offset.get("bookmark"), self.kind)
        self.initial = offset.get("initial")
        self.ties = Ties.read("ties", offset)
        self.last = fields_under("mark.", offset)
        names = {theirs: ours for ours, theirs in RENAMED.items()}
        walk = {
            names.get(name, name): value
            for name, value in offset.items()
            if name not in FIELDS
            and name not in COMMON
            and not name.startswith(("mark.", "peak."))
        }
        if done:
            self.poll += 1
            if walk:
                raise StateError(
                    f"the stored offset has {min(walk)!r} and was stored in another "
                    "http.offset.mode; reset the offset to start over"
                )
            return
        if walk and "cap" not in offset:
            # Nobody knows when its poll began: what changed on its pages since would be
            # below the bookmark.
            raise StateError(
                f"the stored offset stands at {min(walk)} in a poll that was begun in "
                "another http.offset.mode; reset the offset to start over"
            )
        self.walk = walk
        self.limit = whole(offset, "limit", 0)
        self.peak = fields_under("peak.", offset)
        self.seen = Ties.read("seen", offset)
        self.high = restored(offset.get("high"), self.kind)
        self.next = offset.get("next.position")
        self.order = text_in(offset, "order")
        if "cap" in offset:
            self.cap = whole(offset, "cap")

    def begin_anew(self) -> None:
        """The walk through the poll is forgotten, and not what it has delivered."""
        self.ties = self.ties.merged(self.seen, most=True)
        self.seen, self.walk = Ties(), {}
