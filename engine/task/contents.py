"""
Contents: what stands for what was produced of a record, in 64 bits.

Path: `task.diff` -> here; `build.transform` chooses
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xxhash import xxh3_64_intdigest

from engine.records import Encoded, Parcel, picked
from engine.task.snapshot import GONE

#: What stands for the content of a page's records.
Contents = Callable[[Parcel], list[int]]


def content_of(values: Sequence[Encoded | None]) -> list[int]:
    """What stands for each value in a row."""
    try:
        found = list(map(xxh3_64_intdigest, values))  # type: ignore[arg-type]
    except TypeError:
        found = [
            xxh3_64_intdigest(b"null\0" if each is None else each) for each in values
        ]
    if min(found, default=2) < 2:
        found = [each if each > GONE else each + 2 for each in found]
    return found


def contents_of_values(parcel: Parcel) -> list[int]:
    """What is produced of each record."""
    return content_of(parcel.values)


def contents_as_received(parcel: Parcel) -> list[int]:
    """
    What the API sent of each record, for rules that write another text each time.
    """
    page = parcel.page
    if parcel.added or parcel.indexes is None:
        return contents_of_values(parcel)
    records = page.records
    if page.parent is None:
        return content_of(picked(records, parcel.indexes))
    parent = bytes(page.parent)
    return content_of([parent + records[at] for at in parcel.indexes])
