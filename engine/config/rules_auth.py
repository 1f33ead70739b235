"""
Rules of authentication types: what one lacks beside the keys it always needs.

Path: ``rules_http`` -> here -> ``sections``
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from engine.config.libraries import missing
from engine.config.scope import Scope
from engine.config.sections.auth import AuthConfig, OAuthConfig
from engine.config.sections.logins import JwtConfig, LoginConfig

#: (key, what is wrong with it).
Lack = tuple[str, str]


def further(s: Scope, kind: str) -> Iterator[Lack]:
    """What is wrong with how an api's `auth.type` is stated."""
    if kind in _FURTHER:
        yield from _FURTHER[kind](s)
        for low, high in s.of(AuthConfig).renew_statuses.ranges:
            if low < 300 or high >= 500:
                why = (
                    "3xx and 4xx only; what else says that a login has ended is an "
                    "error rule with the action REFRESH_TOKEN"
                )
                yield "auth.renew.status", why


def _oauth(s: Scope) -> Iterator[Lack]:
    said, jwt = s.of(OAuthConfig), s.of(JwtConfig)
    grant, mode = said.grant_type, said.auth_mode
    by_grant = f"oauth2.grant.type={grant}"
    signs = grant == "jwt_bearer" or mode == "JWT"
    needed: dict[str, str] = {}
    if grant != "jwt_bearer" or mode == "JWT":
        needed["oauth2.client.id"] = "auth.type=OAUTH2"
    if grant != "jwt_bearer" and mode in ("HEADER", "URL"):
        why = "auth.type=OAUTH2"
        if grant != "client_credentials":
            why += " (oauth2.client.auth.mode=NONE for a client without)"
        needed["oauth2.client.secret"] = why
    if grant == "refresh_token":
        needed["oauth2.refresh.token"] = by_grant
    if grant == "password":
        needed |= dict.fromkeys(("oauth2.username", "oauth2.password"), by_grant)
    if signs:
        why = by_grant if grant == "jwt_bearer" else "oauth2.client.auth.mode=JWT"
        needed["oauth2.jwt.key"] = why
    for key, why in needed.items():
        if s[key] is None:
            yield key, f"required by {why}"
    if grant == "client_credentials" and mode == "NONE":
        yield "oauth2.client.auth.mode", "NONE proves nothing: not with this grant"
    if (
        signs
        and not jwt.algorithm.startswith("HS")
        and (why := missing("a signed JWT"))
    ):
        yield "oauth2.jwt.key", why
    # The JSON of a service account brings its own.
    alone = jwt.algorithm.startswith("HS") or (
        jwt.key is not None and "-----BEGIN" in jwt.key.reveal()[:64]
    )
    if signs and jwt.issuer is None and alone:
        yield "oauth2.jwt.issuer", "required where no oauth2.client.id is set"
    for key in sorted(o.key.name for o in JwtConfig.options().values()):
        if not signs and s.values.stated(key):
            yield key, "belongs to oauth2.grant.type=jwt_bearer"
    for key in ("oauth2.username", "oauth2.password"):
        if grant != "password" and s.values.stated(key):
            yield key, "belongs to oauth2.grant.type=password"
    if said.base_url is None and said.base_hosts:
        yield "oauth2.base.url.hosts", "needs oauth2.base.url.property"


def _login(s: Scope) -> Iterator[Lack]:
    said = s.of(LoginConfig)
    places = (
        "auth.login.token.path",
        "auth.login.token.header",
        "auth.login.token.cookie",
    )
    stated = [key for key in places if s[key] is not None]
    for key in stated[1:]:
        yield key, f"{stated[0]} says it already: leave one out"
    if not stated:
        for key in ("send.location", "send.name", "send.template"):
            if s.values.stated(f"auth.login.{key}"):
                why = (
                    "what is sent? State auth.login.token.path, .header or .cookie; "
                    "without, it is all cookies"
                )
                yield f"auth.login.{key}", why
    elif said.name is None:
        yield "auth.login.send.name", "required by auth.login.send.location=COOKIE"
    if "${token}" not in said.template.replace(" ", ""):
        yield "auth.login.send.template", "without ${token} in it nothing is sent"
    body = said.body or ""
    if body and said.method == "GET":
        yield "auth.login.body", "goes with POST, PUT and PATCH only"
    for name in ("user", "password"):
        key = f"connection.{name}"
        if f"${{{name}" in body and s[key] is None:
            yield key, "auth.login.body names it"


_FURTHER: Mapping[str, Callable[[Scope], Iterator[Lack]]] = {
    "OAUTH2": _oauth,
    "LOGIN": _login,
}
