"""
Convert: foreign values that need more than another name.

Owns one function for each foreign key whose value changes on the way: other units,
separators, several keys that become one. A function puts our keys and says what it put;
what it cannot put it refuses. It is long as a
table is, of functions: one for each foreign meaning that is more than a name.

Path: ``foreign.rows`` -> here -> ``translation``
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from engine.config.entries import Entry
from engine.config.foreign.translation import Translation
from engine.config.kinds import InvalidValue, split_headers
from engine.later import pattern

#: Puts what an entry of this api means.
Convert: TypeAlias = Callable[[Translation, "int | None", Entry], None]


def values(
    key: str,
    table: Mapping[str, str | Sequence[tuple[str, str]]],
    *,
    refused: Mapping[str, str] | None = None,
    void: Mapping[str, str] | None = None,
    note: str = "",
) -> Convert:
    """
    A conversion by a table of values, any case, `-` for `_`.

    Args:
        table: Their value -> ours, or several of our keys with values.
        refused, void: Their value -> the reason.
    """

    def convert(t: Translation, number: int | None, entry: Entry) -> None:
        word = entry.text.strip().upper().replace("-", "_")
        if word in (refused or {}):
            t.refuse(entry, (refused or {})[word])
        elif word in (void or {}):
            t.void(entry, (void or {})[word])
        elif (ours := table.get(word)) is None:
            known = ", ".join([*table, *(void or {})])
            t.refuse(entry, f"known values are {known}")
        else:
            pairs = [(key, ours)] if isinstance(ours, str) else list(ours)
            done = [
                name
                for at, (name, text) in enumerate(pairs)
                if t.put(number, name, text, entry, weak=at > 0)
            ]
            t.became(number, entry, note, *done)

    return convert


def seconds(key: str) -> Convert:
    """Milliseconds to seconds; what is no whole second is refused."""

    def convert(t: Translation, number: int | None, entry: Entry) -> None:
        if not re.fullmatch("[0-9]{1,18}", entry.text) or int(entry.text) % 1000:
            t.refuse(entry, f"write {key} in whole seconds")
        elif t.put(number, key, str(int(entry.text) // 1000), entry):
            t.became(number, entry, "", key)

    return convert


def headers(t: Translation, number: int | None, entry: Entry) -> None:
    """Items at another separator."""
    separator = t.peek(number, "http.request.headers.separator")
    mark = separator.text if separator is not None else "|"
    items = [item.strip() for item in entry.text.split(mark) if item.strip()]
    text = ";".join(items)
    try:
        kept = [f"{name}:{value}" for name, value in split_headers(text)]
    except InvalidValue as error:
        t.refuse(entry, f"{error}")
        return
    if len(kept) != len(items):
        t.refuse(
            entry,
            "a ';' in a value reads like another header: write "
            "http.source.header.<Name>=value for each",
        )
    elif t.put(number, "http.source.headers", text, entry):
        t.taken(number, entry, "http.source.headers")


def sensitive_headers(t: Translation, number: int | None, entry: Entry) -> None:
    """The same, each a header of its own whose value never shows."""
    separator = t.peek(number, "http.request.headers.separator")
    mark = separator.text if separator is not None else "|"
    done = False
    for item in filter(None, map(str.strip, entry.text.split(mark))):
        name, colon, value = (part.strip() for part in item.partition(":"))
        if not colon or not name:
            t.refuse(entry, "allowed: Name:value, separated by " + mark)
            return
        key = f"http.source.header.{name}"
        done = t.put(number, key, value, entry, secret=True) or done
    if done:
        t.taken(number, entry, "http.source.header.<Name>", "values are secret")


def parameters(t: Translation, number: int | None, entry: Entry) -> None:
    """Query parameters at another separator."""
    separator = t.peek(number, "http.request.parameters.separator")
    text = entry.text
    if separator is not None and separator.text != "&":
        text = "&".join(
            item.strip().replace("&", "%26")
            for item in text.split(separator.text)
            if item.strip()
        )
    if t.put(number, "http.source.query.params", text, entry):
        note = "here also sent with POST"
        t.became(number, entry, note, "http.source.query.params")


def api_path(t: Translation, number: int | None, entry: Entry) -> None:
    """A path behind the base URL, whose own path is kept."""
    text = entry.text
    given = t.peek(number, "http.path.parameters")
    mark = t.peek(number, "http.path.parameters.separator")
    if given is not None:
        separator = mark.text if mark is not None else "|"
        for item in filter(None, map(str.strip, given.text.split(separator))):
            found = re.fullmatch(r"\{?([\w.-]+)\}?\s*[=:]\s*(.*)", item)
            if found is None or f"{{{found.group(1)}}}" not in text:
                t.refuse(given, f"{item!r} fits no {{name}} of the path")
                return
            text = text.replace(f"{{{found.group(1)}}}", found.group(2))
        t.notice(given, f"put into the path: {text}")
    base = t.peek(number, "http.api.base.url")
    if base is not None and not re.match("[a-z]+:", text, re.IGNORECASE):
        text = f"{base.text.rstrip('/')}/{text.lstrip('/')}"
    if t.put(number, "http.source.url", text, entry):
        t.became(number, entry, "", "http.source.url")


def part(of: str, instead: Convert | str) -> Convert:
    """
    A key that another one has taken in; alone it is `instead`.

    Args:
        instead: A conversion, or the reason why it has no effect.
    """

    def convert(t: Translation, number: int | None, entry: Entry) -> None:
        if t.stated(number, of) or t.stated(None, of):
            return
        if isinstance(instead, str):
            t.void(entry, instead)
        else:
            instead(t, number, entry)

    return convert


def lone_path_parameters(t: Translation, number: int | None, entry: Entry) -> None:
    """Path parameters without a path to put them into."""
    t.refuse(entry, "it belongs to http.api.path; write ${...} into http.source.url")


def timestamp_interval(t: Translation, number: int | None, entry: Entry) -> None:
    """A length of time and its unit, to seconds."""
    unit = t.peek(number, "timestamp.interval.format") or t.peek(
        number, "http.timestamp.interval.format"
    )
    units = {
        "MILLISECONDS": 0.001,
        "MILLIS": 0.001,
        "SECONDS": 1,
        "MINUTES": 60,
        "HOURS": 3600,
        "DAYS": 86400,
    }
    word = unit.text.strip().upper() if unit is not None else "SECONDS"
    factor = units.get(word) or units.get(f"{word}S")
    if factor is None or not re.fullmatch("[0-9]{1,15}", entry.text):
        t.refuse(entry, "write http.source.window.size.seconds")
        return
    seconds_long = int(entry.text) * factor
    if seconds_long < 1 or seconds_long != int(seconds_long):
        t.refuse(entry, "write http.source.window.size.seconds in whole seconds")
        return
    key = "http.source.window.size.seconds"
    if t.put(number, key, str(int(seconds_long)), entry):
        t.became(number, entry, "", key)


#: How the bounds of a window are named in requests.
_BOUND = pattern(
    r"\$\{\s*(start|end)[._]?(?:time|date|time_?stamp)\s*\}", re.IGNORECASE
)
_CURSOR = pattern(r"\$\{\s*offset\s*\}")
#: Keys that stand in a request, as theirs and as ours.
_ASKING = ("http.api.path", "http.path.parameters", "url", "http.source.")
_REQUEST = "http.request."


def timestamp_mode(kind: str) -> Convert:
    """A walk in windows of time, which are on where their size is known."""

    def convert(t: Translation, number: int | None, entry: Entry) -> None:
        on = "windows are on where http.source.window.size.seconds is"
        if entry.text.lower() != "true":
            t.void(entry, on)
            return
        done = []
        # That one says whether cursors are URLs, and what the type is.
        if t.peek(number, "is.next.page.token.absolute.url") is None and t.put(
            number, "pagination.type", kind, entry, weak=True
        ):
            done.append("pagination.type")
        sizes = ("http.timestamp.interval", "http.source.window.size.seconds")
        if any(t.peek(number, name) is not None for name in sizes):
            # Windows carry on from poll to poll, and pages within a window.
            if t.peek(number, "http.offset.mode") is not None:
                t.drop(number, "http.offset.mode")
                t.put(number, "http.offset.mode", "FULL", entry)
                done.append("http.offset.mode")
            _rename(t, number, _BOUND, lambda m: f"${{window.{m.group(1).lower()}}}")
            if kind == "cursor":
                _rename(t, number, _CURSOR, lambda m: "${cursor}")
        t.became(number, entry, on, *done)

    return convert


def _rename(
    t: Translation,
    number: int | None,
    what: re.Pattern[str],
    by: Callable[[re.Match[str]], str],
) -> None:
    """Change what the requests of an api name."""
    prefix = "" if number is None else f"api{number}."
    for entries in (t.ours, t.entries):
        for key, other in list(entries.items()):
            name = key.removeprefix(prefix)
            asks = name.startswith((_REQUEST, *_ASKING)) and key.startswith(prefix)
            if asks and what.search(other.text):
                entries[key] = _with_text(other, what.sub(by, other.text))


def _with_text(entry: Entry, text: str) -> Entry:
    return Entry(
        entry.key,
        text,
        entry.file,
        entry.line,
        entry.near,
        public=entry.public,
        secret=entry.secret,
    )


def timestamp_pointer(t: Translation, number: int | None, entry: Entry) -> None:
    """Where records have their time: the bookmark, where polls go by one."""
    mode = t.peek(number, "http.offset.mode")
    by_time = ("INCREMENTAL", "TIMESTAMP", "TIMESTAMP_PAGINATION")
    if mode is not None and mode.text.strip().upper() in by_time:
        pointer = "http.offset.json.pointer"
        t.put(number, pointer, entry.text, entry, weak=True)
        t.became(number, entry, "", pointer)
    else:
        t.void(entry, "windows come from the clock and the state")


def primary_key(t: Translation, number: int | None, entry: Entry) -> None:
    """`${primary_key}` in requests becomes the field of the last record."""
    name = f"${{last.{dotted(entry.text)}}}"
    changed = []
    for entries in (t.ours, t.entries):
        for key, other in list(entries.items()):
            if "${primary_key}" in other.text:
                text = other.text.replace("${primary_key}", name)
                entries[key] = _with_text(other, text)
                changed.append(key)
    where = ", ".join(changed) or "nothing uses it"
    t.notice(entry, f"${{primary_key}} is {name} ({where})")


def relationship(t: Translation, number: int | None, entry: Entry) -> None:
    """Pairs of apis: `parent::child` or `child:parent`."""
    done = []
    for item in filter(None, map(str.strip, entry.text.split(","))):
        two = re.fullmatch(r"api([0-9]+)\s*::\s*api([0-9]+)", item)
        one = re.fullmatch(r"api([0-9]+)\s*:\s*api([0-9]+)", item)
        if two is not None:
            parent, child = two.groups()
        elif one is not None:
            child, parent = one.groups()
        else:
            t.refuse(entry, f"{item!r}: allowed: api1::api2, parent first")
            return
        if t.put(int(child), "api.chaining.parent", f"api{parent}", entry):
            done.append(f"api{child}.api.chaining.parent=api{parent}")
    t.notice(entry, f"taken as {', '.join(done) or 'nothing'}")


def chained_pair(t: Translation, number: int | None, entry: Entry) -> None:
    """One api with a chained request becomes a parent and a child."""
    prefixed = [name for name in (*t.entries, *t.ours) if re.match(r"api\d+\.", name)]
    switch = t.peek(number, "api.chaining.enabled")
    method = t.peek(number, "api.chaining.method")
    if switch is not None and switch.text.lower() != "true":
        t.void(entry, "api.chaining.enabled is false")
        return
    if number is not None or prefixed:
        t.refuse(
            entry,
            "write the child as an api of its own: apiN.http.source.url and "
            "apiN.api.chaining.parent",
        )
        return
    url = re.sub(r"(?<!\$)\{([^{}]+)\}", r"${parent.\1}", entry.text)
    t.put(1, "api.name", "api1", entry, weak=True)
    t.put(2, "http.source.url", url, entry)
    t.put(2, "api.chaining.parent", "api1", entry)
    if method is not None:
        t.put(2, "http.source.method", method.text, method)
    t.became(
        2, entry, "", "http.source.url", "api.chaining.parent", "http.source.method"
    )


def pins(t: Translation, number: int | None, entry: Entry) -> None:
    """Pins with or without the name of their hash."""
    switch = t.peek(number, "ssl.certificate.pinning.enabled")
    if switch is not None and switch.text.lower() == "false":
        t.void(entry, "ssl.certificate.pinning.enabled is false")
        return
    items = [item.strip() for item in entry.text.split(",")]
    text = ",".join(
        item if item.startswith("sha256/") else f"sha256/{item}" for item in items
    )
    if t.put(number, "https.ssl.certificate.pins", text, entry):
        t.became(number, entry, "", "https.ssl.certificate.pins")


def attempts(t: Translation, number: int | None, entry: Entry) -> None:
    """Attempts count the first try, retries do not."""
    switch = t.peek(number, "http.retry.enabled")
    off = switch is not None and switch.text.lower() == "false"
    if not re.fullmatch("[0-9]{1,9}", entry.text) or int(entry.text) < 1:
        t.refuse(entry, "write max.retries")
        return
    text = "0" if off else str(int(entry.text) - 1)
    if t.put(number, "max.retries", text, entry):
        t.became(number, entry, "", "max.retries")


def retry_switch(t: Translation, number: int | None, entry: Entry) -> None:
    """Retries on or off, without a number of attempts."""
    if entry.text.lower() == "true":
        t.void(entry, "max.retries says how many")
    elif t.put(number, "max.retries", "0", entry):
        t.became(number, entry, "", "max.retries")


def dlq_switch(t: Translation, number: int | None, entry: Entry) -> None:
    """Dead letters on or off."""
    if entry.text.lower() == "true":
        if t.peek(number, "error.tolerance") is None:
            t.put(number, "errors.tolerance", "all", entry, weak=True)
        t.became(number, entry, "", "errors.tolerance")
        return
    for key in ("dlq.topic.name", "errors.deadletterqueue.topic.name"):
        topic = t.drop(number, key)
        if topic is not None:
            t.void(topic, "dlq.enabled is false")
    t.void(entry, "without errors.deadletterqueue.topic.name there are none")


def listeners(port_key: str, host_key: str) -> Convert:
    """A port and an address to one listener."""

    def convert(t: Translation, number: int | None, entry: Entry) -> None:
        port, host = t.peek(None, port_key), t.peek(None, host_key)
        address = host.text.strip() if host is not None else "127.0.0.1"
        if ":" in address and not address.startswith("["):
            address = f"[{address}]"
        text = f"http://{address}:{port.text.strip() if port else '8080'}"
        if t.put(None, "listeners", text, entry):
            t.became(None, entry, "", "listeners")

    return convert


def rate_limiting(t: Translation, number: int | None, entry: Entry) -> None:
    """`ratelimit.*` and `rate.limiting.*` to `rate.limit.*`."""
    suffix = re.sub(r"^(api\d+\.)?(ratelimit|rate\.limiting)\.", "", entry.key)
    if suffix.startswith(("schedule", "per.host", "host")):
        t.refuse(entry, "one rate by rate.limit.scope; PER_HOST counts each host")
        return
    renamed = {"burst.size": "burst.capacity", "window.size.ms": "window.ms"}
    key = f"rate.limit.{renamed.get(suffix, suffix)}"
    from_table = {
        "rate.limit.enabled",
        "rate.limit.requests.per.second",
        "rate.limit.algorithm",
        "rate.limit.burst.capacity",
        "rate.limit.scope",
        "rate.limit.window.ms",
        "rate.limit.respect.headers",
        "rate.limit.retry.after.max.ms",
        "rate.limit.adaptive.enabled",
    }
    if key not in from_table:
        t.refuse(entry, f"known are {', '.join(sorted(from_table))}")
    elif t.put(number, key, entry.text, entry):
        t.taken(number, entry, key)


def warming_strategy(t: Translation, number: int | None, entry: Entry) -> None:
    """One strategy; a schedule needs none."""
    if entry.text.strip().upper() == "SCHEDULED":
        t.void(entry, "cache.warming.schedule says it")
    elif t.put(number, "cache.warming.strategies", entry.text, entry):
        t.taken(number, entry, "cache.warming.strategies")


def key_field(t: Translation, number: int | None, entry: Entry) -> None:
    """A field to partition by is the record's key."""
    text = f"${{record.{dotted(entry.text)}}}"
    if t.put(number, "kafka.key", text, entry):
        t.became(number, entry, "the partition is the key's hash", "kafka.key")


def debug_logging(t: Translation, number: int | None, entry: Entry) -> None:
    """A switch for debug lines."""
    if entry.text.lower() != "true":
        t.void(entry, "log.level says it")
    elif t.put(None, "log.level", "DEBUG", entry):
        t.became(None, entry, "", "log.level")


def strict_schema(t: Translation, number: int | None, entry: Entry) -> None:
    """A schema to hold responses against."""
    if entry.text.strip().upper() == "STRICT":
        t.refuse(entry, "write transformation.validation.rules")
    else:
        t.void(entry, "responses are held against transformation.validation.rules")


#: What of ours does the work of Connect's transforms.
_TRANSFORMS = {
    "Cast": "transformation.field.mappings (type)",
    "ReplaceField": "transformation.field.mappings",
    "ExtractField": "transformation.field.mappings",
    "HoistField": "transformation.field.mappings",
    "TimestampConverter": "transformation.field.mappings (type TIMESTAMP)",
    "InsertField": "transformation.enrichment.rules",
    "Filter": "transformation.filter.expressions",
    "InsertHeader": "kafka.headers",
    "RegexRouter": "kafka.topic",
    "TimestampRouter": "kafka.topic",
    "ValueToKey": "kafka.key",
    "MaskField": "mask() in transformation.enrichment.rules",
}


def transforms(t: Translation, number: int | None, entry: Entry) -> None:
    """Connect's transforms: what of ours does their work."""
    name = entry.text.partition("$")[0].rpartition(".")[2]
    if entry.key.endswith(".type") and name in _TRANSFORMS:
        t.refuse(entry, f"{name} is {_TRANSFORMS[name]} here")
    else:
        t.refuse(
            entry,
            "there are no transforms or predicates here: mappings, enrichment, "
            "filters, kafka.topic, kafka.key and kafka.headers do their work",
        )


def dotted(pointer: str) -> str:
    """A pointer as a dotted path: places in brackets, names quoted if they have to be."""
    if not pointer.startswith("/"):
        return pointer
    path = ""
    for token in pointer[1:].split("/"):
        name = token.replace("~1", "/").replace("~0", "~")
        if path and re.fullmatch("0|[1-9][0-9]*", name):
            # Theirs are members or places; a member that is a number is rare.
            path += f"[{name}]"
            continue
        plain = re.fullmatch(r"[A-Za-z_]\w*", name)
        quoted = name.replace("'", "''")
        path += f".{name}" if plain else f".'{quoted}'"
    return path[1:]


def pairs(text: str) -> list[tuple[str, str]] | None:
    """`a=1, b=2` as pairs, or None."""
    found = []
    for item in filter(None, map(str.strip, text.split(","))):
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            return None
        found.append((name.strip(), value.strip()))
    return found


def quoted(text: str) -> str:
    """A text literal of the template language."""
    return "'" + text.replace("'", "''") + "'"


def mapping_of(pointer: str) -> str:
    """The mapping that makes a part of a record the whole of it."""
    return json.dumps([{"source": pointer, "target": ""}])
