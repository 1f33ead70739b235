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

import re
from collections.abc import Callable, Sequence
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET, Raw

from engine.language import MISSING, Path, Template, plain
from engine.language.nodes import Name
from engine.language.templates import Expression
from engine.language.times import parse_text
from engine.language.values import text_of
from engine.later import later, pattern
from engine.transform.called import (
    ABSENT,
    REDO,
    Redo,
    again,
    decoder,
    keyed,
    marked,
    present,
    scalar,
    settle_missing,
    settled,
    signed,
)
from engine.transform.conditions import fields_of
from engine.transform.convert import Converter, JsonKey, TextKey
from engine.transform.lines import RuleLines
from engine.transform.loops import Fit, Loop, Typed
from engine.transform.received import PLACE, NotTyped, struct_of
from engine.transform.route import RecordRouter, single, varies
from engine.transform.rules import NULL, Rules

if TYPE_CHECKING:
    import ast
else:
    ast = later("ast")

#: More rules than this are for the general path: the loop would take longer
#: to compile than it could save.
_MOST: Final = 1000


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
ONCE
    rows = ROWS
    while True:
        try:
            for ROW in rows:
"""


#: In front of the loop where a record stays as it came and only its key is read: a
#: page of records that fit is one expression, and nothing is put by for each.
_ONCE: Final = """
    try:
        found = [KEY for row in map(decode, records)]
    except REDO:
        pass
    else:
        values += records
        made.keys += found
        return
"""

#: What a record's lines are then, around those that make its key; one that sends a zero
#: whose sign is lost elsewhere; and the variables of one record.
_READ: Final = "row = decode(raw)"
_HANDED: Final = ["value(raw)", "keys(key)"]
_UNSIGNED: Final = pattern(r"if not ([vw][0-9]+): signed\(.*\)")
_ASSIGNED: Final = pattern(r"([vwt][0-9]+|key) = (.+)")
_VARIABLE: Final = pattern(r"\b[vwt][0-9]+\b")


def _only_key(lines: Sequence[str]) -> str | None:
    """
    The lines of a record that stays as it came as one expression, its key.

    None where they are more than that: a second column, a record that is left out, a
    value that is asked for twice.
    """
    if lines[:1] != [_READ] or lines[-2:] != _HANDED:
        return None
    made: dict[str, str] = {}
    for line in lines[1:-2]:
        zero = _UNSIGNED.fullmatch(line)
        if zero is not None and zero[1] in made:
            made[zero[1]] = f"({made[zero[1]]} or again())"
            continue
        found = _ASSIGNED.fullmatch(line)
        if found is None:
            return None
        name, text = found.groups()
        for each in _VARIABLE.findall(text):
            if each not in made or len(re.findall(rf"\b{each}\b", text)) > 1:
                return None
            text = re.sub(rf"\b{each}\b", made.pop(each), text)
        made[name] = text if re.fullmatch(r"[a-z0-9.]+", text) else f"({text})"
    return made.get("key") if len(made) == 1 else None


_TAIL: Final = """
            return
        except REDO:
            rest.append(PLACE)
"""


_BODY: Final = " " * 16


class _Builder(RuleLines):
    """The whole loop: where a record goes, and what goes out."""

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
        one = self.const(keyed(self.keys))
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
                raise NotTyped
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
                    raise NotTyped
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
                self.names[f"m{number}"] = struct_of(
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


def compile_typed(
    rules: Rules,
    routes: RecordRouter,
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
            received = struct_of(
                "Received",
                [
                    (f"f{leaf.number}", *builder.type_of(leaf))
                    for leaf in builder.fields.values()
                ],
                {f"f{leaf.number}": name for name, leaf in builder.fields.items()},
                kw_only=True,
            )
    except NotTyped:
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
    once = ""
    only = _only_key(lines)
    if only is not None:
        once = _ONCE.replace("KEY", only)
    opening = _HEAD.replace("ONCE", once).replace("ROWS", rows).replace("ROW", row)
    source = opening + "\n".join(_BODY + line for line in lines)
    source += _TAIL.replace("PLACE", PLACE)
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
        "again": again,
        "UNSET": UNSET,
        "decode": decode,
        "decoded": decoded,
        "decoding": decoder(decoded),
        "loads": _LOADS,
        "marked": marked,
        "plain": plain,
        "present": present,
        "scalar": scalar,
        "settle": settle_missing,
        "settled": settled,
        "signed": signed,
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
_LINE: Final = pattern(r"[A-Za-z0-9_ .,:()\[\]{}=!<>+%-]+")
