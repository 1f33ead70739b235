"""
Received: which fields of a record a generated loop reads, and how it gets them.

Owns the decoded type of a record, field by field, and the lines that take them out.

Path: `lines` -> here -> `called`, `engine.language`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import NODEFAULT, Raw

from engine.language import MISSING, Path
from engine.language.paths import Step, Token
from engine.transform.called import ABSENT, with_values
from engine.transform.convert import Converter, JsonKey, TextKey
from engine.transform.loops import Fit, Place
from engine.transform.route import RecordRouter
from engine.transform.rules import FieldMapping, Rules, top

#: A field's decoded type by what is asked of it.
_ANY: Final = Any


_DOUBLE: Final = int | float | str | bool | None | dict[str, Any] | list[Any]


#: The types that a decoder can hold a place to.
_FITTING: Final = frozenset({str, int, bool, float})


#: Each row counts in exactly one of these, so that no counter is needed.
PLACE: Final = "len(values) + len(gone) + len(rest)"


class NotTyped(Exception):
    """These rules are for the general path."""


class Leaf:
    """
    A place in the received record that is read.

    Attributes:
        kinds: What is asked of it: "raw", "value", "double" (a number it is
            may be rounded) or "python" (the same, but an integer stays one).
        number: For the names of its variables.
        nested: Fields read within it, if it is decoded as a type of its own.
        place: Where it stands.
        fitted: The type it has in every record, or None: any, or missing.
        shown: Is its value written as text somewhere?  Then a -0 must not
            become 0.
    """

    __slots__ = ("fitted", "kinds", "nested", "number", "place", "shown")

    def __init__(self, number: int, place: Place):
        self.kinds: set[str] = set()
        self.nested: dict[str, Leaf] = {}
        self.number = number
        self.place = place
        self.fitted: type | None = None
        self.shown = False

    @property
    def raw(self) -> bool:
        """Is it kept unread?"""
        return "raw" in self.kinds or (bool(self.kinds) and bool(self.nested))

    def fit(self, types: frozenset[type]) -> None:
        """Take what is known of the types that its values have."""
        if self.nested and types == {dict}:
            self.fitted = dict
        elif self.kinds == {"double"} and types and types <= {int, float}:
            self.fitted = float
        elif len(types) == 1 and types <= _FITTING and types != {float}:
            (self.fitted,) = types


class Received:
    """
    Collects what a loop needs: first the fields, then its lines.

    The same walk over the rules is made twice: once to learn what is asked of
    each field, once, when its type is settled, to write the lines.
    """

    def __init__(
        self,
        rules: Rules,
        routes: RecordRouter,
        values: Converter,
        keys: TextKey | JsonKey,
        marks: Sequence[Path] | None,
        fit: Fit | None,
        decoded: Callable[[bytes], Any],
    ):
        if values.values:
            rules = with_values(rules, decoded)
        self.rules = rules
        self.routes = routes
        self.converter = values
        self.keys = keys
        self.marks = marks
        self.fit = fit
        self.decoded = decoded
        #: All outputs are dicts of the same names and types.
        self.alike = False
        #: Variable -> its type, where that is known.
        self.types: dict[str, type | None] = {}
        #: The whole record is kept: it is decoded as a dict of `Raw`.
        self.whole = bool(rules.keep if rules.mappings else rules.enrichment)
        #: The record goes out as it came.
        self.untouched = not rules.mappings and not rules.enrichment
        self.fields: dict[str, Leaf] = {}
        self.leaves = 0
        self.names: dict[str, Any] = {}
        self.lines: list[str] = []
        self.writing = False
        self.temporaries = 0
        self.constants = 0
        #: Target -> variable that holds it, and the mapping it is a copy by.
        self.outputs: dict[tuple[str, ...], tuple[str, FieldMapping | None]] = {}

    def const(self, value: Any) -> str:
        """A value out of the configuration, under a number."""
        name = f"c{self.constants}"
        self.constants += 1
        if self.writing:
            self.names[name] = value
        return name

    def fresh(self) -> str:
        name = f"t{self.temporaries}"
        self.temporaries += 1
        return name

    def emit(self, line: str) -> None:
        if self.writing:
            self.lines.append(line)

    # -- fields of the received record

    def received(self, path: Path, kind: str) -> str:
        """
        An expression for a field as received; MISSING if it is not there.

        Args:
            kind: As in `_Leaf`, or "shown": a value that will be text.
        """
        shown, kind = kind == "shown", "value" if kind == "shown" else kind
        name = top(path)
        if name is None:
            raise NotTyped
        leaf = self._leaf(self.fields, name, ())
        steps = list(path.steps[1:])
        while steps and not self.whole and isinstance(steps[0], (str, Token)):
            first = steps[0]
            if isinstance(first, Token) and first.index is not None:
                break
            if self.writing and leaf.raw:
                break
            inner = first if isinstance(first, str) else first.text
            leaf = self._leaf(leaf.nested, inner, leaf.place)
            steps.pop(0)
        if steps:
            # The way on through `Raw` is the general one: arrays, indexes.
            leaf.kinds.add("raw")
            get = self.const(rest_of(steps).get)
            found = f"{get}(present(v{leaf.number}))"
            return f"plain({found})" if kind in ("value", "double") else found
        leaf.kinds.add(kind)
        leaf.shown |= shown
        if kind == "raw":
            return f"present(v{leaf.number})" if self._is_raw(leaf) else self._v(leaf)
        return f"w{leaf.number}" if self._is_raw(leaf) else self._v(leaf)

    def _leaf(self, within: dict[str, Leaf], name: str, place: Place) -> Leaf:
        if name not in within:
            if self.writing:
                raise NotTyped
            within[name] = Leaf(self.leaves, (*place, name))
            self.leaves += 1
        return within[name]

    def _is_raw(self, leaf: Leaf) -> bool:
        return self.whole or leaf.raw

    def _v(self, leaf: Leaf) -> str:
        return f"v{leaf.number}"

    def settle(self) -> None:
        """After the first walk: a field both read and read into stays `Raw`."""
        for leaf in self.all_leaves():
            if leaf.kinds and leaf.nested:
                leaf.kinds.add("raw")
                leaf.nested.clear()
            if self.fit is not None and not self._is_raw(leaf):
                leaf.fit(self.fit.get(leaf.place, frozenset()))

    def all_leaves(self) -> Iterator[Leaf]:
        """Every leaf, those it holds behind it."""
        rest = list(self.fields.values())
        while rest:
            leaf = rest.pop()
            yield leaf
            rest.extend(leaf.nested.values())

    @property
    def places(self) -> list[Place]:
        """What is read and could be held to a type."""
        return [leaf.place for leaf in self.all_leaves() if not self._is_raw(leaf)]

    def type_of(self, leaf: Leaf) -> tuple[Any, Any]:
        """A field's type in the decoded struct, and what stands for missing."""
        if leaf.nested:
            struct = self.struct_of(leaf.nested, f"n{leaf.number}")
            return (struct, NODEFAULT) if leaf.fitted else (struct | None, MISSING)
        if leaf.raw:
            return Raw, ABSENT
        if leaf.fitted is not None:
            return leaf.fitted, NODEFAULT
        return (_DOUBLE if leaf.kinds <= {"double", "python"} else _ANY), MISSING

    def struct_of(self, fields: dict[str, Leaf], name: str) -> Any:
        struct = struct_of(
            "Received",
            [(f"f{leaf.number}", *self.type_of(leaf)) for leaf in fields.values()],
            {f"f{leaf.number}": json_name for json_name, leaf in fields.items()},
            kw_only=True,
        )
        self.names[f"s{name}"] = struct
        return struct

    def reading(self) -> list[str]:
        """The lines that take the fields out of the decoded record."""
        lines: list[str] = []

        def visit(leaf: Leaf) -> None:
            for inner in leaf.nested.values():
                missing = "ABSENT" if inner.raw else "MISSING"
                line = f"v{inner.number} = v{leaf.number}.f{inner.number}"
                if leaf.fitted is None:
                    line += (
                        f" if type(v{leaf.number}) is sn{leaf.number} else {missing}"
                    )
                lines.append(line)
                after(inner)

        def after(leaf: Leaf) -> None:
            if self._is_raw(leaf) and leaf.kinds - {"raw"}:
                lines.append(
                    f"w{leaf.number} = loads(v{leaf.number})"
                    f" if v{leaf.number} is not ABSENT else MISSING"
                )
            if leaf.shown and leaf.fitted in (None, int):
                value = f"w{leaf.number}" if self._is_raw(leaf) else f"v{leaf.number}"
                known = "" if leaf.fitted else f" and type({value}) is int"
                lines.append(f"if not {value}{known}: signed(records[{PLACE}])")
            visit(leaf)

        for name, leaf in self.fields.items():
            if self.whole:
                known = self.const(name)
                lines.append(f"v{leaf.number} = get({known}, ABSENT)")
            else:
                lines.append(f"v{leaf.number} = row.f{leaf.number}")
            after(leaf)
        return lines


def rest_of(steps: list[Step]) -> Path:
    return Path("", tuple(steps))


def struct_of(
    name: str,
    fields: list[tuple[str, Any, Any]],
    rename: dict[str, str],
    *,
    kw_only: bool = False,
) -> Any:
    try:
        return msgspec.defstruct(name, fields, rename=rename, gc=False, kw_only=kw_only)
    except ValueError as e:
        # A name with a quote, a backslash or a control character.
        raise NotTyped from e
