"""
Castorm: what another HTTP source's keys become.

Owns the conversion of its pointers, pairs and FreeMarker expressions; what
of FreeMarker has no equal in our templates is refused.

Path: ``foreign.rows`` -> here -> ``translation``
"""

from __future__ import annotations

import re

from engine.config.entries import Entry
from engine.config.foreign.convert import (
    Convert,
    dotted,
    mapping_of,
    pairs,
    quoted,
)
from engine.config.foreign.translation import Translation
from engine.later import pattern

_PACKAGE = "com.github.castorm."
_OFFSET = pattern(r"\$\{\s*offset\.(\w+)((?:\?[^}]*)?)\}")
_OTHER = pattern(r"<#|<@|\$\{[^}]*(?:\?|!)[^}]*\}|\$\{\s*offset\.")


def template(key: str) -> Convert:
    """A FreeMarker template to one of ours."""

    def convert(t: Translation, number: int | None, entry: Entry) -> None:
        text = _rewritten(t, number, entry)
        if text is not None and t.put(number, key, text, entry):
            if text == entry.text:
                t.taken(number, entry, key)
            else:
                t.became(number, entry, "", key)

    return convert


def _rewritten(t: Translation, number: int | None, entry: Entry) -> str | None:
    if t.dialect != "castorm" and "${offset." not in entry.text:
        return entry.text
    pointers = dict(_pairs_of(t, number, "http.response.record.offset.pointer"))
    initial = dict(_pairs_of(t, number, "http.offset.initial"))
    wrong: list[str] = []

    def replace(found: re.Match[str]) -> str:
        name, rest = found.groups()
        pointer = pointers.get(name)
        if pointer is None:
            wrong.append(f"http.response.record.offset.pointer names no {name!r}")
            return found.group()
        parts = [f"last.{dotted(pointer)}"]
        if name in initial:
            parts.append(quoted(initial[name]))
        value = f"coalesce({', '.join(parts)})"
        if rest == "?datetime.iso?long":
            value = f"epoch_ms({value})"
        elif rest:
            wrong.append(f"FreeMarker's {rest!r} has no equal in our templates")
        return f"${{{value}}}"

    text = _OFFSET.sub(replace, entry.text)
    if not wrong and _OTHER.search(text):
        wrong.append("only ${offset.name} and ?datetime.iso?long are converted")
    if wrong:
        t.refuse(entry, wrong[0])
        return None
    return text


def _pairs_of(t: Translation, number: int | None, key: str) -> list[tuple[str, str]]:
    entry = t.peek(number, key)
    return (pairs(entry.text) or []) if entry is not None else []


def initial_offset(t: Translation, number: int | None, entry: Entry) -> None:
    """Pairs of names and first values; templates have taken theirs."""
    found = pairs(entry.text)
    if not found:
        t.refuse(entry, "allowed: name=value, name=value")
    elif len(found) > 1:
        t.notice(entry, "taken into the templates that use ${offset.name}")
    elif t.put(number, "http.initial.offset", found[0][1], entry):
        t.became(number, entry, "", "http.initial.offset")


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
            text = f"${{record.{dotted(places[name])}}}"
            if t.put(number, key, text, entry, weak=True):
                done.append(key)
    others = [name for name in places if name not in ("key", "timestamp")]
    chosen = next((n for n in (*others, "timestamp", "key") if n in places), None)
    if chosen is not None:
        pointer = "http.offset.json.pointer"
        t.put(number, pointer, places[chosen], entry)
        t.put(number, "http.offset.mode", "INCREMENTAL", entry, weak=True)
        done += [pointer, "http.offset.mode"]
    note = "records of the same time are kept apart by their hash"
    t.became(number, entry, note, *done)


def key_pointer(t: Translation, number: int | None, entry: Entry) -> None:
    """Where the key stands."""
    text = f"${{record.{dotted(entry.text)}}}"
    if t.put(number, "kafka.key", text, entry):
        t.became(number, entry, "", "kafka.key")


def timestamp_pointer(t: Translation, number: int | None, entry: Entry) -> None:
    """Where the time stands, and how it is written."""
    parser = "http.response.record.timestamp.parser"
    name = t.peek(number, parser)
    pattern = t.peek(number, f"{parser}.pattern")
    zone = t.peek(number, f"{parser}.zone")
    regex = t.peek(number, f"{parser}.regex")
    field = f"record.{dotted(entry.text)}"
    kind = name.text.rpartition(".")[2] if name is not None else ""
    if regex is not None or "Regex" in kind:
        t.refuse(
            regex or entry, "no times by regular expression: write kafka.timestamp"
        )
        return
    if name is not None and not name.text.startswith(_PACKAGE) and "." in name.text:
        t.refuse(name, "somebody's own class: write kafka.timestamp")
        return
    if pattern is None:
        text = f"${{{field}}}"
    else:
        arguments = [field, quoted(pattern.text)]
        if zone is not None:
            arguments.append(quoted(zone.text))
        text = f"${{parse({', '.join(arguments)})}}"
    if t.put(number, "kafka.timestamp", text, entry):
        t.became(number, entry, "", "kafka.timestamp")


def lone_parser(t: Translation, number: int | None, entry: Entry) -> None:
    """How times are written, without a place where they stand."""
    if "regex" in entry.key.lower() or "Regex" in entry.text:
        t.refuse(entry, "no times by regular expression: write kafka.timestamp")
    else:
        t.void(entry, "http.response.record.timestamp.pointer is not there")


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
