"""
JAAS: the line in which Java writes a Kafka login.

Owns its grammar: a login module, `required`, options, a semicolon.

Path: ``keys.kafka`` checks with it, ``task.build`` reads the login out of it.
"""

from __future__ import annotations

import re

from engine.config.kinds import InvalidValue
from engine.later import pattern

_MODULES = ("PlainLoginModule", "ScramLoginModule", "OAuthBearerLoginModule")
_LINE = pattern(
    r"\s*([\w.]+)\s+(required|requisite|sufficient|optional)\b(.*?);?\s*", re.DOTALL
)
_OPTION = pattern(
    r"\s+([\w.]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|'([^']*)'|([^\s;\"']+))"
)


def options(text: str) -> dict[str, str]:
    """
    The login's options: username and password, or clientId, clientSecret, scope.

    Raises: Unfit, without quoting the text.
    """
    line = _LINE.fullmatch(text)
    if line is None:
        raise InvalidValue(
            'allowed: <login module> required username="..." password="...";'
        )
    if line.group(1).rpartition(".")[2] not in _MODULES:
        raise InvalidValue(f"login module, allowed: {', '.join(_MODULES)}")
    found: dict[str, str] = {}
    at = 0
    rest = line.group(3)
    while rest[at:].strip():
        option = _OPTION.match(rest, at)
        if option is None:
            raise InvalidValue(
                f'option {len(found) + 1} is not of the form name="value"'
            )
        name, double, single, bare = option.groups()
        if double is not None:
            found[name] = re.sub(r"\\(.)", r"\1", double)
        else:
            found[name] = single if single is not None else bare
        at = option.end()
    return found


def check(text: str) -> None:
    """Refuse a line that no login can be read from.  Raises: Unfit."""
    found = options(text)
    names = [("username", "password"), ("clientId", "clientSecret")]
    if not any(all(name in found for name in pair) for pair in names):
        raise InvalidValue(
            "it needs username and password, or clientId and clientSecret"
        )
