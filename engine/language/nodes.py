"""
Nodes: the tree that an expression becomes.

Owns the node types, and the walks over a tree that ask nothing of its values.  A tree
is made of these types and nothing else; a compiler of its own (`transform.lines`) may
walk it.

Path: `language.grammar`, `language.answers`, `transform` -> here -> `language.functions`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from msgspec import Struct

from engine.language import functions as fn
from engine.language.paths import Path


class Const(Struct, frozen=True):
    """A literal: None, bool, int, Decimal or text."""

    value: Any


class Name(Struct, frozen=True):
    """
    A value out of the scope.

    Attributes:
        key: The key in the scope: `cursor`, `record`, `response.header`.
        path: The way on from there.
    """

    key: str
    path: Path


class RelativeDay(Struct, frozen=True):
    """`now`, or 00:00 of a day so many days from it."""

    days: int | None = None


class Unique(Struct, frozen=True):
    """`uuid`: random, another one each time."""


class Call(Struct, frozen=True):
    """A function of values; null in, null out."""

    function: fn.Function
    items: tuple[Node, ...]


class Chain(Struct, frozen=True):
    """Operators of one rank, from the left: each takes what stands so far."""

    first: Node
    rest: tuple[tuple[Callable[[Any, Any], Any], Node], ...]


class Unary(Struct, frozen=True):
    """`!x` or `-x`."""

    function: Callable[[Any], Any]
    item: Node


class Logic(Struct, frozen=True):
    """`&&` (all) or `||` (any) of conditions, left to right, no further."""

    every: bool
    items: tuple[Node, ...]


class If(Struct, frozen=True):
    """`if(c,a,b)`: the branch not taken is not looked at."""

    condition: Node
    yes: Node
    no: Node


class Coalesce(Struct, frozen=True):
    """The first that is there and not null."""

    items: tuple[Node, ...]


Node: TypeAlias = (
    Const | Name | RelativeDay | Unique | Call | Chain | Unary | Logic | If | Coalesce
)


def children(node: Node) -> tuple[Node, ...]:
    """The nodes a node is made of."""
    match node:
        case Call(_, items) | Logic(_, items) | Coalesce(items):
            return items
        case Chain(first, rest):
            return (first, *(item for _, item in rest))
        case Unary(_, item):
            return (item,)
        case If(condition, yes, no):
            return (condition, yes, no)
    return ()


def names_of(node: Node) -> set[str]:
    """The scope's keys a tree asks for."""
    names = set()
    rest = [node]
    while rest:
        each = rest.pop()
        if isinstance(each, Name):
            names.add(each.key)
        elif isinstance(each, RelativeDay):
            names.add("now")
        rest.extend(children(each))
    return names
