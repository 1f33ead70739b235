"""
Answers: the closures that answer the tree of an expression.

Owns what each node answers in a scope: null in, null out; a branch that is not taken is
not looked at.  Names and times come from a lookup, so that a tree serves scopes of
every kind.

Path: `language.templates`, `transform.lines` -> here -> `language.nodes`
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import Any, TypeAlias

from msgspec import Raw

from engine.language import functions as fn
from engine.language.nodes import (
    Call,
    Chain,
    Coalesce,
    Const,
    If,
    Logic,
    Name,
    Node,
    RelativeDay,
    Unary,
    Unique,
)
from engine.language.paths import Path
from engine.language.times import Time, midnight
from engine.language.values import MISSING, plain

Scope: TypeAlias = Mapping[str, Any]
Answer: TypeAlias = Callable[[Any], Any]


#: How a name or a relative day becomes a closure over the scope.
Lookup: TypeAlias = "Callable[[Name | RelativeDay], Answer]"


def lookup_in(zone: tzinfo) -> Lookup:
    """The usual lookup: the scope is a mapping by the names' keys."""

    def lookup(node: Name | RelativeDay) -> Answer:
        match node:
            case Name(key, path):
                return _named(key, path)
            case RelativeDay(None):
                return lambda scope: Time(scope["now"])
            case RelativeDay(days):
                assert days is not None
                return lambda scope: Time(midnight(scope["now"], zone, days))

    return lookup


def answer(node: Node, lookup: Lookup) -> Answer:
    """
    A node as a closure over the scope; its result may be `Raw` or MISSING.

    Depth of recursion is bounded by NESTING.
    """
    match node:
        case Const(value):
            return lambda scope: value
        case Name() | RelativeDay():
            return lookup(node)
        case Unique():
            return lambda scope: str(uuid.uuid4())
        case Call(function, items):
            parts = [answer(item, lookup) for item in items]
            apply = function.apply
            return lambda scope: apply(*[plain(part(scope)) for part in parts])
        case Chain(first, rest):
            return _chain(
                answer(first, lookup), [(op, answer(each, lookup)) for op, each in rest]
            )
        case Unary(function, item):
            inner = answer(item, lookup)
            return lambda scope: function(plain(inner(scope)))
        case Logic(every, items):
            return _logic(every, [answer(item, lookup) for item in items])
        case If(condition, yes, no):
            return _if(
                answer(condition, lookup), answer(yes, lookup), answer(no, lookup)
            )
        case Coalesce(items):
            return _coalesce([answer(item, lookup) for item in items])


def _named(key: str, path: Path) -> Answer:
    if key == "record":

        def get_from_record(scope: Scope) -> Any:
            found = path.get(scope["record"])
            if found is MISSING:
                received = scope.get("received", MISSING)
                found = MISSING if received is MISSING else path.get(received)
            return found

        return get_from_record
    if not path.steps:
        return lambda scope: scope.get(key)
    return lambda scope: path.get(scope.get(key))


def _chain(
    first: Answer, rest: list[tuple[Callable[[Any, Any], Any], Answer]]
) -> Answer:
    def chain(scope: Scope) -> Any:
        value = plain(first(scope))
        for operator, item in rest:
            value = operator(value, plain(item(scope)))
        return value

    return chain


def _logic(every: bool, items: list[Answer]) -> Answer:
    name = "&&" if every else "||"

    def logic(scope: Scope) -> bool | None:
        null = False
        for item in items:
            value = fn.truth(name, plain(item(scope)))
            if value is None:
                null = True
            elif value is not every:
                return value
        return None if null else every

    return logic


def _if(condition: Answer, yes: Answer, no: Answer) -> Answer:
    def choose(scope: Scope) -> Any:
        value = fn.truth("if", plain(condition(scope)))
        if value is None:
            return None
        return _chosen(yes(scope) if value else no(scope))

    return choose


def _chosen(value: Any) -> Any:
    """
    One of several values, as it came; None for null and missing.

    A text is read, so that what comes out does not depend on how its
    characters were escaped.
    """
    if value is MISSING:
        return None
    if type(value) is Raw and bytes(value)[:1] in (b'"', b"n"):
        return plain(value)
    return value


def _coalesce(items: list[Answer]) -> Answer:
    def first(scope: Scope) -> Any:
        for item in items:
            value = _chosen(item(scope))
            if value is not None:
                return value
        return None

    return first
