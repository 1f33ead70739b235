"""
Tombstones: records by which an API says that something is gone.

Owns which records those are (`kafka.tombstone.condition`) and that each becomes a null
value under its key, in its place among the others.  The rules of the transformation do not
see them: such a record has an id and a reason, and nothing to map or to validate.

Path: ``task.build.transform`` -> here -> `compile`, `conditions`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from engine.errors import BadPage, RecordError
from engine.language import Path
from engine.language.faults import EvaluationError
from engine.language.values import decode
from engine.records import Page, Parcel
from engine.seams import Transform
from engine.transform.conditions import Condition, holds


class TombstoneTransform:
    """
    A transformation that makes tombstones of some records.

    Args:
        inner: For the other records.
        plain: Makes keys, topics and headers of those that are gone; no rules.
        condition: Holds for a record that says so.
        markers: One of these stands in any record for which it can hold; ():
            nothing is known of it.
        tolerant: One without a key is a dead letter (`errors.tolerance=all`).
    """

    def __init__(
        self,
        inner: Transform,
        plain: Transform,
        condition: Condition,
        *,
        markers: Sequence[bytes] = (),
        tolerant: bool = False,
    ):
        self._inner = inner
        self._plain = plain
        self._condition = condition
        self._markers = tuple(markers)
        self._tolerant = tolerant

    def __call__(self, page: Page) -> Parcel:
        """
        As `seams.Transform`.

        Raises: RecordError for one without a key, under `errors.tolerance=none`;
            BadPage for a record that cannot be read.
        """
        gone = [at for at, record in enumerate(page.records) if self._gone(record)]
        if not gone:
            return self._inner(page)
        among = set(gone)
        rest = [at for at in range(len(page.records)) if at not in among]
        others = _placed(self._inner(_part(page, rest)), page, rest)
        buried = self._plain(replace(_part(page, gone), deduplicated=0))
        return _merged(others, self._keyed(_placed(buried, page, gone)))

    def _gone(self, record: Raw) -> bool:
        if self._markers:
            raw = bytes(record)
            if not any(marker in raw for marker in self._markers):
                return False

        def look(path: Path) -> Any:
            return path.get(record)

        try:
            return holds(self._condition, _plainly(look))
        except EvaluationError as e:
            raise BadPage(f"kafka.tombstone.condition: {e}") from e

    def _keyed(self, parcel: Parcel) -> Parcel:
        """Null values; without a key one says nothing."""
        keys = parcel.keys or [None] * len(parcel.values)
        parcel = replace(parcel, values=[None] * len(parcel.values), lengths=None)
        if None not in keys:
            return parcel
        words = "a record says that something is gone, and kafka.key makes no key of it"
        if not self._tolerant:
            raise RecordError(words, stage="route", rule="kafka.key")
        return parcel.without_keyless(words)


def _plainly(look: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Values as the tests compare them."""

    def looked(path: Path) -> Any:
        found = look(path)
        return decode(bytes(found)) if isinstance(found, Raw) else found

    return looked


def _part(page: Page, places: Sequence[int]) -> Page:
    return replace(page, records=[page.records[at] for at in places])


def _placed(parcel: Parcel, page: Page, places: Sequence[int]) -> Parcel:
    """The parcel of a part of a page, as one of the page."""
    indexes = parcel.indexes or range(len(parcel.values))
    return replace(
        parcel,
        page=page,
        indexes=[places[at] for at in indexes],
        letters=[
            replace(letter, index=places[letter.index]) for letter in parcel.letters
        ],
        content=None,
        lengths=None,
        key_lengths=None,
    )


def _merged(one: Parcel, two: Parcel) -> Parcel:
    """Both, in the order of their page."""
    count = len(one.values)
    indexes = [*(one.indexes or ()), *(two.indexes or ())]
    order = sorted(range(len(indexes)), key=indexes.__getitem__)

    def column(name: str) -> Any:
        parts = [getattr(one, name), getattr(two, name)]
        if all(not isinstance(part, list | range) for part in parts) and (
            parts[0] == parts[1] or not count
        ):
            return parts[1]
        both: list[Any] = []
        for part, size in zip(parts, (count, len(two.values)), strict=True):
            both += part if isinstance(part, list | range) else [part] * size
        return [both[at] for at in order]

    values: list[Any] = [*one.values, *two.values]
    keys: list[Any] = [*(one.keys or [None] * count), *(two.keys or ())]
    return replace(
        one,
        topic=column("topic"),
        values=[values[at] for at in order],
        keys=[keys[at] for at in order],
        timestamps=column("timestamps"),
        headers=column("headers"),
        indexes=[indexes[at] for at in order],
        letters=sorted([*one.letters, *two.letters], key=lambda each: each.index),
        filtered=one.filtered + two.filtered,
        deduplicated=one.deduplicated + two.deduplicated,
        added=one.added + two.added,
    )
