"""
Options of logins towards the API: a request that brings a token, a signed assertion.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from typing import ClassVar

from engine.config import shapes
from engine.config.grammar import REQUEST_NAMES
from engine.config.kinds import (
    BodyText,
    Choice,
    Headers,
    Json,
    Password,
    RecordPath,
    TemplateText,
    Text,
    Url,
    seconds,
)
from engine.config.sections.key import Computed, Lookup
from engine.config.sections.section import Rule, Section, option, unset
from engine.observe.redact import Secret

#: What the body of a login may name.
LOGIN_NAMES = frozenset({"user", "password"})


def _send_name(get: Lookup) -> object:
    place = get("auth.login.send.location")
    if place == "COOKIE":
        return get("auth.login.token.cookie")
    return "token" if place == "QUERY" else "Authorization"


def _send_template(get: Lookup) -> object:
    alone = (
        get("auth.login.send.location") != "HEADER"
        or str(get("auth.login.send.name")).lower() != "authorization"
    )
    return "${token}" if alone else "Bearer ${token}"


class JwtConfig(Section, frozen=True, kw_only=True):
    """The assertion of oauth2.grant.type=jwt_bearer and oauth2.client.auth.mode=JWT."""

    TITLE: ClassVar[str] = "Authentication"
    SCOPE: ClassVar[str] = "A"

    key: Secret | None = unset(
        "oauth2.jwt.key",
        Password(multiline=True),
        None,
        "Private key that signs the assertion: PEM, or the JSON of a service account "
        "of Google; for HS256 to HS512 the secret itself.",
        "${file:client.key}",
    )
    key_password: Secret | None = unset(
        "oauth2.jwt.key.password",
        Password(),
        None,
        "What that key is encrypted with.",
        "${env:JWT_KEY_PASSWORD}",
    )
    algorithm: str = option(
        "oauth2.jwt.algorithm",
        Choice(
            ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
             "ES512", "HS256", "HS384", "HS512")
        ),
        "RS256",
        "How the assertion is signed (RFC 7518).",
        "ES256",
    )  # fmt: skip
    key_id: str | None = unset(
        "oauth2.jwt.key.id",
        Text(),
        None,
        "Which of our keys it is (kid); unset: as Google's JSON says, else left out.",
        "key-1",
    )
    issuer: str | None = unset(
        "oauth2.jwt.issuer",
        Text(),
        Computed(lambda get: get("oauth2.client.id"), "oauth2.client.id"),
        "Claim iss; where neither is set, client_email of Google's JSON.",
        "my-client",
    )
    subject: str | None = unset(
        "oauth2.jwt.subject",
        Text(),
        None,
        "Claim sub, for whom is asked; unset: the issuer.",
        "reader@example.com",
    )
    audience: str | None = unset(
        "oauth2.jwt.audience",
        Text(),
        None,
        "Claim aud; unset: oauth2.token.url.",
        "https://login.example.com",
    )
    claims: Rule | None = unset(
        "oauth2.jwt.claims",
        Json(shapes.claims, "JSON object"),
        None,
        "Further claims; they take the place of ours, null leaves one out.",
        '{"scope": "https://www.googleapis.com/auth/analytics.readonly"}',
    )
    lifetime: int = option(
        "oauth2.jwt.lifetime.seconds",
        seconds(10, 86400),
        "300",
        "How long an assertion is good for.",
        "3600",
    )


class LoginConfig(Section, frozen=True, kw_only=True):
    """A login that a request of its own makes (`auth.type=LOGIN`)."""

    TITLE: ClassVar[str] = "Authentication"
    SCOPE: ClassVar[str] = "A"

    url: str | None = unset(
        "auth.login.url",
        Url(relative=True),
        None,
        "What LOGIN asks; a relative one is put before the origin of the API.",
        "https://api.example.com/login",
    )
    method: str = option(
        "auth.login.method",
        Choice(("GET", "POST", "PUT", "PATCH")),
        "POST",
        "The method of the login.",
        "PUT",
    )
    headers: tuple[tuple[str, str], ...] | None = unset(
        "auth.login.headers",
        Headers(REQUEST_NAMES),
        None,
        "Headers of the login.",
        "X-Tenant:blue",
    )
    body: str | None = unset(
        "auth.login.body",
        BodyText(LOGIN_NAMES),
        None,
        "Body of the login: JSON, XML or a form, by its first character or the header "
        "Content-Type. ${user} and ${password} are connection.user and "
        "connection.password, written as that form wants it.",
        '{"user": "${user}", "password": "${password}"}',
    )
    path: str | None = unset(
        "auth.login.token.path",
        RecordPath(),
        None,
        "Where the token stands in the body of the answer; $: the whole body is it.",
        "data.token",
    )
    header: str | None = unset(
        "auth.login.token.header",
        Text(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", "header name"),
        None,
        "Header of the answer that is the token.",
        "X-Auth-Token",
    )
    cookie: str | None = unset(
        "auth.login.token.cookie",
        Text(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", "cookie name"),
        None,
        "Cookie of the answer that is the token. With none of the three, all cookies "
        "of the answer are sent, each where it belongs (RFC 6265).",
        "JSESSIONID",
    )
    place: str = option(
        "auth.login.send.location",
        Choice(("HEADER", "QUERY", "COOKIE")),
        "HEADER",
        "Where requests carry the token.",
        "COOKIE",
    )
    name: str | None = unset(
        "auth.login.send.name",
        Text(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", "header, parameter or cookie name"),
        Computed(
            _send_name,
            "Authorization in a header, token in a query, the cookie's own name",
        ),
        "Name of that header, parameter or cookie.",
        "X-Auth-Token",
    )
    template: str = option(
        "auth.login.send.template",
        TemplateText(frozenset({"token"})),
        Computed(
            _send_template,
            "Bearer ${token} in the header Authorization, else ${token}",
        ),
        "How it is written there.",
        "Session ${token}",
    )
    after: int | None = unset(
        "auth.login.renew.after.seconds",
        seconds(1),
        None,
        "A login is done anew after this time.",
        "1500",
    )
    expires: str | None = unset(
        "auth.login.expires.path",
        RecordPath(),
        None,
        "Where the answer says when the token ends: seconds it lives, a time since "
        "1970, or a timestamp. Unset, what a JWT says of itself.",
        "data.expires_in",
    )
    buffer: int = option(
        "auth.login.renew.buffer.seconds",
        seconds(),
        "60",
        "It is renewed this long before that, at the latest at 80 % of its life.",
        "30",
    )
