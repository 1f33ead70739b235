"""
Paths: where a value stands in a JSON document.

Owns the two spellings, RFC 6901 pointers and dotted paths, and the walk.
A walk never recurses, reads only what lies on its way, and tells missing
from null.

Path: `templates`, `config`, `source`, `transform` -> here -> `values`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from engine.language.faults import LanguageError
from engine.language.values import MISSING, opened, text_of
from engine.later import pattern

#: The longest expression of any kind, in bytes.
LONGEST: Final = 65_536


class _Wild:
    """The type of WILD."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "[*]"


#: The step `[*]`: each item of an array.
WILD: Final = _Wild()

#: A member's name, an index, `[*]`, `[name=text]`, or a pointer's token (name or
#: index).
Step: TypeAlias = "str | int | _Wild | Token | MemberFilter"


class MemberFilter(msgspec.Struct, frozen=True):
    """The first object of an array whose member `name` is, or holds, `text`."""

    name: str
    text: str


class Token(msgspec.Struct, frozen=True):
    """A pointer's token: a name in an object, an index in an array."""

    text: str

    @property
    def index(self) -> int | None:
        """The token as an index: digits without leading zeros (RFC 6901 4)."""
        text = self.text
        if text == "0" or (
            text.isascii() and text.isdigit() and text[0] != "0" and len(text) < 19
        ):
            return int(text)
        return None


_WHERE: Final = pattern(
    r"\[\s*('[^']+'|\"[^\"]+\"|[^\]\['\"=\s]+)\s*=\s*('[^']*'|\"[^\"]*\"|[^\]\['\"]+)\]"
)


class Path:
    """
    A compiled path: from a record to what stands in one of its places.

    Attributes:
        text: As it was written.
        steps: From the root; empty: the whole document.
        single: True unless a `[*]` asks for a list.  A name step on an array
            asks for one too, which only the data can tell.
        get: The value in a document, or MISSING.  The document may be `Raw`
            or hold `Raw`; what is found is handed over as it lies there.
            Once the way went through an array by a name or `[*]`, it is one
            flat list.
    """

    __slots__ = ("get", "single", "steps", "text")

    def __init__(self, text: str, steps: tuple[Step, ...]):
        self.text = text
        self.steps = steps
        self.single = WILD not in steps
        self.get: Callable[[Any], Any] = _walker(steps)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The steps if all of them are plain names, else None."""
        names = tuple(
            step.text if isinstance(step, Token) else step
            for step in self.steps
            if isinstance(step, str)
            or (isinstance(step, Token) and step.index is None and step.text != "-")
        )
        return names if len(names) == len(self.steps) else None

    def __repr__(self) -> str:
        return f"Path({self.text!r})"


def _first_where(items: list[Any], step: MemberFilter) -> Any:
    """The item that a step asks for, or MISSING."""
    for item in items:
        members = opened(item)
        if not isinstance(members, dict) or step.name not in members:
            continue
        value = opened(members[step.name])
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, dict) and text_of(each) == step.text:
                return item
    return MISSING


def _walker(steps: tuple[Step, ...]) -> Callable[[Any], Any]:
    if not steps:
        return _whole
    first = steps[0]
    if len(steps) == 1 and isinstance(first, str):
        return _named(first)
    return _walking(steps)


def _whole(document: Any) -> Any:
    return document


def _named(name: str) -> Callable[[Any], Any]:
    """One name: most paths are that."""
    general = _walking((name,))

    def get(document: Any) -> Any:
        if type(document) is dict:
            return document.get(name, MISSING)
        return general(document)

    return get


def _walking(steps: tuple[Step, ...]) -> Callable[[Any], Any]:
    def get(document: Any) -> Any:
        nodes = [document]
        many = False
        for step in steps:
            found: list[Any] = []
            for node in nodes:
                node = opened(node)
                if type(step) is MemberFilter:
                    # A link that stands alone may come without its list.
                    found_one = _first_where(
                        node if isinstance(node, list) else [node], step
                    )
                    if found_one is not MISSING:
                        found.append(found_one)
                    continue
                if type(step) is Token:
                    index = step.index if isinstance(node, list) else None
                    step_now: Any = index if index is not None else step.text
                    if isinstance(node, list) and index is None:
                        continue
                else:
                    step_now = step
                if isinstance(node, dict):
                    if isinstance(step_now, str) and step_now in node:
                        found.append(node[step_now])
                elif isinstance(node, list):
                    if isinstance(step_now, int):
                        if -len(node) <= step_now < len(node):
                            found.append(node[step_now])
                    else:
                        many = True
                        if step_now is WILD:
                            found.extend(node)
                        else:
                            found.extend(_members(node, step_now))
            if not found:
                return MISSING
            nodes = found
        return _flat(nodes) if many else nodes[0]

    return get


def _flat(nodes: list[Any]) -> list[Any]:
    """One list, whatever lies in a list in a list in order in it."""
    flat: list[Any] = []
    rest = nodes[::-1]
    while rest:
        node = rest.pop()
        top = opened(node)
        if isinstance(top, list):
            rest.extend(top[::-1])
        else:
            flat.append(node)
    return flat


def _members(items: list[Any], name: str) -> list[Any]:
    """The named member of each item; lists in the list are gone through."""
    found = []
    rest = items[::-1]
    while rest:
        item = opened(rest.pop())
        if isinstance(item, dict):
            if name in item:
                found.append(item[name])
        elif isinstance(item, list):
            rest.extend(item[::-1])
    return found


def compile_path(text: str) -> Path:
    """
    Compile a pointer (`/data/items`), a dotted path (`data.items[0].'a.b'`)
    or the empty path (the whole document).

    Raises: LanguageError.
    """
    if len(text) > LONGEST:
        raise LanguageError(f"a path is at most {LONGEST} characters")
    if not text:
        return Path(text, ())
    if text[0] == "/":
        return Path(text, _pointer(text))
    steps, end = read_steps(text, 0)
    assert end == len(text)
    return Path(text, steps)


def _pointer(text: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    column = 2
    for token in text[1:].split("/"):
        at = token.find("~")
        while at >= 0:
            if token[at + 1 : at + 2] not in ("0", "1"):
                raise LanguageError("~ is written ~0, and / is ~1", column + at)
            at = token.find("~", at + 1)
        steps.append(Token(token.replace("~1", "/").replace("~0", "~")))
        column += len(token) + 1
    return tuple(steps)


def read_steps(text: str, at: int) -> tuple[tuple[Step, ...], int]:
    """A dotted path from `at` to the end of the text."""
    steps: list[Step] = []
    while True:
        if at >= len(text):
            raise LanguageError("a name is missing; '' is the empty one", at + 1)
        if text[at] in "'\"":
            name, at = read_quoted(text, at)
            steps.append(name)
        elif text[at] != "[" or steps:
            name, at = _bare(text, at)
            steps.append(name)
        while at < len(text) and text[at] == "[":
            step, at = read_index(text, at)
            steps.append(step)
        if at >= len(text):
            return tuple(steps), at
        if text[at] != ".":
            raise LanguageError(f"unexpected {text[at]!r}; quote the name", at + 1)
        at += 1


def _bare(text: str, at: int) -> tuple[str, int]:
    end = at
    while end < len(text) and text[end] not in ".[]'\"":
        end += 1
    if end == at:
        raise LanguageError("a name is missing; '' is the empty one", at + 1)
    if end < len(text) and text[end] in "'\"]":
        raise LanguageError(f"unexpected {text[end]!r}; quote the name", end + 1)
    return text[at:end], end


def read_quoted(text: str, at: int) -> tuple[str, int]:
    """A quoted text from `at`; the quote doubled inside is itself."""
    quote = text[at]
    parts = []
    start = at + 1
    while True:
        close = text.find(quote, start)
        if close < 0:
            raise LanguageError("a quote is not closed", at + 1)
        parts.append(text[start:close])
        if text[close + 1 : close + 2] != quote:
            return quote.join(parts), close + 1
        start = close + 2


def read_index(text: str, at: int) -> tuple[Step, int]:
    """`[n]`, `[-n]`, `[*]` or `[name=text]` from `at`."""
    match = _WHERE.match(text, at)
    if match is not None:
        name = match[1].strip("'\"")
        return MemberFilter(name, match[2].strip("'\"")), match.end()
    close = text.find("]", at)
    inside = text[at + 1 : close] if close > 0 else ""
    if inside == "*":
        return WILD, close + 1
    digits = inside.removeprefix("-")
    if close < 0 or not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise LanguageError("an index is [n], [-n], [*] or [name=text]", at + 1)
    return int(inside), close + 1


def placed(document: object, steps: Sequence[object], value: object) -> object:
    """A document in which a path leads to a value."""
    if not steps:
        return value
    step = (
        steps[0]
        if isinstance(steps[0], str | int)
        else str(getattr(steps[0], "text", ""))
    )
    if isinstance(step, int):
        items = list(document) if isinstance(document, list) else []
        place = step if step >= 0 else -step - 1
        items += [None] * (place + 1 - len(items))
        items[step] = placed(items[step], steps[1:], value)
        return items
    members = dict(document) if isinstance(document, dict) else {}
    members[step] = placed(members.get(step), steps[1:], value)
    return members
