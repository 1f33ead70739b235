"""
Typed: the rules of an api as a generated loop over typed records.

Owns which rules it can do, the two generated types (one decodes only the
fields that are needed, one is what is encoded) and the loop between them.
It is an optimism, never a second meaning: wherever a value is not of the
common kind, or anything at all raises, the record is left to `general`.
Where it is told the types that records have, the decoder holds them to these
and the loop need not ask again.

The loop is built from the fixed lines below, in which only numbered names
are put; whatever comes out of a configuration stands in its namespace, as a
value.

Path: `compile` -> here -> `loops`, `rules`, `route`
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, DecimalException
from types import CodeType, FunctionType
from typing import Any, Final

import msgspec
from msgspec import NODEFAULT, UNSET, Raw
from msgspec.structs import replace

from engine.errors import RecordError
from engine.language import MISSING, EvaluationError, Path, Template, plain
from engine.language.paths import Step, Token
from engine.language.templates import (
    Answer,
    Call,
    Chain,
    Const,
    Expression,
    Moment,
    Name,
    Node,
    Unary,
    answer,
    children,
    lookup_in,
)
from engine.language.times import parse_text
from engine.language.values import (
    DEPTH,
    MINUS_ZERO,
    as_integer,
    check_depth,
    encode,
    settle,
    text_of,
)
from engine.transform.conditions import (
    Condition,
    Field,
    Group,
    Negation,
    fields_of,
)
from engine.transform.convert import Converter, JsonKey, TextKey
from engine.transform.dedup import digest
from engine.transform.loops import Fit, Loop, Place, Typed
from engine.transform.route import Routes, single, varies
from engine.transform.rules import NULL, FieldMapping, Rules, top

#: Stands for a field that is not there among `Raw`s; as long as null, so that
#: one look at the length finds both.
ABSENT: Final = Raw(b"    ")

#: What sends a record to the general path.
REDO: Final = (
    EvaluationError,
    RecordError,
    msgspec.MsgspecError,
    ArithmeticError,
    AttributeError,
    TypeError,
    ValueError,
    RecursionError,
    DecimalException,
)

#: A field's decoded type by what is asked of it.
_ANY: Final = Any
_DOUBLE: Final = int | float | str | bool | None | dict[str, Any] | list[Any]

#: What may hold text that nobody has read.
_UNREAD: Final = frozenset({Raw, dict, list})

#: The types that a decoder can hold a place to.
_FITTING: Final = frozenset({str, int, bool, float})

#: More rules than this are for the general path: the loop would take longer
#: to compile than it could save.
_MOST: Final = 1000


class Redo(ValueError):
    """This record is not of the common kind."""


class _NotTyped(Exception):
    """These rules are for the general path."""


def _scalar(value: Any) -> Any:
    kind = type(value)
    if kind is dict or kind is list:
        raise Redo
    return value


def _no_double(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A test of a field decoded as a double: the text behind it is gone."""

    def checked(value: Any) -> bool:
        if type(value) is float:
            raise Redo
        return test(_scalar(value))

    return checked


def _checked(test: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: test(_scalar(value))


def _present(value: Any) -> Any:
    return MISSING if value is ABSENT else value


def _copying(mapping: FieldMapping, limit: int) -> Callable[[Any], Any]:
    """An untyped copy of a `Raw` that is null, missing, or long."""
    apply = mapping.apply

    def copied(value: Any) -> Any:
        value = apply(MISSING if value is ABSENT else value)
        if type(value) is Raw:
            check_depth(bytes(value), limit)
        elif type(value) is list:
            check_depth(encode(value), limit)
        return value

    return copied


def _casting(mapping: FieldMapping) -> Callable[[Any], Any]:
    apply = mapping.apply

    def cast(value: Any) -> Any:
        kind = type(value)
        if kind is dict or kind is list:
            raise Redo
        return apply(MISSING if value is ABSENT else value)

    return cast


class _Leaf:
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
        self.nested: dict[str, _Leaf] = {}
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


class _Builder:
    """
    Collects what a loop needs: first the fields, then its lines.

    The same walk over the rules is made twice: once to learn what is asked of
    each field, once, when its type is settled, to write the lines.
    """

    def __init__(
        self,
        rules: Rules,
        routes: Routes,
        values: Converter,
        keys: TextKey | JsonKey,
        marks: Sequence[Path] | None,
        fit: Fit | None,
        decoded: Callable[[bytes], Any],
    ):
        if values.values:
            rules = _with_values(rules, decoded)
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
        self.fields: dict[str, _Leaf] = {}
        self.leaves = 0
        self.names: dict[str, Any] = {}
        self.lines: list[str] = []
        self.writing = False
        self.temporaries = 0
        self.constants = 0
        #: Target -> variable that holds it, and the mapping it is a copy by.
        self.outputs: dict[tuple[str, ...], tuple[str, FieldMapping | None]] = {}

    # -- names of the generated code

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
            raise _NotTyped
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
            get = self.const(_rest(steps).get)
            found = f"{get}(present(v{leaf.number}))"
            return f"plain({found})" if kind in ("value", "double") else found
        leaf.kinds.add(kind)
        leaf.shown |= shown
        if kind == "raw":
            return f"present(v{leaf.number})" if self._is_raw(leaf) else self._v(leaf)
        return f"w{leaf.number}" if self._is_raw(leaf) else self._v(leaf)

    def _leaf(self, within: dict[str, _Leaf], name: str, place: Place) -> _Leaf:
        if name not in within:
            if self.writing:
                raise _NotTyped
            within[name] = _Leaf(self.leaves, (*place, name))
            self.leaves += 1
        return within[name]

    def _is_raw(self, leaf: _Leaf) -> bool:
        return self.whole or leaf.raw

    def _v(self, leaf: _Leaf) -> str:
        return f"v{leaf.number}"

    def settle(self) -> None:
        """After the first walk: a field both read and read into stays `Raw`."""
        for leaf in self.all_leaves():
            if leaf.kinds and leaf.nested:
                leaf.kinds.add("raw")
                leaf.nested.clear()
            if self.fit is not None and not self._is_raw(leaf):
                leaf.fit(self.fit.get(leaf.place, frozenset()))

    def all_leaves(self) -> Iterator[_Leaf]:
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

    def type_of(self, leaf: _Leaf) -> tuple[Any, Any]:
        """A field's type in the decoded struct, and what stands for missing."""
        if leaf.nested:
            struct = self._struct(leaf.nested, f"n{leaf.number}")
            return (struct, NODEFAULT) if leaf.fitted else (struct | None, MISSING)
        if leaf.raw:
            return Raw, ABSENT
        if leaf.fitted is not None:
            return leaf.fitted, NODEFAULT
        return (_DOUBLE if leaf.kinds <= {"double", "python"} else _ANY), MISSING

    def _struct(self, fields: dict[str, _Leaf], name: str) -> Any:
        struct = _struct(
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

        def visit(leaf: _Leaf) -> None:
            for inner in leaf.nested.values():
                missing = "ABSENT" if inner.raw else "MISSING"
                line = f"v{inner.number} = v{leaf.number}.f{inner.number}"
                if leaf.fitted is None:
                    line += (
                        f" if type(v{leaf.number}) is sn{leaf.number} else {missing}"
                    )
                lines.append(line)
                after(inner)

        def after(leaf: _Leaf) -> None:
            if self._is_raw(leaf) and leaf.kinds - {"raw"}:
                lines.append(
                    f"w{leaf.number} = loads(v{leaf.number})"
                    f" if v{leaf.number} is not ABSENT else MISSING"
                )
            if leaf.shown and leaf.fitted in (None, int):
                value = f"w{leaf.number}" if self._is_raw(leaf) else f"v{leaf.number}"
                known = "" if leaf.fitted else f" and type({value}) is int"
                lines.append(f"if not {value}{known}: signed(records[{_PLACE}])")
            visit(leaf)

        for name, leaf in self.fields.items():
            if self.whole:
                known = self.const(name)
                lines.append(f"v{leaf.number} = get({known}, ABSENT)")
            else:
                lines.append(f"v{leaf.number} = row.f{leaf.number}")
            after(leaf)
        return lines

    # -- fields of the record as it now is

    def look(self, path: Path, kind: str) -> str:
        """A field: as the record now is, then as received."""
        if not path.steps:
            raise _NotTyped
        names = path.names
        first = top(path)
        if first is None:
            raise _NotTyped
        for target, (variable, copied) in self.outputs.items():
            if target[0] != first:
                continue
            if names == target:
                received = self.received(path, kind)
                if copied is not None and kind != "raw":
                    now = self.received(
                        copied.source, "shown" if kind == "shown" else "value"
                    )
                else:
                    now = variable
                if self.types.get(variable) is not None:
                    return now
                found = self.fresh()
                self.emit(f"{found} = {now} if {variable} is not UNSET else {received}")
                return found
            known = [step for step in path.steps[: len(target)]]
            if known == list(target) and len(path.steps) > len(target):
                inner = self.const(_rest(list(path.steps[len(target) :])).get)
                received = self.received(path, "raw")
                found = self.fresh()
                self.emit(
                    f"{found} = {inner}({variable})"
                    f" if {variable} is not UNSET else MISSING"
                )
                self.emit(f"if {found} is MISSING: {found} = {received}")
                return found if kind == "raw" else f"plain({found})"
            if len(target) > 1:
                # An object being built, or a path through one.
                raise _NotTyped
        return self.received(path, kind)

    # -- the rules

    def walk(self) -> None:
        """Every rule, in order."""
        self.outputs = {}
        self.temporaries = self.constants = 0
        self.types = {
            self._v(leaf): leaf.fitted
            for leaf in self.all_leaves()
            if leaf.fitted is not dict
        }
        for at, mapping in enumerate(self.rules.mappings):
            self._map(at, mapping)
        for at, rule in enumerate(self.rules.enrichment):
            self._enrich(at, rule.target, rule.constant, rule.template)
        for name, condition in self.rules.filters:
            test = self._condition(condition)
            named = self.const(name)
            self.emit(f"if not {test}:")
            self.emit(f"    filtered((start + {_PLACE}, {named}))")
            self.emit("    continue")
        for _, check in self.rules.checks:
            value = self.look(check.path, "raw")
            failed = self.const(check.failed)
            self.emit(f"if {failed}({value}) is not None: raise Redo")
        self._route()
        self._finish()

    def _map(self, at: int, mapping: FieldMapping) -> None:
        if not mapping.target:
            raise _NotTyped
        out = f"o{at}"
        python = self.converter.values
        copied = mapping if mapping.kind is None else None
        if mapping.kind in (None, "OBJECT", "ARRAY"):
            kind = "python" if python and not self.converter.exact else "raw"
            if python and (mapping.kind is not None or self.converter.exact):
                raise _NotTyped
            source = self.received(mapping.source, kind)
            if python:
                apply = self.const(_decoding(mapping, self.decoded))
                self.emit(f"{out} = {source}")
                self.types[out] = self.types.get(source)
                if self.types[out] is None:
                    self.emit(f"kind = type({out})")
                    self.emit(
                        f"if kind is not str and kind is not int"
                        f" and kind is not float: {out} = {apply}({out})"
                    )
            elif mapping.kind is None and source.startswith("present(v"):
                # Hot path: a copy nobody looks at but for its length, which
                # finds null and missing (4) and what could be nested deep.
                depth = DEPTH - len(mapping.target)
                apply = self.const(_copying(mapping, depth))
                self.emit(f"{out} = {source[8:-1]}")
                self.emit(f"size = len({out})")
                self.emit(
                    f"if size == 4 or size > {2 * depth + 1}: {out} = {apply}({out})"
                )
            else:
                depth = DEPTH - len(mapping.target)
                apply = self.const(_copying(mapping, depth))
                self.emit(f"{out} = {apply}({source})")
        else:
            kind = "PATTERN" if mapping.patterned else mapping.kind or ""
            asked = {"DOUBLE": "double", "STRING": "shown", "PATTERN": "shown"}
            source = self.received(mapping.source, asked.get(kind, "value"))
            apply = self.const(_casting(mapping))
            self.emit(f"{out} = {source}")
            lines = _SHORTCUTS[kind]
            known = self.types.get(source)
            if known is not None:
                lines, self.types[out] = _FITTED.get((kind, known), (lines, None))
            for line in lines:
                self.emit(line.format(out=out, apply=apply))
        # With a default a field that is there need not be the source's.
        shared = copied if mapping.default is MISSING else None
        self.outputs[mapping.target] = (out, shared)

    def _enrich(
        self,
        at: int,
        target: tuple[str, ...],
        constant: Any,
        template: Template | None,
    ) -> None:
        out = f"e{at}"
        value = self.const(constant) if template is None else self._value(template)
        self.types[out] = self.types.get(value)
        if template is None and type(constant) in (str, int, bool):
            self.types[out] = type(constant)
        if self.converter.values and template and self.types[out] is None:
            value = f"decoding({value})"
        if self.whole:
            if len(target) > 1 or self.converter.values:
                raise _NotTyped
        else:
            for other in self.outputs:
                if other[0] == target[0] and other != target:
                    raise _NotTyped
            if target in self.outputs:
                # Replaced in its place; if nothing stood there it would come
                # last, which the generated type cannot say.
                before = self.outputs[target][0]
                if self.types.get(before) is None:
                    self.emit(f"if {before} is UNSET: raise Redo")
        self.emit(f"{out} = {value}")
        self.outputs[target] = (out, None)

    def _value(self, template: Template) -> str:
        """An expression for a template's value."""
        only = template.parts[0]
        if template.lone and isinstance(only, Expression):
            node = only.node
            if isinstance(node, Name) and node.key == "record":
                found = self.look(node.path, "raw")
                return f"settled({found})"
        if template.constant:
            return self.const(template.literal)
        if template.lone:
            assert isinstance(only, Expression)
            value = self._plain(only.node)
            return f"settle({value})" if self.types.get(value) is None else value
        pieces = []
        for part in template.parts:
            if isinstance(part, str):
                pieces.append(self.const(part))
                self.types[pieces[-1]] = str
            else:
                pieces.append(self._text(part.node))
        joined = self.fresh()
        line = f"{joined} = {' + '.join(pieces)}"
        absent = [piece for piece in pieces if self.types.get(piece) is not str]
        if absent:
            nothing = " or ".join(f"{piece} is None" for piece in absent)
            line = f"{joined} = None if {nothing} else {' + '.join(pieces)}"
        self.types[joined] = None if absent else str
        self.emit(line)
        return joined

    def _text(self, node: Node) -> str:
        """A variable with a node's value as text, None for null."""
        if isinstance(node, Name) and node.key == "record":
            # As written: a number that is only shown is not computed with.
            value = self.look(node.path, "shown")
            shown = "text(scalar({}))"
        else:
            value = self._plain(node)
            shown = "text({})"
        known = self.types.get(value)
        if known is str:
            return value
        found = self.fresh()
        if known is int:
            self.emit(f"{found} = str({value})")
        else:
            self.emit(f"{found} = {value}")
            self.emit(f"if type({found}) is not str: {found} = {shown.format(found)}")
        self.types[found] = str if known is int else None
        return found

    def _plain(self, node: Node) -> str:
        """A variable or constant with a node's plain value, or MISSING."""
        match node:
            case Const(value):
                return self.const(value)
            case Name("record", path):
                value = self.look(path, "shown")
                if self.types.get(value) in (str, int, bool):
                    return value
                found = self.fresh()
                self.emit(f"{found} = {value}")
                self.emit(
                    f"if type({found}) is not str: {found} = plain(scalar({found}))"
                )
                return found
            case Call(function, items):
                values = [self._plain(item) for item in items]
                found = self.fresh()
                apply = self.const(function.apply)
                call = f"{apply}({', '.join(values)})"
                method = _METHODS.get(function.name)
                if method is not None:
                    short = f"{values[0]}.{method}()"
                    if self.types.get(values[0]) is str:
                        call, self.types[found] = short, str
                    else:
                        call = f"{short} if type({values[0]}) is str else {call}"
                self.emit(f"{found} = {call}")
                return found
            case Chain(first, rest):
                value = self._plain(first)
                for operator, item in rest:
                    other = self._plain(item)
                    found = self.fresh()
                    self.emit(f"{found} = {self.const(operator)}({value}, {other})")
                    value = found
                return value
            case Unary(function, item):
                found = self.fresh()
                inner = self._plain(item)
                self.emit(f"{found} = {self.const(function)}({inner})")
                return found
        return self._closure(node)

    def _closure(self, node: Node) -> str:
        """The rest of the nodes, which do not look at every value they hold."""
        paths: list[Path] = []
        rest = [node]
        while rest:
            each = rest.pop()
            if isinstance(each, Name) and each.key == "record":
                paths.append(each.path)
            rest.extend(children(each))
        looked = [f"scalar({self.look(path, 'shown')})" for path in paths]
        order = {id(path): place for place, path in enumerate(paths, 1)}
        usual = lookup_in(self.routes.zone)

        def lookup(name: Name | Moment) -> Answer:
            if isinstance(name, Name) and name.key == "record":
                place = order[id(name.path)]
                return lambda scope: scope[place]
            of_page = usual(name)
            return lambda scope: of_page(scope[0])

        call = self.const(answer(node, lookup))
        found = self.fresh()
        self.emit(f"{found} = plain({call}([scope, {', '.join(looked)}]))")
        return found

    # -- conditions

    def _condition(self, condition: Condition) -> str:
        match condition:
            case Field():
                return self._field(condition)
            case Group(every, items):
                joined = " and " if every else " or "
                return "(" + joined.join(self._condition(item) for item in items) + ")"
            case Negation(item):
                return f"(not {self._condition(item)})"

    def _field(self, field: Field) -> str:
        operator, rule = field.operator, field.rule
        if operator in ("EXISTS", "NOT_EXISTS"):
            value = self.look(field.path, "raw")
            return f"({value} is {'not ' if operator == 'EXISTS' else ''}MISSING)"
        if operator in ("CONTAINS", "NOT_CONTAINS"):
            value = self.look(field.path, "raw")
            return f"{self.const(field.test)}({value})"
        mark = _ORDERS.get(operator)
        if mark is not None:
            bound = _number(rule["value"])
            if bound is not None:
                return self._ordered(field, mark, bound)
        value = self.look(field.path, "shown" if operator == "MATCHES" else "value")
        test = self.const(_checked(field.test))
        known = rule.get("value")
        if operator in ("EQUALS", "NOT_EQUALS"):
            sign = "==" if operator == "EQUALS" else "!="
            kind = {str: "str", int: "int", bool: "bool"}.get(type(known))
            if kind is not None:
                constant = self.const(known)
                value = self._once(value)
                if self.types.get(value) is type(known):
                    return f"({value} {sign} {constant})"
                return (
                    f"({value} {sign} {constant} if type({value}) is {kind}"
                    f" else {test}({value}))"
                )
        if operator in ("IN", "NOT_IN"):
            kinds = {type(each) for each in rule["values"]}
            if kinds in ({str}, {int}):
                among = "in" if operator == "IN" else "not in"
                constant = self.const(frozenset(rule["values"]))
                value = self._once(value)
                kind = "str" if kinds == {str} else "int"
                if self.types.get(value) in kinds:
                    return f"({value} {among} {constant})"
                return (
                    f"({value} {among} {constant} if type({value}) is {kind}"
                    f" else {test}({value}))"
                )
        return f"{test}({value})"

    def _ordered(self, field: Field, mark: str, bound: int | Decimal) -> str:
        names = field.path.names
        received = names not in self.outputs
        value = self._once(self.look(field.path, "double" if received else "value"))
        whole = self.const(bound)
        near = self.const(float(bound))
        test = self.const(_no_double(field.test) if received else _checked(field.test))
        known = self.types.get(value)
        if known is int:
            return f"({value} {mark} {whole})"
        # Rounding keeps order: two doubles that differ tell the order of the
        # numbers they stand for; two that are equal do not.
        if known is float:
            return f"({value} {mark} {near} if {value} != {near} else {test}({value}))"
        return (
            f"({value} {mark} {whole} if type({value}) is int else"
            f" {value} {mark} {near} if type({value}) is float"
            f" and {value} != {near} else {test}({value}))"
        )

    def _once(self, value: str) -> str:
        """A variable for an expression that is used more than once."""
        if re.fullmatch(r"[vwote][0-9]+", value):
            return value
        name = self.fresh()
        self.emit(f"{name} = {value}")
        return name

    # -- topic, key, timestamp, headers, marks

    def _route(self) -> None:
        routes = self.routes
        if varies(routes.topic):
            topic = self.const(routes.topic_from)
            self.emit(f"topic = {topic}({self._value(routes.topic)})")
        if routes.key is not None:
            self._key(routes.key)
        if routes.timestamp is not None and varies(routes.timestamp):
            stamp = self.const(routes.timestamp_from)
            value = self._value(routes.timestamp)
            self.emit(f"stamp = {stamp}({value}, now)")
        if any(varies(template) for _, template in routes.headers):
            headers = self.const(routes.headers_from)
            found = ", ".join(self._value(template) for _, template in routes.headers)
            self.emit(f"header = {headers}([{found}])")
        if self.marks:
            found = ", ".join(self.look(path, "raw") for path in self.marks)
            self.emit(f"mark = marked([{found}])")

    def _key(self, template: Template) -> None:
        only = template.parts[0]
        lone = (
            isinstance(only, Expression)
            and template.lone
            and isinstance(only.node, Name)
            and only.node.key == "record"
        )
        if isinstance(self.keys, JsonKey):
            self.emit(f"key = single({self._value(template)})")
            return
        if lone:
            assert isinstance(only, Expression) and isinstance(only.node, Name)
            value = self._once(self.look(only.node.path, "shown"))
        else:
            value = self._once(self._value(template))
        one = self.const(_keyed(self.keys))
        known = self.types.get(value)
        if known in (str, int):
            short = f"{value}.encode()" if known is str else f"INTEGER % {value}"
            self.emit(f"key = {short}")
            return
        self.emit(
            f"key = {value}.encode() if type({value}) is str else"
            f" INTEGER % {value} if type({value}) is int else {one}({value})"
        )

    # -- the record that goes out

    def _finish(self) -> None:
        if self.untouched:
            self.emit("value(decoded(raw))" if self.converter.values else "value(raw)")
        elif self.whole:
            self._finish_whole()
        elif self.converter.values:
            self._finish_python()
        else:
            self._finish_struct()
        if varies(self.routes.topic):
            self.emit("topics(topic)")
        if self.routes.key is not None:
            self.emit("keys(key)")
        if varies(self.routes.timestamp):
            self.emit("stamps(stamp)")
        if any(varies(template) for _, template in self.routes.headers):
            self.emit("headers(header)")
        if self.marks:
            self.emit("marks(mark)")

    def _finish_whole(self) -> None:
        """A dict of what there was, with what was set put into it."""
        if self.rules.mappings:
            self.emit("out = {}")
            if any(len(target) > 1 for target in self.outputs):
                raise _NotTyped
            for target, (variable, _) in list(self.outputs.items()):
                if variable.startswith("o"):
                    name = self.const(target[0])
                    self.emit(f"if {variable} is not UNSET: out[{name}] = {variable}")
            read = self.const(self.rules.read)
            self.emit("for name, each in row.items():")
            self.emit(f"    if name not in {read} and name not in out:")
            self.emit("        out[name] = each")
            replaced = {
                target: f"o{at}"
                for at, target in enumerate(m.target for m in self.rules.mappings)
            }
            for at, rule in enumerate(self.rules.enrichment):
                if rule.target in replaced:
                    raise _NotTyped
                name = self.const(rule.target[0])
                self.emit(f"out[{name}] = e{at}")
        else:
            self.emit("out = row")
            for at, rule in enumerate(self.rules.enrichment):
                name = self.const(rule.target[0])
                self.emit(f"out[{name}] = e{at}")
        self.emit("value(out)")

    def _tree(self) -> dict[str, Any]:
        """The outputs as nested dicts of variables, in order."""
        tree: dict[str, Any] = {}
        for target, (variable, _) in self.outputs.items():
            node = tree
            for step in target[:-1]:
                node = node.setdefault(step, {})
            node[target[-1]] = variable
        return tree

    def _finish_struct(self) -> None:
        counter = iter(range(1_000_000))

        def build(tree: dict[str, Any]) -> str:
            arguments = []
            for each in tree.values():
                if isinstance(each, dict):
                    inner = build(each)
                    held = f"i{next(counter)}"
                    leaves = _leaves(each)
                    nothing = " and ".join(f"{leaf} is UNSET" for leaf in leaves)
                    if any(self.types.get(leaf) is not None for leaf in leaves):
                        self.emit(f"{held} = {inner}")
                    else:
                        self.emit(f"{held} = UNSET if {nothing} else {inner}")
                    arguments.append(held)
                else:
                    arguments.append(each)
            number = next(counter)
            if self.writing:
                self.names[f"m{number}"] = _struct(
                    "Produced",
                    [(f"f{n}", Any, UNSET) for n in range(len(tree))],
                    {f"f{n}": name for n, name in enumerate(tree)},
                )
            return f"m{number}({', '.join(arguments)})"

        self.emit(f"value({build(self._tree())})")

    def _finish_python(self) -> None:
        def build(tree: dict[str, Any], into: str) -> None:
            members = []
            absent = []
            for name, each in tree.items():
                key = self.const(name)
                if isinstance(each, dict):
                    inner = self.fresh()
                    build(each, inner)
                    self.emit(f"if not {inner}: {inner} = UNSET")
                    each = inner
                members.append(f"{key}: {each}")
                if not each.startswith("e") and self.types.get(each) is None:
                    absent.append((key, each))
            self.emit(f"{into} = {{{', '.join(members)}}}")
            if absent:
                test = " or ".join(f"{each} is UNSET" for _, each in absent)
                self.emit(f"if {test}:")
                for key, each in absent:
                    self.emit(f"    if {each} is UNSET: del {into}[{key}]")

        build(self._tree(), "out")
        outputs = (variable for variable, _ in self.outputs.values())
        self.alike = all(self.types.get(each) is not None for each in outputs)
        self.emit("value(out)")


def _leaves(tree: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for each in tree.values():
        found += _leaves(each) if isinstance(each, dict) else [each]
    return found


#: For each type: the lines that decide whether `{out}` is the result already.
_SHORTCUTS: Final[dict[str, tuple[str, ...]]] = {
    "STRING": (
        "if type({out}) is not str:",
        "    {out} = str({out}) if type({out}) is int else {apply}({out})",
    ),
    "INTEGER": (
        "if type({out}) is not int or not -2147483648 <= {out} <= 2147483647:",
        "    {out} = {apply}({out})",
    ),
    "LONG": (
        "if type({out}) is not int or not -MOST <= {out} < MOST:",
        "    {out} = {apply}({out})",
    ),
    "DOUBLE": ("if type({out}) is not float: {out} = {apply}({out})",),
    "BOOLEAN": ("if type({out}) is not bool: {out} = {apply}({out})",),
    "TIMESTAMP": (
        "{out} = time({out}, zone) if type({out}) is str else {apply}({out})",
    ),
    "PATTERN": ("{out} = {apply}({out})",),
}

#: For a cast and the type its source has: the lines that are left of it, and
#: the type of the result.
_FITTED: Final[dict[tuple[str, type], tuple[tuple[str, ...], type]]] = {
    ("STRING", str): ((), str),
    ("STRING", int): (("{out} = str({out})",), str),
    ("INTEGER", int): (
        ("if not -2147483648 <= {out} <= 2147483647: raise Redo",),
        int,
    ),
    ("LONG", int): (
        ("if not -9223372036854775808 <= {out} < 9223372036854775808: raise Redo",),
        int,
    ),
    ("DOUBLE", float): ((), float),
    ("BOOLEAN", bool): ((), bool),
    ("TIMESTAMP", str): (("{out} = time({out}, zone)",), int),
    ("TIMESTAMP", int): (("{out} = {apply}({out})",), int),
}

#: Bounds beyond it might have no double.
_HUGE: Final = 10**300

#: Functions of a text that are a method of it.
_METHODS: Final = {"upper": "upper", "lower": "lower", "trim": "strip"}

_ORDERS: Final = {
    "GREATER_THAN": ">",
    "GREATER_EQUAL": ">=",
    "LESS_THAN": "<",
    "LESS_EQUAL": "<=",
}


def _number(value: Any) -> int | Decimal | None:
    """A bound that a double can stand in for, else None."""
    if isinstance(value, (str, bool)):
        return None
    known = plain(value)
    if not isinstance(known, (int, Decimal)) or not -_HUGE < known < _HUGE:
        return None
    if isinstance(known, Decimal) and (whole := as_integer(known)) is not None:
        return whole
    return known


def _with_values(rules: Rules, decoded: Callable[[bytes], Any]) -> Rules:
    """The rules with their constants as a converter of values wants them."""
    value = _decoder(decoded)
    return replace(
        rules,
        mappings=tuple(
            replace(each, default=value(each.default)) for each in rules.mappings
        ),
        enrichment=tuple(
            replace(each, constant=value(each.constant)) for each in rules.enrichment
        ),
    )


def _decoder(decoded: Callable[[bytes], Any]) -> Callable[[Any], Any]:
    """What a rule made or found, as a converter of values wants it."""

    def value(found: Any) -> Any:
        if type(found) in _UNREAD:
            return decoded(encode(found))
        return found

    return value


def _decoding(
    mapping: FieldMapping, decoded: Callable[[bytes], Any]
) -> Callable[[Any], Any]:
    """An untyped copy where the converter wants values and not text."""
    apply, value = mapping.apply, _decoder(decoded)
    return lambda found: value(apply(found))


def _keyed(keys: TextKey) -> Callable[[Any], bytes | None]:
    one = keys.one

    def key(value: Any) -> bytes | None:
        return one(single(_scalar(None if value is MISSING else value)))

    return key


def _settle(value: Any) -> Any:
    return None if value is MISSING else settle(value)


def _settled(value: Any) -> Any:
    return None if value is MISSING or value is UNSET else value


def _signed(record: Raw) -> None:
    """Is a zero of this record written -0?  The decoder has lost its sign."""
    if MINUS_ZERO.search(bytes(record)) is not None:
        raise Redo


def _marked(values: list[Any]) -> bytes:
    return digest(encode([None if v is MISSING or v is UNSET else v for v in values]))


def _rest(steps: list[Step]) -> Path:
    return Path("", tuple(steps))


def _struct(
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
        raise _NotTyped from e


_LOADS: Final = msgspec.json.Decoder(float_hook=Raw).decode
_WHOLE: Final = msgspec.json.Decoder(dict[str, Raw]).decode


#: Lines around the generated ones.
_HEAD: Final = """
def loop(records, start, scope, made, rest):
    now = scope.get(NOW, 0)
    values = made.values
    gone = made.filtered
    value = values.append
    filtered = gone.append
    topics = None if made.topics is None else made.topics.append
    keys = None if made.keys is None else made.keys.append
    stamps = None if made.stamps is None else made.stamps.append
    headers = None if made.headers is None else made.headers.append
    marks = None if made.marks is None else made.marks.append
    rows = ROWS
    while True:
        try:
            for ROW in rows:
"""
_TAIL: Final = """
            return
        except REDO:
            rest.append(PLACE)
"""
#: Each row counts in exactly one of these, so that no counter is needed.
_PLACE: Final = "len(values) + len(gone) + len(rest)"
_BODY: Final = " " * 16


def compile_typed(
    rules: Rules,
    routes: Routes,
    values: Converter,
    keys: TextKey | JsonKey,
    *,
    decoded: Callable[[bytes], Any],
    marks: Sequence[Path] | None,
) -> Typed | None:
    """
    The loops for these rules, or None: they are for the general path.

    Args:
        decoded: A record's text as the value converter wants it.
        marks: What de-duplication compares; empty: the whole output; None: it
            is off.
    """
    conditions = sum(len(fields_of(condition)) for _, condition in rules.filters)
    others = len(rules.mappings) + len(rules.enrichment) + len(rules.checks)
    if conditions + others > _MOST:
        return None
    if marks is not None and not marks and values.values:
        # The whole output is compared as JSON, which is not written here.
        return None

    def builder(fit: Fit | None) -> _Builder:
        return _Builder(rules, routes, values, keys, marks, fit, decoded)

    def fitting(fit: Fit) -> Loop | None:
        narrow = builder(fit)
        loop = _compiled(narrow)
        return loop if any(leaf.fitted for leaf in narrow.all_leaves()) else None

    first = builder(None)
    wide = _compiled(first)
    return None if wide is None else Typed(wide, first.places, fitting)


def _compiled(builder: _Builder) -> Loop | None:
    """The loop a builder comes to, or None: its rules are for the general path."""
    routes, values, marks = builder.routes, builder.converter, builder.marks
    decoded = builder.decoded
    try:
        builder.walk()
        builder.settle()
        builder.writing = True
        builder.walk()
        reading = builder.reading()
        if not builder.whole:
            received = _struct(
                "Received",
                [
                    (f"f{leaf.number}", *builder.type_of(leaf))
                    for leaf in builder.fields.values()
                ],
                {f"f{leaf.number}": name for name, leaf in builder.fields.items()},
                kw_only=True,
            )
    except _NotTyped:
        return None
    # A `map` goes on behind a record that failed.
    head: list[str] = []
    rows, row = "map(decode, records)", "row"
    if builder.whole:
        decode = _WHOLE
        head.append("get = row.get")
    elif builder.fields:
        decode = msgspec.json.Decoder(received, float_hook=Raw).decode
    else:
        decode = _LOADS
        rows, row = "iter(records)", "raw"
        head.append("if raw == NULL: raise Redo")
    if builder.untouched and builder.fields:
        rows, row = "iter(records)", "raw"
        head.append("row = decode(raw)")
    lines = [*head, *reading, *builder.lines]
    if any(not _LINE.fullmatch(line) for line in lines):
        raise AssertionError("a generated line holds more than numbered names")
    opening = _HEAD.replace("ROWS", rows).replace("ROW", row)
    source = opening + "\n".join(_BODY + line for line in lines)
    source += _TAIL.replace("PLACE", _PLACE)
    names: dict[str, Any] = {
        **builder.names,
        "ABSENT": ABSENT,
        "INTEGER": b"%d",
        "MISSING": MISSING,
        "MOST": 2**63,
        "NOW": "now",
        "NULL": NULL,
        "REDO": REDO,
        "Redo": Redo,
        "UNSET": UNSET,
        "decode": decode,
        "decoded": decoded,
        "decoding": _decoder(decoded),
        "loads": _LOADS,
        "marked": _marked,
        "plain": plain,
        "present": _present,
        "scalar": _scalar,
        "settle": _settle,
        "settled": _settled,
        "signed": _signed,
        "single": single,
        "text": text_of,
        "time": parse_text,
        "zone": routes.zone,
    }
    # Only our own lines are compiled: every name in them is numbered.
    module = compile(ast.parse(source), "<transform>", "exec")
    code = next(each for each in module.co_consts if isinstance(each, CodeType))
    loop = FunctionType(code, names, "loop")
    whole_marks = marks is not None and not marks
    return Loop(
        source,
        loop,
        lines=not builder.untouched and not values.values,
        whole=builder.whole,
        marked=whole_marks,
        alike=builder.alike,
    )


#: Letters, digits and operators: no quote can be in a generated line.
_LINE: Final = re.compile(r"[A-Za-z0-9_ .,:()\[\]{}=!<>+%-]+")
