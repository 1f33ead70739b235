"""
Params: the parts of a URL, cut out of its template.

Owns how a URL is cut into path and query parameters before anything is put in, so that
no value can end one, how literal text is encoded, and when a parameter is left out.

Path: `paging.request` -> here -> `language.templates`, `language.places`
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote, unquote

from engine.language.answers import Scope
from engine.language.nodes import Node, Unique, children
from engine.language.places import encode_query_value
from engine.language.templates import Expression, Template
from engine.later import pattern

#: What changes from page to page of one poll.
PAGE_NAMES: Final = frozenset({"offset", "cursor", "page", "last", "skip"})
#: What no template can name: see `TieParam`.
TIE: Final = " tie"
#: True for the first page of a poll: see `FirstParam`.
FIRST: Final = " first"

#: Characters of literal text that are sent as they are (RFC 3986, 3.3, 3.4).
PATH_SAFE: Final = "/%:@!$&'()*+,;=~"
QUERY_SAFE: Final = "/?%:@!$'()*+,;=~"
_STRAY_PERCENT = pattern(r"%(?![0-9A-Fa-f]{2})")


def _literal(text: str, safe: str) -> str:
    """Literal text of a URL: illegal characters encoded, `%XX` kept."""
    return quote(_STRAY_PERCENT.sub("%25", text), safe=safe)


def nodes_of(template: Template) -> Iterable[Node]:
    rest = [part.node for part in template.parts if isinstance(part, Expression)]
    while rest:
        node = rest.pop()
        yield node
        rest.extend(children(node))


def varies(template: Template) -> bool:
    """True if its text may differ between two pages of a poll."""
    return bool(template.names & PAGE_NAMES) or any(
        isinstance(node, Unique) for node in nodes_of(template)
    )


def split_at(
    parts: Iterable[str | Expression], at: str
) -> list[list[str | Expression]]:
    """Cut a template at a character of its literal text, everywhere."""
    pieces: list[list[str | Expression]] = [[]]
    for part in parts:
        if isinstance(part, Expression):
            pieces[-1].append(part)
            continue
        first, *others = part.split(at)
        if first:
            pieces[-1].append(first)
        pieces.extend([other] if other else [] for other in others)
    return pieces


def part_of(parts: Sequence[str | Expression], safe: str) -> Template:
    """A part of a URL as a template of its own, its literal text encoded."""
    encoded = [
        part if isinstance(part, Expression) else _literal(part, safe) for part in parts
    ]
    return Template("", encoded or [""])


class TieParam:
    """What pages within one offset value; left out but there."""

    names: frozenset[str] = frozenset()
    templates: tuple[Template, ...] = ()
    varies = True

    def __init__(self, name: str):
        self._name = quote(name, safe="")

    def render(self, scope: Scope) -> str | None:
        tie = scope[TIE]
        return None if tie is None else f"{self._name}={tie}"


class Param:
    """One query parameter; left out where an expression in it is null."""

    __slots__ = ("names", "template", "templates", "varies")

    def __init__(self, template: Template):
        self.template = template
        self.templates: tuple[Template, ...] = (template,)
        self.names = template.names
        self.varies = varies(template)

    def render(self, scope: Scope) -> str | None:
        return self.template.render(scope, encode_query_value)


class FirstParam(Param):
    """A query parameter of a poll's first page only."""

    __slots__ = ()

    def __init__(self, template: Template):
        super().__init__(template)
        self.varies = True

    def render(self, scope: Scope) -> str | None:
        return super().render(scope) if scope[FIRST] else None


class Replacing:
    """A paging parameter that stands in the place of one of its name."""

    __slots__ = ("_instead", "_param", "names", "templates", "varies")

    def __init__(self, param: Param, instead: Param):
        self._param = param
        self._instead = instead
        self.names = param.names | instead.names
        self.templates = (*param.templates, *instead.templates)
        self.varies = param.varies or instead.varies

    def render(self, scope: Scope) -> str | None:
        text = self._param.render(scope)
        return self._instead.render(scope) if text is None else text


def name_of(param: Param | Replacing | TieParam) -> str | None:
    """The name of a parameter that is written out, decoded; else None."""
    if not isinstance(param, Param):
        return None
    first = param.template.parts[0] if param.template.parts else ""
    if not isinstance(first, str) or "=" not in first and len(param.template.parts) > 1:
        return None
    return unquote(first.partition("=")[0])


def joined(pieces: list[list[str | Expression]], by: str) -> list[str | Expression]:
    """The pairs of a split query as one text again."""
    parts: list[str | Expression] = list(pieces[0])
    for piece in pieces[1:]:
        parts += [by, *piece]
    return parts
