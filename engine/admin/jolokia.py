"""
Jolokia: the beans over HTTP, as Jolokia's protocol 8.2 has it.

Owns object names, patterns, the escapes of its paths and its error words.
Reading only: `read`, `search`, `list`, `version`, single and in bulk; `exec`
and `write` are refused.

A failure of JMX is told inside an answer with HTTP status 200, as Jolokia's
own agents do; only a body that is no JSON is HTTP 400.

Source: Jolokia reference manual 2.x, chapter "Jolokia Protocol".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from msgspec import Struct

from engine.admin.answers import (
    BOUNDS,
    JSON,
    AdminRequest,
    AdminResponse,
    Malformed,
    RequestLimits,
    json_answer,
    plain,
    read_json,
)
from engine.admin.beans import Bean
from engine.language.globs import compile_wildcards
from engine.later import pattern
from engine.observe.names import Attribute

#: The agent whose behaviour is followed, and its protocol.
AGENT = "2.5.0"
PROTOCOL = "8.2"

#: As an attribute, every attribute: jolokia.js asks so.
ALL = "*"

INSTANCE = "javax.management.InstanceNotFoundException"
ATTRIBUTE = "javax.management.AttributeNotFoundException"
MALFORMED = "javax.management.MalformedObjectNameException"
ARGUMENT = "java.lang.IllegalArgumentException"
SECURITY = "java.lang.SecurityException"


class JolokiaError(Exception):
    """A failure that is told inside the answer."""

    def __init__(self, kind: str, message: str, status: int):
        super().__init__(message)
        self.kind = kind
        self.status = status


class ObjectName(Struct, frozen=True):
    """
    A name or a pattern.

    Attributes:
        domain: May hold `*` and `?`.
        properties: Key -> value, values may hold `*` and `?`.
        open: True if it ends in `*`: further keys may follow.
    """

    domain: str
    properties: Mapping[str, str]
    open: bool = False

    @property
    def pattern(self) -> bool:
        """True if more than one bean may match."""
        texts = (self.domain, *self.properties.values())
        return self.open or any("*" in text or "?" in text for text in texts)

    def matches(self, bean: Bean) -> bool:
        """True if the bean has this name, in any order of its keys."""
        given = dict(bean.properties)
        if not self.open and self.properties.keys() != given.keys():
            return False
        return compile_wildcards(self.domain)(bean.domain) and all(
            key in given and compile_wildcards(value)(given[key])
            for key, value in self.properties.items()
        )


_PROPERTY = pattern(r'([^,=:*?]+)=("(?:[^"\\]|\\.)*"|[^,=:"]*)(?:,|$)')


def object_name(text: str) -> ObjectName:
    """
    Read an object name or pattern.

    Raises: Refused.
    """
    domain, colon, rest = text.partition(":")
    properties: dict[str, str] = {}
    is_open = False
    at = 0
    if not colon or not rest:
        raise JolokiaError(MALFORMED, f"{MALFORMED} : Domain part or keys missing", 400)
    while at < len(rest):
        if rest[at:] == "*" or rest.startswith("*,", at):
            is_open = True
            at += 2
            continue
        found = _PROPERTY.match(rest, at)
        if found is None or found[1] in properties:
            raise JolokiaError(MALFORMED, f"{MALFORMED} : Invalid name '{text}'", 400)
        properties[found[1]] = found[2]
        at = found.end()
    return ObjectName(domain or "*", properties, is_open)


def split(path: str) -> list[str]:
    """The parts of a GET path; `!/`, `!!` and `!"` are escapes."""
    parts: list[list[str]] = [[]]
    at = 0
    while at < len(path):
        sign = path[at]
        if sign == "!" and at + 1 < len(path):
            at += 1
            parts[-1].append(path[at])
        elif sign == "/":
            parts.append([])
        else:
            parts[-1].append(sign)
        at += 1
    return ["".join(part) for part in parts]


def answer(
    request: AdminRequest,
    beans: Iterable[Bean],
    *,
    seconds: int,
    bounds: RequestLimits = BOUNDS,
) -> AdminResponse:
    """
    The answer to any request under `/jolokia`.

    Args:
        seconds: Of the wall, for the timestamp.
        bounds: Of a bulk request and of its answer.
    """
    known = list(beans)
    options = {name: values[-1] for name, values in request.query.items()}
    if request.method != "POST":
        asked = _from_path(request.path.removeprefix("/jolokia").strip("/"))
        return _answered(_told(asked, options, known, seconds, bounds.answer), options)
    try:
        wanted = read_json(request.body)
    except Malformed as problem:
        return _refused(str(problem), options)
    if not isinstance(wanted, list):
        return _answered(_told(wanted, options, known, seconds, bounds.answer), options)
    if len(wanted) > bounds.requests:
        return _refused(
            f"{len(wanted):,} requests in one, at most {bounds.requests:,} "
            "(admin.jolokia.max.requests)",
            options,
        )
    rest = bounds.answer
    pieces = []
    for single in wanted:
        pieces.append(_told(single, options, known, seconds, rest))
        rest -= len(pieces[-1])
    return _answered(b"[" + b",".join(pieces) + b"]", options)


def _refused(message: str, options: Mapping[str, str]) -> AdminResponse:
    told = _failure({}, ARGUMENT, f"{ARGUMENT} : {message}", 400)
    return _answered(json_answer(400, told).body, options, 400)


def _told(
    asked: Any,
    options: Mapping[str, str],
    beans: Sequence[Bean],
    seconds: int,
    rest: int,
) -> bytes:
    """One answer as JSON; one that is larger than `rest` bytes is a failure."""
    if rest > 0:
        body = json_answer(200, _one(asked, options, beans, seconds)).body
        if len(body) <= rest:
            return body
    message = f"{ARGUMENT} : The answer is too large (admin.jolokia.max.answer.bytes)"
    told = {**_failure({}, ARGUMENT, message, 413), "timestamp": seconds}
    return json_answer(200, told).body


def _answered(
    body: bytes, options: Mapping[str, str], status: int = 200
) -> AdminResponse:
    plain_text = options.get("mimeType") == "text/plain"
    return AdminResponse(
        status, body, "text/plain; charset=utf-8" if plain_text else JSON
    )


def _from_path(path: str) -> dict[str, Any]:
    parts = split(path) if path else ["version"]
    kind = parts[0]
    asked: dict[str, Any] = {"type": kind}
    if kind in ("read", "search", "write", "exec") and len(parts) > 1:
        asked["mbean"] = parts[1]
    if kind == "read" and len(parts) > 2 and parts[2]:
        several = parts[2].split(",")
        if parts[2] != ALL:
            asked["attribute"] = several if len(several) > 1 else parts[2]
        if len(parts) > 3:
            asked["path"] = "/".join(map(_escape, parts[3:]))
    if kind == "list" and len(parts) > 1:
        asked["path"] = "/".join(map(_escape, parts[1:]))
    return asked


def _escape(part: str) -> str:
    return part.replace("!", "!!").replace("/", "!/")


def _one(
    asked: Any, options: Mapping[str, str], beans: Sequence[Bean], seconds: int
) -> dict[str, Any]:
    if not isinstance(asked, dict):
        message = f"{ARGUMENT} : A request must be a JSON object"
        return {**_failure({}, ARGUMENT, message, 400), "timestamp": seconds}
    config = asked.get("config")
    chosen = {**options, **(config if isinstance(config, dict) else {})}
    try:
        value = _value(asked, chosen, beans)
        told: dict[str, Any] = {"request": asked, "value": value, "status": 200}
    except JolokiaError as refused:
        told = _failure(asked, refused.kind, str(refused), refused.status)
    if str(chosen.get("includeRequest", "true")).lower() == "false":
        told.pop("request", None)
    return {**told, "timestamp": seconds}


def _failure(asked: Any, kind: str, message: str, status: int) -> dict[str, Any]:
    return {"request": asked, "error_type": kind, "error": message, "status": status}


def _value(
    asked: Mapping[str, Any], options: Mapping[str, Any], beans: Sequence[Bean]
) -> Any:
    match asked.get("type"):
        case "read":
            return _read(asked, options, beans)
        case "search":
            wanted = object_name(_text(asked, "mbean"))
            return [_named(bean, options) for bean in beans if wanted.matches(bean)]
        case "list":
            return _listed(asked, options, beans)
        case "version":
            return {
                "agent": AGENT,
                "protocol": PROTOCOL,
                "config": {},
                "info": {"product": "kafka-http-source", "vendor": "kafka-http-source"},
                "details": {},
            }
        case "exec" | "write" as kind:
            raise JolokiaError(
                SECURITY, f"{SECURITY} : {kind} is not allowed here", 403
            )
        case kind:
            raise JolokiaError(
                ARGUMENT, f"{ARGUMENT} : Unknown type '{str(kind)[:80]}'", 400
            )


def _text(asked: Mapping[str, Any], name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str) or not value:
        raise JolokiaError(ARGUMENT, f"{ARGUMENT} : No {name} given", 400)
    return value


def _named(bean: Bean, options: Mapping[str, Any]) -> str:
    """Keys in alphabetical order unless `canonicalNaming=false`."""
    return f"{bean.domain}:{_keys(bean, options)}"


def _keys(bean: Bean, options: Mapping[str, Any]) -> str:
    pairs: Sequence[tuple[str, str]] = bean.properties
    if str(options.get("canonicalNaming", "true")).lower() != "false":
        pairs = sorted(pairs)
    return ",".join(f"{key}={value}" for key, value in pairs)


def _number(attribute: Attribute, value: float | str) -> int | str | Decimal:
    """A Double keeps its point, so that a typed client reads one."""
    if isinstance(value, str) or attribute.kind == "long":
        return value if isinstance(value, str) else int(value)
    number = plain(value)
    return number if "." in str(number) else Decimal(f"{number}.0")


def _read(
    asked: Mapping[str, Any], options: Mapping[str, Any], beans: Sequence[Bean]
) -> Any:
    text = _text(asked, "mbean")
    wanted = object_name(text)
    found = [bean for bean in beans if wanted.matches(bean)]
    if not found:
        kind = "pattern" if wanted.pattern else "name"
        raise JolokiaError(
            INSTANCE, f"{INSTANCE} : No MBean with {kind} {text} found", 404
        )
    attribute = asked.get("attribute")
    if attribute == ALL:
        attribute = None
    single = attribute if isinstance(attribute, str) else None
    several = [str(name) for name in attribute] if isinstance(attribute, list) else []
    names = [single] if single is not None else several
    lenient = str(options.get("ignoreErrors", "false")).lower() == "true"

    if wanted.pattern:
        values = {
            _named(bean, options): given
            for bean in found
            if (given := _attributes(bean, names, lenient=True, told=False))
        }
        if not values:
            raise JolokiaError(
                ATTRIBUTE, f"{ATTRIBUTE} : No attribute {names} on any MBean", 404
            )
        return _walked(values, asked)
    given = _attributes(found[0], names, lenient=lenient, told=True)
    return _walked(given[single] if single is not None else given, asked)


def _attributes(
    bean: Bean, names: Sequence[str], *, lenient: bool, told: bool
) -> dict[str, Any]:
    """
    Attribute -> value; all of them where no name is given.

    Args:
        lenient: A name that is not there is no failure.
        told: What is missing stands as a text that begins with ERROR.
    """
    values = {row.name: _number(row, value) for row, value in bean.values.items()}
    if not names:
        return dict(values)
    found: dict[str, Any] = {}
    for name in names:
        if name in values:
            found[name] = values[name]
        elif not lenient:
            raise JolokiaError(
                ATTRIBUTE, f"{ATTRIBUTE} : No such attribute: {name}", 404
            )
        elif told:
            found[name] = f"ERROR: {ATTRIBUTE} : No such attribute: {name}"
    return found


def _walked(value: Any, asked: Mapping[str, Any]) -> Any:
    """Follow `path` into the value; `*` stands for every key."""
    path = asked.get("path")
    if not isinstance(path, str) or not path.strip("/"):
        return value
    return _follow(value, split(path.strip("/")), path)


def _follow(value: Any, parts: Sequence[str], path: str) -> Any:
    if not parts:
        return value
    if isinstance(value, dict):
        if parts[0] == "*":
            return {key: _follow(one, parts[1:], path) for key, one in value.items()}
        if parts[0] in value:
            return _follow(value[parts[0]], parts[1:], path)
    raise JolokiaError(ATTRIBUTE, f"{ATTRIBUTE} : Invalid path '{path}'", 404)


def _listed(
    asked: Mapping[str, Any], options: Mapping[str, Any], beans: Sequence[Bean]
) -> Any:
    tree: dict[str, dict[str, Any]] = {}
    for bean in beans:
        tree.setdefault(bean.domain, {})[_keys(bean, options)] = {
            "class": f"{bean.domain}.{bean.group}",
            "desc": f"{bean.group} of {bean.domain}",
            "attr": {row.name: _described(row) for row in bean.values},
        }
    value = _walked(_reordered(tree, asked), asked)
    try:
        depth = int(options.get("maxDepth", 0))
    except (TypeError, ValueError, OverflowError):
        depth = 0
    return _cut(value, depth) if depth > 0 else value


def _reordered(tree: dict[str, dict[str, Any]], asked: Mapping[str, Any]) -> Any:
    """Key properties in a path may stand in any order."""
    path = asked.get("path")
    parts = split(path.strip("/")) if isinstance(path, str) else []
    if len(parts) < 2 or parts[1] in tree.get(parts[0], {}):
        return tree
    try:
        wanted = object_name(f"{parts[0]}:{parts[1]}").properties
    except JolokiaError:
        return tree
    for keys in list(tree.get(parts[0], {})):
        if object_name(f"{parts[0]}:{keys}").properties == wanted:
            tree[parts[0]][parts[1]] = tree[parts[0]][keys]
    return tree


def _described(row: Attribute) -> dict[str, Any]:
    types = {"long": "long", "double": "double", "string": "java.lang.String"}
    return {
        "type": types[row.kind],
        "desc": row.meaning,
        "rw": False,
        "r": True,
        "w": False,
        "is": False,
    }


def _cut(value: Any, depth: int) -> Any:
    """Below `maxDepth` a map is told as 1, as Jolokia does for `list`."""
    if not isinstance(value, dict):
        return value
    if depth == 0:
        return 1
    return {key: _cut(one, depth - 1) for key, one in value.items()}
