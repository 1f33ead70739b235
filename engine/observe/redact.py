"""
Redact: what never leaves the process.

Owns the type of a secret and the rules that cut secrets, sensitive query
parameters and credentials out of any text.  It must never write anything
itself; whoever logs, raises or shows text that came from outside asks here.

Below ``config``, which makes the secrets; used by every room above.
"""

from __future__ import annotations

import hmac
import json
import re
from typing import NoReturn
from urllib.parse import quote, quote_plus

from engine.later import pattern

#: What stands in the place of a secret.
MASK = "****"

#: Shorter secrets are not searched for in free text: they would blank it out.
SHORTEST = 4

#: A header, query parameter or form field whose name holds one of these words
#: carries a credential.
_NAME = pattern(
    r"key|token|secret|passw|pwd|signature|credential|session|assertion", re.IGNORECASE
)
_WHOLE = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "auth", "sig"}
)

_PARAMETER = pattern(r"(?<=[?&;])([^=&;#\s\"'<>?]{1,128})=([^&;#\s\"'<>]*)")
_USERINFO = pattern(r"([A-Za-z][A-Za-z0-9+.-]{0,31}://)[^/?#\s\"'<>@]*@")
_HEADER = pattern(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie)\b(['\"]?\s*[:=,]\s*)"
    r"(\"[^\"\r\n]*\"|'[^'\r\n]*'|[^\r\n\"']+)",
    re.IGNORECASE,
)
#: Behind the scheme's name stands a token, not a word of a sentence.
_SCHEME = pattern(
    r"\b((?i:bearer|basic))\s+"
    r"(?=[A-Za-z0-9._~+/=-]*(?:[0-9=._~+/]|[a-z][A-Z]|[A-Z]{2}))[A-Za-z0-9._~+/=-]{4,}"
)
_ASSIGNED = pattern(
    r"\b([\w.-]{0,64}(?:passw(?:or)?d|secret|token|api[_-]?key)[\w.-]{0,64})"
    r"(\\{0,3}['\"]?\s*[:=]\s*)"
    r"(\\{1,3}\"[^\"]*\"|\"(?!\$\{)[^\"]*\"|'(?!\$\{)[^']*'|(?!\$\{)[^\s,;&\"'<>\\]+)",
    re.IGNORECASE,
)


class Secret:
    """
    Text that shows itself to nobody who does not ask for it by name.

    It has no JSON and no pickle; `repr`, `str` and `format` are `****`.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str):
        self._text = text
        REDACTOR.learn(text)

    def reveal(self) -> str:
        """The text itself, for the one place that sends it."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never serialised")


class Redactor:
    """
    Cuts out of text what it has been told, and what looks like a credential.

    It only ever learns; a process forked from one that has learned knows the
    same secrets.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        #: Names of connectors and apis: a line that begins with one tells of it.
        self._names: set[str] = set()

    def learn(self, secret: str) -> None:
        """Cut `secret` from now on, also percent-encoded or inside JSON."""
        for text in (secret, secret.strip()):
            if len(text) >= SHORTEST and text not in self._known:
                self._known |= {
                    text,
                    quote(text, safe=""),
                    quote(text),
                    quote_plus(text),
                    json.dumps(text)[1:-1],
                    json.dumps(text, ensure_ascii=False)[1:-1],
                }
                self._pattern = None

    def redact(self, text: str) -> str:
        """`text` without secrets, URL credentials and credential headers."""
        text = self._cut_known(text)
        text = _USERINFO.sub(rf"\1{MASK}@", text)
        text = _PARAMETER.sub(_mask_parameter, text)
        text = _HEADER.sub(rf"\1\2{MASK}", text)
        text = _SCHEME.sub(rf"\1 {MASK}", text)
        return _ASSIGNED.sub(self._mask_assigned, text)

    def names(self, *names: str) -> None:
        """
        These are names of connectors and apis: `token: failed` at the beginning of
        a line, or behind "Connector" or "Shard", is no secret where one is `token`.
        """
        self._names.update(names)

    def _mask_assigned(self, found: re.Match[str]) -> str:
        name, sign = found.group(1, 2)
        if name in self._names and sign.strip() == ":":
            before = found.string[: found.start()]
            if not before or before.endswith(("\n", "onnector ", "hard ")):
                return found.group()
        return f"{name}{sign}{MASK}"

    def redact_url(self, url: str) -> str:
        """`url` without user name, password and the values of sensitive parameters."""
        url = _USERINFO.sub(rf"\1{MASK}@", self._cut_known(url))
        return _PARAMETER.sub(_mask_parameter, url)

    def _cut_known(self, text: str) -> str:
        if not self._known:
            return text
        if self._pattern is None:
            longest_first = sorted(self._known, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))
        return self._pattern.sub(MASK, text)


def sensitive(name: str) -> bool:
    """Whether a header, parameter or field of this name carries a credential."""
    return name.lower() in _WHOLE or _NAME.search(name) is not None


def _mask_parameter(found: re.Match[str]) -> str:
    name, value = found.groups()
    # A reference is written in a configuration, and shows no value.
    if not value or value.startswith("${") or not sensitive(name):
        return found.group()
    return f"{name}={MASK}"


#: The process's own redactor: every Secret made here is known to it.
REDACTOR = Redactor()
learn = REDACTOR.learn
redact = REDACTOR.redact
redact_url = REDACTOR.redact_url
