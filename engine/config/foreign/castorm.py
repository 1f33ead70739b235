"""
Castorm: what another HTTP source's keys become.

Owns the conversion of its pointers, pairs and FreeMarker expressions; what
of FreeMarker has no equal in our templates is refused.

Path: ``foreign.rows`` -> here -> ``translation``
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.config.entries import Entry
from engine.config.foreign.convert import (
    Convert,
    dotted,
    mapping_of,
    pairs,
    quoted,
)
from engine.config.foreign.convert import headers as split_headers
from engine.config.foreign.translation import Translation
from engine.later import pattern

_PACKAGE = "com.github.castorm."
#: FreeMarker's interpolations, and what else of it may stand in a template.
_PLACE = pattern(r"\$\{\s*([^{}]*?)\s*\}")
_HEAD = pattern(
    r"(?:offset\s*\.\s*(\w+)|offset\s*\[\s*(?:'(\w+)'|\"(\w+)\")\s*\]|(\w+))"
)
#: What may follow a name: a built-in with arguments, a default, a division.
_STEP = pattern(
    r"\s*(?:\?\s*(\w+(?:\s*\.\s*\w+)?)"
    r"(?:\s*[\[(]((?:\s*,?\s*(?:'[^']*'|\"[^\"]*\"))*)\s*[\])])?"
    r"|!\s*('[^']*'|\"[^\"]*\"|-?[0-9]+)|/\s*([0-9]+))"
)
_LITERAL = pattern(r"'([^']*)'|\"([^\"]*)\"")
_JSON_NUMBER = pattern(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_DIRECTIVE = pattern(r"<#|<@")
_FREEMARKER = pattern(r"\?\s*[a-z]|!")

#: Built-ins that leave a time or a text as it is.
_AS_IT_IS = frozenset(
    ("datetime", "datetime.iso", "date", "date.iso", "time.iso", "c", "url", "string")
)
_FUNCTIONS = {
    "upper_case": "upper",
    "lower_case": "lower",
    "trim": "trim",
    "iso_utc": "instant",
    "string.iso": "instant",
}
_OFFSET = "http.response.record.offset.pointer"
_PARSER = "http.response.record.timestamp.parser"
#: Where templates stand that may name the offset.
_TEMPLATES = ("url", "params", "body", "headers")


def template(key: str) -> Convert:
    """A FreeMarker template to one of ours."""

    def convert(t: Translation, number: int | None, entry: Entry) -> None:
        text = rewritten(t, number, entry, entry.text)
        if text is not None and t.put(number, key, text, entry):
            if text == entry.text:
                t.taken(number, entry, key)
            else:
                t.became(number, entry, "", key)

    return convert


def rewritten(
    t: Translation, number: int | None, entry: Entry, text: str
) -> str | None:
    """A template of an entry in our language; None: it was refused."""
    if t.dialect != "castorm" and "${offset." not in text:
        return text
    pointers = dict(_pairs_of(t, number, _OFFSET))
    initial = dict(_pairs_of(t, number, "http.offset.initial"))
    wrong: list[str] = []
    # There it stands as it is, and a number is none of a text.
    in_body = entry.key.endswith("body")

    def replace(found: re.Match[str]) -> str:
        inner = found.group(1)
        head = _HEAD.match(inner)
        names = [name for name in head.groups() if name] if head is not None else []
        bare = head is not None and head.group(4) is not None
        if not names or (bare and names[0] not in pointers):
            if _FREEMARKER.search(inner):
                wrong.append(f"FreeMarker's {inner!r} has no equal in our templates")
            return found.group()
        assert head is not None
        name, rest = names[0], inner[head.end() :]
        if name not in pointers:
            wrong.append(f"{_OFFSET} names no {name!r}")
            return found.group()
        try:
            first = initial.get(name)
            if first is not None and not (in_body and _JSON_NUMBER.fullmatch(first)):
                first = quoted(first)
            value = _value(t, number, name, pointers[name], first)
            return f"${{{_followed(value, rest, timed=name == 'timestamp')}}}"
        except LookupError as e:
            wrong.append(f"FreeMarker's {e.args[0]!r} has no equal in our templates")
            return found.group()

    made = _PLACE.sub(replace, text)
    if not wrong and _DIRECTIVE.search(made):
        wrong.append("FreeMarker's directives have no equal in our templates")
    if wrong:
        t.refuse(entry, wrong[0])
        return None
    return made


def _value(
    t: Translation, number: int | None, name: str, pointer: str, first: str | None
) -> str:
    """What `offset.name` is: a field of the last record, or its first value."""
    field = f"last.{dotted(pointer)}"
    if name == "timestamp":
        field = _parsed(t, number, field)
    parts = [field] if first is None else [field, first]
    return f"coalesce({', '.join(parts)})"


def _followed(value: str, rest: str, *, timed: bool) -> str:
    """
    A value with FreeMarker's built-ins behind it.

    Raises: LookupError: with what has no equal.
    """
    # Theirs is an instant from the start, whatever the record has.
    plain = timed
    while rest.strip():
        step = _STEP.match(rest)
        if step is None:
            raise LookupError(rest.strip())
        name, listed, default, divisor = step.groups()
        if default is not None:
            value = f"coalesce({value}, {_ours(default)})"
        elif divisor is not None:
            value = f"floor({value} / {divisor})"
        else:
            value = _built_in(value, "".join(name.split()), _listed(listed), timed)
        plain = False
        rest = rest[step.end() :]
    return f"instant({value})" if plain else value


def _built_in(value: str, name: str, given: list[str], timed: bool) -> str:
    if name == "string" and len(given) == 1:
        return f"format({value}, {quoted(given[0])})"
    if name == "replace" and len(given) == 2:
        return f"replace({value}, {quoted(given[0])}, {quoted(given[1])})"
    if given:
        raise LookupError(f"?{name}(...)")
    if name in ("long", "number", "int"):
        return f"epoch_ms({value})" if timed and name == "long" else value
    if name in _FUNCTIONS:
        return f"{_FUNCTIONS[name]}({value})"
    if name in _AS_IT_IS:
        return value
    raise LookupError(f"?{name}")


def _listed(text: str | None) -> list[str]:
    return [a or b for a, b in _LITERAL.findall(text or "")]


def _ours(literal: str) -> str:
    return quoted(literal[1:-1]) if literal[0] in "'\"" else literal


def _parsed(t: Translation, number: int | None, field: str) -> str:
    """A field as a time, where its pattern is known."""
    stated = t.peek(number, f"{_PARSER}.pattern")
    if stated is None:
        return field
    zone = t.peek(number, f"{_PARSER}.zone")
    arguments = [field, quoted(stated.text)]
    if zone is not None:
        arguments.append(quoted(zone.text))
    return f"parse({', '.join(arguments)})"


def _pairs_of(t: Translation, number: int | None, key: str) -> list[tuple[str, str]]:
    entry = t.peek(number, key)
    return (pairs(entry.text) or []) if entry is not None else []


def headers(t: Translation, number: int | None, entry: Entry) -> None:
    """Headers, separated by commas in its files; `\\,` is a comma of a value."""
    if t.dialect != "castorm":
        split_headers(t, number, entry)
        return
    done = []
    for item in _items(entry.text):
        name, colon, value = item.partition(":")
        if not colon:
            # Its own quick start has it so.
            name, colon, value = item.partition("=")
        name = name.strip()
        if not colon or not name:
            t.refuse(entry, f"{item!r} has no ':'; allowed: Name: value, Name: value")
            return
        made = rewritten(t, number, entry, value.strip())
        if made is None:
            return
        key = f"http.source.header.{name}"
        if t.put(number, key, made, entry):
            done.append(key)
    t.became(number, entry, "", *done)


def _items(text: str) -> list[str]:
    """What stands between commas that are neither escaped nor within `${...}`."""
    items, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        if text.startswith("${", at):
            depth += 1
        elif letter == "}" and depth:
            depth -= 1
        elif letter == "," and not depth and text[at - 1 : at] != "\\":
            items.append(text[start:at])
            start = at + 1
    items.append(text[start:])
    return [item.strip().replace("\\,", ",") for item in items if item.strip()]


def initial_offset(t: Translation, number: int | None, entry: Entry) -> None:
    """Pairs of names and first values; templates have taken theirs."""
    found = pairs(entry.text)
    if not found:
        t.refuse(entry, "allowed: name=value, name=value")
        return
    places = dict(_pairs_of(t, number, _OFFSET))
    alone = len(found) == 1 and found[0][0] in (_chosen(t, number, places), None)
    if not alone and (places or len(found) > 1):
        t.notice(entry, "taken into the templates that use ${offset.name}")
    elif t.put(number, "http.initial.offset", found[0][1], entry):
        t.became(number, entry, "", "http.initial.offset")


def _chosen(
    t: Translation, number: int | None, places: Mapping[str, str]
) -> str | None:
    """
    The name whose value says how far polls have come.

    One of the file's own before the time and the key, unless requests go by the time
    alone and it has no first value: such a one tells records of one time apart.
    """
    own = [name for name in places if name not in ("key", "timestamp")]
    if own and "timestamp" in places:
        texts = [t.peek(number, f"http.request.{name}") for name in _TEMPLATES]
        used = " ".join(each.text for each in texts if each is not None)
        initial = dict(_pairs_of(t, number, "http.offset.initial"))
        by_time = re.search(r"\$\{[^}]*\btimestamp\b", used) is not None
        own = [
            name
            for name in own
            if not by_time
            or name in initial
            or re.search(rf"\$\{{[^}}]*\b{re.escape(name)}\b", used)
        ]
    return next((name for name in (*own, "timestamp", "key") if name in places), None)


def list_pointer(t: Translation, number: int | None, entry: Entry) -> None:
    """Where the records are; `/` is the whole document there."""
    key = "http.response.data.json.pointer"
    if entry.text == "/":
        t.notice(entry, f"the whole document, as without {key}")
    elif t.put(number, key, entry.text, entry):
        t.taken(number, entry, key)


def record_pointer(t: Translation, number: int | None, entry: Entry) -> None:
    """The part of an item that is the record."""
    key = "transformation.field.mappings"
    if entry.text in ("", "/"):
        t.notice(entry, "the whole item, as without it")
    elif t.put(number, key, mapping_of(entry.text), entry):
        t.became(number, entry, "", key)


def offset_pointer(t: Translation, number: int | None, entry: Entry) -> None:
    """Pairs of names and places: key, timestamp, and the offset's own."""
    found = pairs(entry.text)
    if not found:
        t.refuse(entry, "allowed: key=/a, timestamp=/b, name=/c")
        return
    places = dict(found)
    done = []
    for name, key in (("key", "kafka.key"), ("timestamp", "kafka.timestamp")):
        theirs = f"http.response.record.{name}.pointer"
        if name in places and t.peek(number, theirs) is None:
            field = f"record.{dotted(places[name])}"
            if name == "timestamp":
                field = _parsed(t, number, field)
            text = f"${{{field}}}"
            if t.put(number, key, text, entry, weak=True):
                done.append(key)
    chosen = _chosen(t, number, places)
    if chosen is not None:
        pointer = "http.offset.json.pointer"
        t.put(number, pointer, places[chosen], entry)
        t.put(number, "http.offset.mode", "INCREMENTAL", entry, weak=True)
        done += [pointer, "http.offset.mode"]
    if chosen == "timestamp":
        done += _as_time(t, number, entry)
    note = "records of the same time are kept apart by their hash"
    t.became(number, entry, note, *done)


def _as_time(t: Translation, number: int | None, entry: Entry) -> list[str]:
    """The bookmark compares as a time of the pattern that the parser has."""
    stated = t.peek(number, f"{_PARSER}.pattern")
    zone = t.peek(number, f"{_PARSER}.zone")
    done = []
    if stated is not None:
        t.put(number, "http.offset.value.type", "timestamp", stated, weak=True)
        t.put(number, "http.offset.value.format", stated.text, stated, weak=True)
        done += ["http.offset.value.type", "http.offset.value.format"]
        if zone is not None:
            t.put(number, "http.offset.zone", zone.text, zone, weak=True)
            done.append("http.offset.zone")
    return done


def key_pointer(t: Translation, number: int | None, entry: Entry) -> None:
    """Where the key stands; several places are one key, with `+` between them."""
    places = [place.strip() for place in entry.text.split(",") if place.strip()]
    text = "+".join(f"${{record.{dotted(place)}}}" for place in places)
    if t.put(number, "kafka.key", text, entry):
        t.became(number, entry, "", "kafka.key")


def timestamp_pointer(t: Translation, number: int | None, entry: Entry) -> None:
    """Where the time stands, and how it is written."""
    if not readable(t, number, entry):
        return
    text = f"${{{_parsed(t, number, f'record.{dotted(entry.text)}')}}}"
    if t.put(number, "kafka.timestamp", text, entry):
        t.became(number, entry, "", "kafka.timestamp")


def readable(t: Translation, number: int | None, entry: Entry) -> bool:
    """True if times are read by a parser that has an equal here; else it is refused."""
    name, regex = t.peek(number, _PARSER), t.peek(number, f"{_PARSER}.regex")
    kind = name.text.rpartition(".")[2] if name is not None else ""
    if regex is not None or "Regex" in kind:
        t.refuse(
            regex or entry, "no times by regular expression: write kafka.timestamp"
        )
        return False
    if name is not None and not name.text.startswith(_PACKAGE) and "." in name.text:
        t.refuse(name, "somebody's own class: write kafka.timestamp")
        return False
    return True


def time_parser(t: Translation, number: int | None, entry: Entry) -> None:
    """How times are written: said by where they stand, or without such a place."""
    pointer = "http.response.record.timestamp.pointer"
    if t.peek(number, pointer) is not None:
        return
    if "timestamp" in dict(_pairs_of(t, number, _OFFSET)):
        if entry.key.endswith("timestamp.parser"):
            readable(t, number, entry)
            return
        if entry.key.endswith((".pattern", ".zone")):
            return
    if "regex" in entry.key.lower() or "Regex" in entry.text:
        t.refuse(entry, "no times by regular expression: write kafka.timestamp")
    else:
        t.void(entry, "http.response.record.timestamp.pointer is not there")


def read_timeout(t: Translation, number: int | None, entry: Entry) -> None:
    """Milliseconds to wait for bytes; 0 is for ever there."""
    key = "http.client.socket.timeout.ms"
    if entry.text.strip() == "0":
        t.void(entry, f"0 is no timeout there; {key} is always there")
    elif t.put(number, key, entry.text, entry):
        t.taken(number, entry, key)


def catching_up(t: Translation, number: int | None, entry: Entry) -> None:
    """How soon it asks again while what comes is old."""
    key = "http.source.poll.catchup.interval.ms"
    if t.peek(number, _OFFSET) is None:
        # There the time of a record is that of its poll then, which is never old.
        t.void(entry, f"without {_OFFSET} each poll reads the same, there as here")
    elif t.put(number, key, entry.text, entry):
        t.taken(number, entry, key)


def status_codes(key: str) -> Convert:
    """`200..299` to `200-299`."""

    def convert(t: Translation, number: int | None, entry: Entry) -> None:
        if t.put(number, key, entry.text.replace("..", "-"), entry):
            t.became(number, entry, "", key)

    return convert


def class_name(t: Translation, number: int | None, entry: Entry) -> None:
    """One of its own classes says nothing; somebody else's would do something."""
    if entry.text.endswith("SchemedKvSourceRecordMapper"):
        t.refuse(entry, "no key/value envelope: kafka.key and value.converter")
    elif entry.text.startswith(_PACKAGE) or "." not in entry.text:
        t.void(entry, "what that class does is decided by keys here")
    else:
        t.refuse(entry, "a class of somebody's own cannot run here")
