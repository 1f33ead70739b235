"""
Masking: an entry's text as people may see it.

Owns the one rule of what in a line is a secret: keys of that type; headers, query
parameters, and members of a body in JSON, forms or XML whose names say so; user and
password in a URL.  References to providers stay as written, what they stand for never
shows.  What was found so is cut out of logs, errors and dead letters, too.

Path: ``load``, ``show`` -> here
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.config.entries import Entry
from engine.config.kinds import (
    Header,
    Headers,
    InvalidValue,
    Kind,
    Params,
    Password,
    split_headers,
)
from engine.later import pattern
from engine.observe.redact import MASK, learn, redact, sensitive

#: Names that are a secret's for sure: what they name is learnt and warned of.  `key`
#: alone may be a sort key.
_CERTAIN = pattern(
    r"passw|pwd|secret|credential|assertion|(?:^|[._-])pass$|(?:^|[._-])token$"
    r"|(?:access|auth|bearer|refresh|session|id|api|csrf)[._-]?token"
    r"|(?:api|access|private|secret|subscription|account|shared|signing)[._-]?key"
    r"|^(?:proxy-)?authorization$|^cookie$|^auth$|^sig$|^signature$|^jwt$",
    re.IGNORECASE,
)

#: Name and value: a member of JSON, in a string of JSON, a parameter, an element.
_MEMBER = pattern(r'"([^"\\]{1,128})"(\s*:\s*)("(?:[^"\\]|\\.)*"|[^\s,\]}{\["]+)')
_INNER = pattern(r'\b([\w.-]{1,128})(\s*:\s*)(\\{1,3}"[^"\\]*\\{1,3}")')
_PARAMETER = pattern(
    r"(?:^|(?<=[?&;]))([^=&;#\s\"'<>?{}$:/]{1,128})(=)((?:\$\{[^{}]*\}|[^&;#\s\"'<>])*)"
)
_ELEMENT = pattern(r"<([\w:.-]{1,128})((?:\s[^<>]{0,256})?>)([^<>]+)(?=</)")
_USERINFO = pattern(r"(?<=://)([^/?#\s\"'<>@]*)()(:[^/?#\s\"'<>@]*)(?=@)")

_QUOTED = pattern(r'\\{0,3}"(.*?)\\{0,3}"', re.DOTALL)

_PLACES = (_MEMBER, _INNER, _PARAMETER, _ELEMENT)

#: Shorter parts of a secret are words.
_SHORTEST_PART = 8

#: Nothing but references, a scheme word before them.
_REFERENCES = pattern(r"(?:[A-Za-z]+ )?(?:\$\{[^{}]*\})+")


def holds_secret(entry: Entry, kind: Kind) -> bool:
    """Whether a literal secret stands in it, for the file's mode to protect."""
    return any(True for _ in literals(entry, kind))


def learn_secrets(entry: Entry, kind: Kind | None) -> None:
    """Cut what stands in it literally out of every text from now on."""
    for secret in literals(entry, kind):
        learn(secret)
        # A scheme's token and a cookie's value are the secret's own part.
        for part in re.split(r"[;\s]+", secret) if len(secret) < 4096 else ():
            value = part.partition("=")[2] or part
            if len(value) >= _SHORTEST_PART:
                learn(value)


def literals(entry: Entry, kind: Kind | None) -> Iterator[str]:
    """Secrets that stand in it as they are."""
    text = entry.text
    if isinstance(kind, Password) or entry.secret:
        if "${" not in text:
            yield text
        return
    if isinstance(kind, Header):
        if sensitive(_header(entry)) and "${" not in text:
            yield text
        return
    if isinstance(kind, Headers):
        for name, value in [] if kind.kafka else _headers(text) or []:
            if sensitive(name) and "${" not in value:
                yield value
        return
    for found in _USERINFO.finditer(text):
        value = found[3].removeprefix(":")
        if value and "${" not in value:
            yield value
    for place in _PLACES:
        for found in place.finditer(text):
            value = _bare(found[3])
            if _CERTAIN.search(found[1]) and _literal(value):
                yield value


def names_secret(text: str) -> bool:
    """Whether a URL, parameters or a body carry a credential, literal or referred to."""
    return any(
        _CERTAIN.search(found[1]) and found[3].strip('"')
        for place in _PLACES
        for found in place.finditer(text)
    )


def shown(entry: Entry, kind: Kind | None) -> str:
    """An entry's text: unresolved, without secrets."""
    text = entry.text
    if isinstance(kind, Password) or entry.secret:
        return _unless_reference(text)
    if isinstance(kind, Header):
        return _unless_reference(text) if sensitive(_header(entry)) else text
    if isinstance(kind, Headers) and not kind.kafka:
        headers = _headers(text)
        if headers is None:
            return MASK
        return ";".join(
            f"{name}:{_unless_reference(value) if sensitive(name) else value}"
            for name, value in headers
        )
    if isinstance(kind, Params):
        return redact(_cut(f"?{text}"))[1:]
    if kind is None and _CERTAIN.search(entry.key):
        return _unless_reference(text)
    return redact(_cut(text))


def masked(entry: Entry, kind: Kind | None) -> Entry:
    """The entry with its text as `shown`, for a finding."""
    text = shown(entry, kind)
    return Entry(entry.key, text, entry.file, entry.line, entry.near)


def _cut(text: str) -> str:
    """The text without the values of names that say they are secret."""

    def cut(found: re.Match[str]) -> str:
        name, _, value = found.groups()
        bare = _bare(value)
        if not sensitive(name) or not _literal(bare):
            return found.group()
        whole = found.group()
        return whole[: len(whole) - len(value)] + value.replace(bare, MASK, 1)

    for place in _PLACES:
        text = place.sub(cut, text)
    return text


def _bare(value: str) -> str:
    """A value without its quotes."""
    bare = _QUOTED.fullmatch(value)
    return bare[1] if bare is not None and bare[1] else value


def _literal(value: str) -> bool:
    """Whether it may be a secret: no reference, no word of JSON."""
    return (
        bool(value.strip('"'))
        and not _REFERENCES.fullmatch(value)
        and value not in ("null", "true", "false")
    )


def _header(entry: Entry) -> str:
    return entry.key.rpartition("http.source.header.")[2]


def _headers(text: str) -> list[tuple[str, str]] | None:
    try:
        return split_headers(text)
    except InvalidValue:
        return None


def _unless_reference(text: str) -> str:
    """The text if it is nothing but references, a scheme word before them."""
    if _REFERENCES.fullmatch(text):
        return text
    learn(text)
    return MASK
