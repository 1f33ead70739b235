"""
Grammar: the text of an expression becomes a tree.

Owns the reading of `${...}`, and every error that a text can have: names, functions,
numbers of arguments, date patterns and zones that are written out are checked here,
with the column.

Path: `language.templates` -> here -> `language.nodes`, `functions`, `paths`
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, Final

from engine.language import functions as fn
from engine.language.datepatterns import compile_pattern
from engine.language.faults import LanguageError
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
from engine.language.paths import (
    WILD,
    Path,
    Step,
    compile_path,
    read_index,
    read_quoted,
)
from engine.language.times import compile_zone
from engine.language.values import Spelled, as_integer, spelled
from engine.later import later, pattern

if TYPE_CHECKING:
    import difflib
else:
    difflib = later("difflib")

#: Brackets and calls within each other.
NESTING: Final = 32


_NUMBER: Final = pattern(r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,9})?")
_DURATION: Final = pattern(r"([0-9]+)(ms|s|m|h|d|w)(?![A-Za-z0-9_])")
_WORD: Final = pattern(r"(?:[^\W\d]|[@$])(?:\w|[@$])*")
_STEP: Final = pattern(r"(?:\w|[@$])+")
_HEADER: Final = pattern(r"[A-Za-z0-9!#$%&'*+^_`|~-]+")
_FORM: Final = pattern(r"([A-Za-z_][A-Za-z0-9_]*):")

_UNITS_MS: Final = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}
_COMPARISONS: Final[tuple[tuple[str, Callable[[Any, Any], Any]], ...]] = (
    ("==", fn.is_equal),
    ("!=", fn.is_unequal),
    (">=", fn.is_at_least),
    ("<=", fn.is_at_most),
    (">", fn.is_greater),
    ("<", fn.is_less),
)
_SUMS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": fn.add,
    "-": fn.subtract,
}
_PRODUCTS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "*": fn.multiply,
    "/": fn.divide,
}
_WORDS: Final = {"true": True, "false": False, "null": None}


class ExpressionReader:
    """A recursive descent over one expression; recursion ends at NESTING."""

    def __init__(self, text: str, at: int, names: Collection[str], zone: tzinfo):
        self._text = text
        self._at = at
        self._names = names
        self._zone = zone
        self._functions = fn.functions(zone)
        self._depth = 0
        self.hyphenated: list[str] = []

    def expression(self) -> tuple[Node, int]:
        """The expression and the place behind its `}`."""
        start = self._at
        form = _FORM.match(self._text, start)
        if form is None:
            node = self._or()
        elif form[1] == "date":
            return self._date(form.end())
        elif form[1] == "timestamp":
            self._at = form.end()
            node = Call(self._functions["epoch_ms"], (self._or(),))
        elif form[1] == "math":
            self._at = form.end()
            node = self._or()
        else:
            raise self._wrong(f"${{{form[1]}:...}} is not known here", start)
        if not self._taken("}"):
            if self._at >= len(self._text):
                raise self._wrong("a ${ is not closed", start - 2)
            raise self._wrong(f"unexpected {self._text[self._at]!r}")
        return node, self._at

    def _date(self, start: int) -> tuple[Node, int]:
        """`${date:PATTERN}`: a pattern as it is, up to a `}` outside quotes."""
        end, quoted = start, False
        while end < len(self._text) and (quoted or self._text[end] != "}"):
            quoted ^= self._text[end] == "'"
            end += 1
        if end >= len(self._text):
            raise self._wrong("a ${ is not closed", start - 7)
        pattern = self._text[start:end]
        self._check_pattern(pattern, start)
        self._require("now", start)
        call = Call(self._functions["format"], (RelativeDay(), Const(pattern)))
        return call, end + 1

    def _wrong(self, message: str, at: int | None = None) -> LanguageError:
        return LanguageError(message, (self._at if at is None else at) + 1)

    def _space(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
            self._at += 1

    def _taken(self, mark: str) -> bool:
        self._space()
        if self._text.startswith(mark, self._at):
            self._at += len(mark)
            return True
        return False

    def _or(self) -> Node:
        items = [self._and()]
        while self._taken("||"):
            items.append(self._and())
        return items[0] if len(items) == 1 else Logic(False, tuple(items))

    def _and(self) -> Node:
        items = [self._comparison()]
        while self._taken("&&"):
            items.append(self._comparison())
        return items[0] if len(items) == 1 else Logic(True, tuple(items))

    def _comparison(self) -> Node:
        left = self._ranked(_SUMS)
        for mark, function in _COMPARISONS:
            if self._taken(mark):
                return Chain(left, ((function, self._ranked(_SUMS)),))
        return left

    def _ranked(self, operators: dict[str, Callable[[Any, Any], Any]]) -> Node:
        item = self._unary if operators is _PRODUCTS else self._product
        first = item()
        rest: list[tuple[Callable[[Any, Any], Any], Node]] = []
        while True:
            self._space()
            mark = self._text[self._at : self._at + 1]
            if mark not in operators:
                return Chain(first, tuple(rest)) if rest else first
            self._at += 1
            rest.append((operators[mark], item()))

    def _product(self) -> Node:
        return self._ranked(_PRODUCTS)

    def _unary(self) -> Node:
        if self._taken("-"):
            item = self._atom()
            if isinstance(item, Const) and isinstance(item.value, Spelled):
                return Const(spelled(f"-{item.value.text}"))
            return Unary(fn.negate, item)
        self._space()
        if self._text.startswith("!", self._at):
            self._at += 1
            return Unary(fn.invert, self._atom())
        return self._atom()

    def _atom(self) -> Node:
        self._space()
        text, at = self._text, self._at
        if at >= len(text):
            raise self._wrong("the expression ends too early")
        if text[at] in "'\"":
            value, self._at = read_quoted(text, at)
            return Const(value)
        if text[at].isascii() and text[at].isdigit():
            return self._number()
        if self._taken("("):
            with _Deeper(self):
                node = self._or()
            if not self._taken(")"):
                raise self._wrong("a ( is not closed", at)
            return node
        word = _WORD.match(text, at)
        if word is None:
            what = "nothing" if text[at] == "}" else repr(text[at])
            raise self._wrong(f"a value is missing before {what}")
        self._at = word.end()
        if word[0] in _WORDS:
            return Const(_WORDS[word[0]])
        self._space()
        if text.startswith("(", self._at):
            return self._call(word[0], at)
        self._at = word.end()
        return self._name(word[0], at)

    def _number(self) -> Node:
        duration = _DURATION.match(self._text, self._at)
        if duration is not None:
            if len(duration[1]) > 15:
                raise self._wrong("a duration out of range")
            self._at = duration.end()
            return Const(int(duration[1]) * _UNITS_MS[duration[2]])
        number = _NUMBER.match(self._text, self._at)
        assert number is not None
        if len(number[0]) > 1000:
            raise self._wrong("a number of too many digits")
        end = number.end()
        if _STEP.match(self._text, end) is not None:
            raise self._wrong("a number ends in a letter; units are ms s m h d w")
        self._at = end
        # JSON has no zeros in front.  A fraction that is not computed with
        # goes out as it was written.
        text = number[0].lstrip("0")
        text = text if text[:1].isdigit() else f"0{text}"
        if text.isdigit():
            return Const(int(text))
        written = spelled(text)
        whole = as_integer(written) if "." not in text else None
        return Const(written if whole is None else whole)

    def _call(self, name: str, at: int) -> Node:
        special = {"if": (3, 3), "coalesce": (1, None)}
        function = self._functions.get(name)
        if function is None and name not in special:
            near = difflib.get_close_matches(name, [*self._functions, *special], 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise self._wrong(f"no function {name}(){hint}", at)
        self._taken("(")
        items: list[Node] = []
        places: list[int] = []
        with _Deeper(self):
            if not self._taken(")"):
                while True:
                    self._space()
                    places.append(self._at)
                    items.append(self._or())
                    if self._taken(")"):
                        break
                    if not self._taken(","):
                        raise self._wrong(f"{name}( is not closed", at)
        least, most = (
            special[name] if function is None else (function.least, function.most)
        )
        if len(items) < least or (most is not None and len(items) > most):
            wanted = f"{least}" if least == most else f"{least} to {most or 'any'}"
            raise self._wrong(f"{name}() takes {wanted} arguments", at)
        if name == "if":
            return If(items[0], items[1], items[2])
        if name == "coalesce":
            return Coalesce(tuple(items))
        assert function is not None
        if name in ("format", "parse"):
            self._check_literals(items, places)
        return Call(function, tuple(items))

    def _check_literals(self, items: list[Node], places: list[int]) -> None:
        """A pattern or zone that is written out is checked now."""
        for node, place, check in zip(
            items[1:], places[1:], (self._check_pattern, self._check_zone)
        ):
            if isinstance(node, Const) and isinstance(node.value, str):
                check(node.value, place + 1)

    def _check_pattern(self, pattern: str, at: int) -> None:
        try:
            compile_pattern(pattern)
        except LanguageError as e:
            raise LanguageError(e.message, at + e.column) from e

    def _check_zone(self, zone: str, at: int) -> None:
        try:
            compile_zone(zone)
        except LanguageError as e:
            raise LanguageError(e.message, at + 1) from e

    def _require(self, name: str, at: int) -> None:
        if name not in self._names:
            raise self._wrong(f"no name {name} here", at)

    def _name(self, root: str, at: int) -> Node:
        root = self._hyphenated(root, root in self._names or self._partial(root))
        if self._partial(root) or self._next_is_known(root):
            key, steps = self._dotted(root, at)
        elif root in self._names and root != "*":
            key, steps = root, self._steps()
        elif "*" in self._names:
            key, steps = "record", [root, *self._steps()]
        else:
            near = difflib.get_close_matches(root, list(self._names), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise self._wrong(f"no name {root} here{hint}", at)
        if key in ("now", "today", "yesterday", "uuid"):
            if steps:
                raise self._wrong(f"{key} has no fields", at)
            if key == "uuid":
                return Unique()
            return RelativeDay({"now": None, "today": 0, "yesterday": -1}[key])
        return Name(key, _path(steps))

    def _partial(self, root: str) -> bool:
        """Is the root one of which only named steps are known?"""
        return root not in self._names and any(
            name.startswith(f"{root}.") for name in self._names
        )

    def _next_is_known(self, root: str) -> bool:
        """Do the root and its next step stand for a value of their own?"""
        if not self._text.startswith(".", self._at):
            return False
        step = _STEP.match(self._text, self._at + 1)
        return step is not None and f"{root}.{step[0]}" in self._names

    def _dotted(self, root: str, at: int) -> tuple[str, list[Step]]:
        known = sorted(n for n in self._names if n.startswith(f"{root}."))
        steps = self._steps(one=True)
        key = f"{root}.{steps[0]}" if steps else root
        if key not in known:
            raise self._wrong(f"no name {key} here; known: {', '.join(known)}", at)
        return key, self._steps()

    def _hyphenated(self, word: str, known: bool) -> str:
        """
        The word with what a hyphen joins to it.

        A hyphen between a name and a letter is part of the name, one before
        a digit or a blank is a minus; where both could be meant (`a-now`)
        it is an error that asks for blanks or quotes.
        """
        if known:
            return word
        start = self._at
        while self._text.startswith("-", self._at):
            following = _WORD.match(self._text, self._at + 1)
            if following is None:
                break
            if (
                following[0] in self._names
                or self._partial(following[0])
                or self._text.startswith("(", following.end())
            ):
                raise self._wrong(
                    f"{word}-{following[0]}: blanks around a minus, or quotes"
                    " around a name with a hyphen"
                )
            self._at = following.end()
        if self._at > start:
            self.hyphenated.append(word + self._text[start : self._at])
        return word + self._text[start : self._at]

    def _steps(self, one: bool = False) -> list[Step]:
        """The steps that follow: `.name`, `.'name'`, `[n]`."""
        steps: list[Step] = []
        header = self._text[: self._at].endswith("response.header")
        while not (one and steps):
            if self._text.startswith("[", self._at):
                step, self._at = read_index(self._text, self._at)
                steps.append(step)
                continue
            if not self._text.startswith(".", self._at):
                break
            self._at += 1
            if self._text[self._at : self._at + 1] in ("'", '"'):
                name, self._at = read_quoted(self._text, self._at)
            else:
                shape = _HEADER if header else _STEP
                word = shape.match(self._text, self._at)
                if word is None:
                    raise self._wrong("a name is missing after the point")
                self._at = word.end()
                name = word[0] if header else self._hyphenated(word[0], False)
            steps.append(name.lower() if header else name)
        return steps


class _Deeper:
    """Counts the nesting while a bracket is open."""

    __slots__ = ("_reader",)

    def __init__(self, reader: ExpressionReader):
        self._reader = reader

    def __enter__(self) -> None:
        self._reader._depth += 1
        if self._reader._depth > NESTING:
            raise self._reader._wrong(f"nested deeper than {NESTING}")

    def __exit__(self, *_: object) -> None:
        self._reader._depth -= 1


def _path(steps: list[Step]) -> Path:
    """A path of given steps, its text written so that it reads back."""
    text = ""
    for step in steps:
        if step is WILD:
            text += "[*]"
        elif isinstance(step, int):
            text += f"[{step}]"
        else:
            name = str(step)
            plain_name = bool(name) and not set(name) & set(".[]'\"/")
            quoted = "'" + name.replace("'", "''") + "'"
            text += ("." if text else "") + (name if plain_name else quoted)
    return compile_path(text) if steps else Path("", ())
