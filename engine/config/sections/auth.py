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
    Headers,
    Params,
    Password,
    RecordPath,
    Text,
    Url,
    seconds,
)
from engine.config.sections.section import Section, option, unset
from engine.observe.redact import Secret


class AuthConfig(Section, frozen=True, kw_only=True):
    """Who asks."""

    TITLE: ClassVar[str] = "Authentication"
    SCOPE: ClassVar[str] = "A"

    type: str = option(
        "auth.type",
        Choice(tuple(TYPES)),
        "NONE",
        "How requests prove who we are. Client certificates go with any.",
        "BEARER",
    )
    auth_class: str | None = unset(
        "http.auth.class",
        Text(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", "module:Class, found by Python's import"),
        None,
        "An auth object of the requests library, made with connection.user and "
        "connection.password where these are set.",
        "requests.auth:HTTPDigestAuth",
    )
    user: str | None = unset(
        "connection.user",
        Text(),
        None,
        "User of BASIC and of http.auth.class.",
        "reader",
    )
    password: Secret | None = unset(
        "connection.password",
        Password(),
        None,
        "Password of BASIC and of http.auth.class.",
        "${env:API_PASSWORD}",
    )
    bearer_token: Secret | None = unset(
        "bearer.token", Password(), None, "Token of BEARER.", "${file:token.txt}"
    )


class ApiKeyConfig(Section, frozen=True, kw_only=True):
    """auth.type=API_KEY."""

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
    """auth.type=OAUTH2."""

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
        Choice(("client_credentials", "refresh_token")),
        "client_credentials",
        "How OAUTH2 asks.",
        "refresh_token",
    )
    refresh_token: Secret | None = unset(
        "oauth2.refresh.token",
        Password(),
        None,
        "The token to begin with; a rotated one is kept in the state directory.",
        "${file:refresh.txt}",
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
        Choice(("HEADER", "URL")),
        "HEADER",
        "Client and secret in a Basic header, or as form fields.",
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
        "Further form fields of the token request.",
        "audience=https://api.example.com",
    )
    property: str = option(
        "oauth2.token.property",
        RecordPath(),
        "access_token",
        "Where the token stands in the answer.",
    )
    buffer: int = option(
        "oauth2.token.refresh.buffer.seconds",
        seconds(),
        "60",
        "A token is renewed this long before it ends, at the latest at 80 % of "
        "its life.",
    )


class AwsConfig(Section, frozen=True, kw_only=True):
    """auth.type=AWS_SIGV4."""

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
