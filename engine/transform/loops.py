"""
Loops: the generated loops of an api at work.

Owns how a loop is run over a slice, and which: the wide one takes records of
any types; the narrow one is made for the types that records were seen to
have, and leaves to the wide one what is different.  What neither takes is
left to `general`.

The wide loop is worth having beside the narrow one.  It costs a shard's start 5.0 ms
with twelve fields, 1.3 ms with three (CPU, a busy machine of two cores).  Without it
the first 200 records of twelve fields would take 13.7 ms instead of 2.8, so that it has
paid after about 100 records; and what a narrow loop leaves, up to one record in 16,
would cost 56 us each instead of 3.7, while the narrow loop takes 2.9.

Path: `compile` -> here; `typed` makes the loops
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from engine.language import EvaluationError
from engine.language.values import DEPTH, check_depth
from engine.transform.columns import Columns
from engine.transform.dedup import digest
from engine.transform.rules import ENCODER

Scope = dict[str, Any]

#: A place in the received record.
Place = tuple[str, ...]

#: The types that the values at some places have in every record.
Fit = Mapping[Place, frozenset[type]]

#: Records that go through the wide loop before a narrow one is made: what
#: polls less is done before it would have paid.
WARM = 200

#: Records that are looked at for it.
_SAMPLE: Final = 100

#: A narrow loop is made anew once it leaves more than one of so many records.
_MISFITS: Final = 16

#: Narrow loops made for one api; each takes more than the one before.
_FITTINGS: Final = 5

#: A page of which more than half was left to the general path is followed by
#: so many slices that go there at once.
_PAUSE: Final = 16

_DECODER: Final = msgspec.json.Decoder()


class Loop:
    """
    A generated loop, and what it was made for.

    Args:
        source: Its text, for people.
        body: The function.
        lines: Its outputs are still to be encoded as JSON.
        whole: They hold parts nobody has looked at.
        marked: De-duplication compares the whole output.
        alike: As in `Columns`.
    """

    def __init__(
        self,
        source: str,
        body: Callable[..., None],
        *,
        lines: bool,
        whole: bool,
        marked: bool,
        alike: bool,
    ):
        self.source = source
        self._body = body
        self._lines = lines
        self._whole = whole
        self._marked = marked
        self._alike = alike

    def run(
        self, records: Sequence[Raw], start: int, scope: Scope, made: Columns
    ) -> list[int]:
        """
        Transform a slice into columns without rows.

        Args:
            start: Place of the first record in its page.

        Returns: The places in the slice that it left, in order.
        """
        rest: list[int] = []
        self._body(records, start, scope, made, rest)
        made.alike = self._alike
        made.indexes = range(start, start + len(records))
        if rest or made.filtered:
            left = {start + place for place in rest}
            left.update(index for index, _ in made.filtered)
            made.indexes = [index for index in made.indexes if index not in left]
        if self._lines and made.values:
            made.values = _encoded(made.values)
        if self._marked:
            made.marks = [digest(bytes(value)) for value in made.values]
        if self._whole and self._lines:
            deep = set(_deep(made.values))
            if deep:
                rest = sorted([*rest, *(made.indexes[at] - start for at in deep)])
                made.keep([at for at in range(len(made.values)) if at not in deep])
        return rest


def _deep(values: list[bytes]) -> list[int]:
    """The places of records that may be nested deeper than a rule allows."""
    found = []
    for at, value in enumerate(values):
        if len(value) > 2 * DEPTH + 1:
            try:
                check_depth(value)
            except EvaluationError:
                found.append(at)
    return found


def _encoded(outputs: list[Any]) -> list[bytes]:
    """
    Many records' JSON at once.

    A line break can only come out of a part that was copied with its blanks;
    then each is encoded on its own.
    """
    parts: list[bytes] = ENCODER.encode_lines(outputs).split(b"\n")
    if len(parts) == len(outputs) + 1:
        parts.pop()
        return parts
    return list(map(ENCODER.encode, outputs))


class Typed:
    """
    The loops of an api.

    Args:
        wide: For records of any types.
        places: What it reads of a record and decodes.
        fitting: Makes the narrow loop for types, None: they say nothing.
    """

    def __init__(
        self,
        wide: Loop,
        places: Sequence[Place],
        fitting: Callable[[Fit], Loop | None],
    ):
        self._wide = wide
        self._narrow: Loop | None = None
        self._fitting = fitting
        self._fittings = _FITTINGS if places else 0
        self._seen: dict[Place, set[type]] = {place: set() for place in places}
        self._cold = WARM
        self._pause = 0

    @property
    def narrow(self) -> bool:
        """Is there a narrow loop now?"""
        return self._narrow is not None

    def run(
        self, records: Sequence[Raw], start: int, scope: Scope, made: Columns
    ) -> list[int]:
        """
        Transform a slice into columns without rows; they may be out of order
        if records are left.

        Args:
            start: Place of the first record in its page.

        Returns: The places in the slice that are left to the general path, in
        order.
        """
        if self._pause:
            self._pause -= 1
            return list(range(len(records)))
        if self._narrow is None:
            rest = self._wide.run(records, start, scope, made)
            self._cold -= len(records)
            if self._cold <= 0 and self._fittings:
                self._fit(records)
        else:
            rest = self._narrow.run(records, start, scope, made)
            if rest:
                misfits = [records[place] for place in rest]
                if len(rest) * _MISFITS > len(records):
                    self._fit(misfits)
                rest = self._take(misfits, rest, start, scope, made)
        if len(rest) * 2 > len(records):
            self._pause = _PAUSE
        return rest

    def _take(
        self,
        misfits: Sequence[Raw],
        places: list[int],
        start: int,
        scope: Scope,
        made: Columns,
    ) -> list[int]:
        """What the narrow loop left, by the wide one; still left in the end."""
        taken = made.empty()
        rest = self._wide.run(misfits, 0, scope, taken)
        taken.indexes = [start + places[at] for at in taken.indexes]
        taken.filtered = [(start + places[at], rule) for at, rule in taken.filtered]
        made.extend(taken)
        made.sort()
        return [places[at] for at in rest]

    def _fit(self, records: Sequence[Raw]) -> None:
        """A narrow loop for all types that were seen, or none."""
        for record in records[:_SAMPLE]:
            try:
                row = _DECODER.decode(record)
            except (msgspec.MsgspecError, UnicodeError, ValueError, RecursionError):
                continue
            for place, types in self._seen.items():
                value = row
                for name in place:
                    value = value.get(name) if type(value) is dict else None
                types.add(type(value))
        fit = {place: frozenset(types) for place, types in self._seen.items()}
        self._fittings -= 1
        self._narrow = self._fitting(fit) if self._fittings else None
        if self._narrow is None:
            self._fittings = 0
