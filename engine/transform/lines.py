"""
Lines: the rules of an api as lines of a generated loop.

Owns mappings, enrichment, filters and validation, and the lookup of a field as the
record now is.

Path: `typed` -> here -> `received`, `called`
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from decimal import Decimal
from typing import Any, Final

from engine.language import MISSING, Path, Template
from engine.language.answers import Answer, answer, lookup_in
from engine.language.nodes import (
    Call,
    Chain,
    Const,
    Name,
    Node,
    RelativeDay,
    Unary,
    children,
)
from engine.language.templates import Expression
from engine.language.values import DEPTH
from engine.transform.called import (
    casting,
    checked_scalar,
    copying,
    decoding,
    no_double,
    number,
)
from engine.transform.conditions import Condition, ConditionGroup, Field, Negation
from engine.transform.received import PLACE, NotTyped, Received, rest_of
from engine.transform.rules import FieldMapping, top

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


#: Functions of a text that are a method of it.
_METHODS: Final = {"upper": "upper", "lower": "lower", "trim": "strip"}


_ORDERS: Final = {
    "GREATER_THAN": ">",
    "GREATER_EQUAL": ">=",
    "LESS_THAN": "<",
    "LESS_EQUAL": "<=",
}


class RuleLines(Received, ABC):
    """The lines of the rules, each in its order."""

    def look(self, path: Path, kind: str) -> str:
        """A field: as the record now is, then as received."""
        if not path.steps:
            raise NotTyped
        names = path.names
        first = top(path)
        if first is None:
            raise NotTyped
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
                inner = self.const(rest_of(list(path.steps[len(target) :])).get)
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
                raise NotTyped
        return self.received(path, kind)

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
            self.emit(f"    filtered((start + {PLACE}, {named}))")
            self.emit("    continue")
        for _, check in self.rules.checks:
            value = self.look(check.path, "raw")
            failed = self.const(check.failed)
            self.emit(f"if {failed}({value}) is not None: raise Redo")
        self._route()
        self._finish()

    def _map(self, at: int, mapping: FieldMapping) -> None:
        if not mapping.target:
            raise NotTyped
        out = f"o{at}"
        python = self.converter.values
        copied = mapping if mapping.kind is None else None
        if mapping.kind in (None, "OBJECT", "ARRAY"):
            kind = "python" if python and not self.converter.exact else "raw"
            if python and (mapping.kind is not None or self.converter.exact):
                raise NotTyped
            source = self.received(mapping.source, kind)
            if python:
                apply = self.const(decoding(mapping, self.decoded))
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
                apply = self.const(copying(mapping, depth))
                self.emit(f"{out} = {source[8:-1]}")
                self.emit(f"size = len({out})")
                self.emit(
                    f"if size == 4 or size > {2 * depth + 1}: {out} = {apply}({out})"
                )
            else:
                depth = DEPTH - len(mapping.target)
                apply = self.const(copying(mapping, depth))
                self.emit(f"{out} = {apply}({source})")
        else:
            kind = "PATTERN" if mapping.patterned else mapping.kind or ""
            asked = {"DOUBLE": "double", "STRING": "shown", "PATTERN": "shown"}
            source = self.received(mapping.source, asked.get(kind, "value"))
            apply = self.const(casting(mapping))
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
                raise NotTyped
        else:
            for other in self.outputs:
                if other[0] == target[0] and other != target:
                    raise NotTyped
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

        def lookup(name: Name | RelativeDay) -> Answer:
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
            case ConditionGroup(every, items):
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
            bound = number(rule["value"])
            if bound is not None:
                return self._ordered(field, mark, bound)
        value = self.look(field.path, "shown" if operator == "MATCHES" else "value")
        test = self.const(checked_scalar(field.test))
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
        test = self.const(
            no_double(field.test) if received else checked_scalar(field.test)
        )
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

    @abstractmethod
    def _route(self) -> None:
        """The lines that say where a record goes."""

    @abstractmethod
    def _finish(self) -> None:
        """The lines that hand a record on."""
