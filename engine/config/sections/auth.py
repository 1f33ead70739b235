"""
Options of authentication towards the API.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from typing import ClassVar

from engine.config.authentication import TYPES
from engine.config.grammar import REQUEST_NAMES
from engine.config.kinds import (
    Choice,
    Codes,
    CommaList,
    Headers,
    HostPort,
    InvalidValue,
    Params,
    Password,
    RecordPath,
    StatusCodes,
    Text,
    Url,
    seconds,
)
from engine.config.sections.key import Computed
from engine.config.sections.section import Section, option, unset
from engine.observe.redact import Secret


def credentials_of(text: str) -> list[str]:
    """The parts of `auth.credentials`."""
    return [
        part
        for each in text.splitlines()
        for part in map(str.strip, each.split(","))
        if part
    ]


def check_credentials(text: str) -> None:
    """
    Refuse what is not several credentials.

    Raises: Unfit.
    """
    found = credentials_of(text)
    if len(found) < 2:
        raise InvalidValue("two or more, one a line or separated by commas")
    if len(set(found)) < len(found):
        raise InvalidValue("one of them stands there twice")
    if any(not 32 <= ord(c) < 127 for each in found for c in each):
        raise InvalidValue("a character that goes in no header")


class AuthConfig(Section, frozen=True, kw_only=True):
    """Which credentials an api's requests carry, and what names them."""

    TITLE: ClassVar[str] = "Authentication"
    SCOPE: ClassVar[str] = "A"

    type: str = option(
        "auth.type",
        Choice(tuple(TYPES)),
        "NONE",
        "How requests prove who we are. Client certificates go with any.",
        "BEARER",
    )  # fmt: skip
    auth_class: str | None = unset(
        "http.auth.class",
        Text(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", "module:Class, found by Python's import"),
        None,
        "An auth object of the requests library, made with connection.user and "
        "connection.password where these are set.",
        "my_auth:Signed",
    )
    user: str | None = unset(
        "connection.user",
        Text(),
        None,
        "User of BASIC, DIGEST, LOGIN and of http.auth.class.",
        "reader",
    )
    password: Secret | None = unset(
        "connection.password",
        Password(),
        None,
        "Password of BASIC, DIGEST, LOGIN and of http.auth.class.",
        "${env:API_PASSWORD}",
    )
    bearer_token: Secret | None = unset(
        "bearer.token", Password(), None, "Token of BEARER.", "${file:token.txt}"
    )
    credentials: Secret | None = unset(
        "auth.credentials",
        Password(
            multiline=True,
            check=check_credentials,
            allowed="two or more secrets, one a line or separated by commas",
        ),
        None,
        "Several credentials of BEARER, API_KEY or BASIC, in turn: tokens, keys or "
        "user:password, one a line or separated by commas. Each has the rate limit and "
        "the host's own limits for itself; one that is refused is left out.",
        "${file:tokens.txt}",
    )
    renew_statuses: Codes = option(
        "auth.renew.status",
        StatusCodes(),
        "401",
        "Statuses by which the API says that a token or login of OAUTH2 or LOGIN has "
        "ended: it is had anew, once for a request. Other signs, in a body or a header, "
        "are error rules with the action REFRESH_TOKEN.",
        "401,403,419",
    )
    cookies: str = option(
        "http.cookies",
        Choice(("NONE", "POLL")),
        "NONE",
        "POLL: what the API sets is sent again until the end of the poll, to the same "
        "origin only (RFC 6265); such answers are not taken from the cache.",
        "POLL",
    )


class ApiKeyConfig(Section, frozen=True, kw_only=True):
    """A key that each request carries (`auth.type=API_KEY`)."""

    TITLE: ClassVar[str] = "Authentication"
    SCOPE: ClassVar[str] = "A"

    location: str = option(
        "api.key.location",
        Choice(("HEADER", "QUERY")),
        "HEADER",
        "Where API_KEY puts the key; out of a query it is cut from logs, cache "
        "and state.",
        "QUERY",
    )
    name: str = option(
        "api.key.name",
        Text(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", "header or parameter name"),
        "X-API-KEY",
        "Name of API_KEY's header or parameter.",
    )
    value: Secret | None = unset(
        "api.key.value", Password(), None, "The key of API_KEY.", "${env:API_KEY}"
    )


class OAuthConfig(Section, frozen=True, kw_only=True):
    """A token of OAuth 2.0, asked for and renewed by the engine (`auth.type=OAUTH2`)."""

    TITLE: ClassVar[str] = "Authentication"
    SCOPE: ClassVar[str] = "A"

    token_url: str | None = unset(
        "oauth2.token.url",
        Url(),
        None,
        "Where OAUTH2 gets its token.",
        "https://login.example.com/token",
    )
    client_id: str | None = unset(
        "oauth2.client.id", Text(), None, "Client of OAUTH2.", "my-client"
    )
    client_secret: Secret | None = unset(
        "oauth2.client.secret",
        Password(),
        None,
        "The client's secret.",
        "${env:CLIENT_SECRET}",
    )
    grant_type: str = option(
        "oauth2.grant.type",
        Choice(("client_credentials", "refresh_token", "password", "jwt_bearer")),
        "client_credentials",
        "How OAUTH2 asks. A grant_type in oauth2.token.params takes the place of what "
        "is sent.",
        "refresh_token",
    )
    refresh_token: Secret | None = unset(
        "oauth2.refresh.token",
        Password(),
        None,
        "The token to begin with; a rotated one is kept in the state directory.",
        "${file:refresh.txt}",
    )
    username: str | None = unset(
        "oauth2.username", Text(), None, "User of the grant password.", "reader"
    )
    password: Secret | None = unset(
        "oauth2.password",
        Password(),
        None,
        "That user's password.",
        "${env:API_PASSWORD}",
    )
    scope: str | None = unset(
        "oauth2.client.scope",
        Text(),
        None,
        "Scope asked for; unset, none is sent.",
        "orders.read",
    )
    auth_mode: str = option(
        "oauth2.client.auth.mode",
        Choice(("HEADER", "URL", "JWT", "NONE")),
        "HEADER",
        "How the client proves itself when it asks for a token.",
        "URL",
    )
    headers: tuple[tuple[str, str], ...] | None = unset(
        "oauth2.client.headers",
        Headers(REQUEST_NAMES),
        None,
        "Further headers of the token request.",
        "X-Tenant:blue",
    )
    params: str | None = unset(
        "oauth2.token.params",
        Params(REQUEST_NAMES),
        None,
        "Further parameters of the token request; one takes the place of ours of the "
        "same name.",
        "audience=https://api.example.com",
    )
    request_format: str = option(
        "oauth2.token.request.format",
        Choice(("FORM", "JSON")),
        "FORM",
        "How the token request says its parameters.",
        "JSON",
    )
    property: str = option(
        "oauth2.token.property",
        RecordPath(),
        "access_token",
        "Where the token stands in the answer.",
    )
    expires: str = option(
        "oauth2.token.expires.property",
        RecordPath(),
        "expires_in",
        "Where the answer says when the token ends: seconds it lives, a time since "
        "1970, or a timestamp.",
        "expires_at",
    )
    header: str = option(
        "oauth2.token.header",
        Text(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", "header name"),
        "Authorization",
        "Header that carries the token; in another one than Authorization it stands "
        "alone, unless oauth2.token.type is stated.",
        "X-Shopify-Access-Token",
    )
    token_type: str | None = unset(
        "oauth2.token.type",
        Text(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", "a word, or RESPONSE"),
        Computed(
            lambda get: (
                "Bearer" if get("oauth2.token.header") == "Authorization" else None
            ),
            "Bearer in the header Authorization, else none",
        ),
        "The word before the token. RESPONSE: token_type of the answer.",
        "Zoho-oauthtoken",
    )
    base_url: str | None = unset(
        "oauth2.base.url.property",
        RecordPath(),
        None,
        "Where the answer names the URL that takes the place of the origin of "
        "http.source.url.",
        "instance_url",
    )
    base_hosts: tuple[str, ...] | None = unset(
        "oauth2.base.url.hosts",
        CommaList(HostPort(port=False, wildcard=True)),
        None,
        "Hosts that URL may lead to beside the API's own; the token goes there, over "
        "https only.",
        "*.my.salesforce.com",
    )
    buffer: int = option(
        "oauth2.token.refresh.buffer.seconds",
        seconds(),
        "60",
        "A token is renewed this long before it ends, at the latest at 80 % of "
        "its life.",
    )


class AwsConfig(Section, frozen=True, kw_only=True):
    """Requests that are signed as AWS asks for it (`auth.type=AWS_SIGV4`)."""

    TITLE: ClassVar[str] = "Authentication"
    SCOPE: ClassVar[str] = "A"

    region: str | None = unset(
        "http.auth.aws.region",
        Text(r"[a-z0-9-]+", "AWS region"),
        None,
        "Region of AWS_SIGV4; unset: AWS_REGION, else AWS_DEFAULT_REGION.",
        "eu-central-1",
    )
    service: str = option(
        "http.auth.aws.service",
        Text(r"[a-z0-9-]+", "AWS service"),
        "execute-api",
        "Service of AWS_SIGV4.",
    )
    access_key_id: Secret | None = unset(
        "http.auth.aws.access.key.id",
        Password(),
        None,
        "Access key; where neither it nor its secret is set: AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN of the environment.",
        "${env:AWS_ACCESS_KEY_ID}",
    )
    secret_access_key: Secret | None = unset(
        "http.auth.aws.secret.access.key",
        Password(),
        None,
        "Its secret.",
        "${env:AWS_SECRET_ACCESS_KEY}",
    )
    session_token: Secret | None = unset(
        "http.auth.aws.session.token",
        Password(),
        None,
        "The session's token, for temporary keys.",
        "${env:AWS_SESSION_TOKEN}",
    )
