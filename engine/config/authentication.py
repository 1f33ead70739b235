"""
Authentication types: what each one is to those who do not make its credentials.

Owns the one declaration of every type.  Keys, checks, `explain` and the cache read it
here; what makes a type's credentials is its function in `task.build.auth`.

Path: here -> ``sections.auth``, ``rules_http``, `task.build`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct


class AuthType(Struct, frozen=True, kw_only=True):
    """
    One value of `auth.type`.

    Attributes:
        meaning: What it does, in a sentence for `explain`.
        keys: Its own keys; a dot at the end stands for all that begin so.
        needs: Those that have to be stated.
        elsewhere: Where else what is needed may be stated, in words.
        several: `auth.credentials` may take the place of what is needed.
    """

    meaning: str
    keys: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    elsewhere: str = ""
    several: bool = False

    def owns(self, key: str) -> bool:
        """True if a key means something to this type."""
        return any(
            key.startswith(own) if own.endswith(".") else key == own
            for own in self.keys
        )


#: Every type by its name, in the order in which people read of them.
TYPES: Final[Mapping[str, AuthType]] = {
    "NONE": AuthType(meaning="No credentials."),
    "BASIC": AuthType(
        meaning="connection.user and connection.password (RFC 7617).",
        keys=("connection.user", "connection.password", "auth.credentials"),
        needs=("connection.user", "connection.password"),
        several=True,
    ),
    "BEARER": AuthType(
        meaning="A fixed token, bearer.token (RFC 6750).",
        keys=("bearer.token", "auth.credentials"),
        needs=("bearer.token",),
        several=True,
    ),
    "API_KEY": AuthType(
        meaning="A key in a header or a query parameter, as api.key.* says.",
        keys=("api.key.", "auth.credentials"),
        needs=("api.key.value",),
        several=True,
    ),
    "OAUTH2": AuthType(
        meaning="A token of oauth2.token.url, fetched anew before it ends (RFC 6749).",
        keys=("oauth2.", "auth.renew.status"),
        needs=("oauth2.token.url",),
    ),
    "LOGIN": AuthType(
        meaning="A token or cookies of auth.login.url, one login for all tasks.",
        keys=(
            "auth.login.",
            "auth.renew.status",
            "connection.user",
            "connection.password",
        ),
        needs=("auth.login.url",),
    ),
    "DIGEST": AuthType(
        meaning="connection.user and connection.password, proved and not sent "
        "(RFC 7616).",
        keys=("connection.user", "connection.password"),
        needs=("connection.user", "connection.password"),
    ),
    "AWS_SIGV4": AuthType(
        meaning="Each request is signed as AWS asks for it.",
        keys=("http.auth.aws.",),
        needs=(
            "http.auth.aws.region",
            "http.auth.aws.access.key.id",
            "http.auth.aws.secret.access.key",
        ),
        elsewhere="here or in the standard AWS variables",
    ),
}
