"""
Auth: the credentials of an api, made from its options.

Owns one function for each `auth.type`, and which query parameters carry a secret.

Path: `build.credentials` (each api's requests) -> here -> `source.auth`
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urljoin

from msgspec import Struct

from engine.config import Api, Values
from engine.config.sections.auth import (
    ApiKeyConfig,
    AuthConfig,
    AwsConfig,
    OAuthConfig,
    credentials_of,
)
from engine.config.sections.logins import JwtConfig, LoginConfig
from engine.config.sections.section import needed
from engine.later import later
from engine.seams import Fetch
from engine.shared.lock import FileLock
from engine.source.wire.options import Auth
from engine.task.build.http import http_options, pairs, reveal, url_of
from engine.task.build.places import Places

if TYPE_CHECKING:
    from engine.source.auth import aws as aws_auth
    from engine.source.auth import digest as digest_auth
    from engine.source.auth import header as header_auth
    from engine.source.auth import jwt as jwt_auth
    from engine.source.auth import login as login_auth
    from engine.source.auth import oauth as oauth_auth
    from engine.source.auth import rotation
else:
    # An api has one of them or none; some bring requests along.
    aws_auth, digest_auth, header_auth, jwt_auth, login_auth, oauth_auth, rotation = (
        later(f"engine.source.auth.{name}")
        for name in ("aws", "digest", "header", "jwt", "login", "oauth", "rotation")
    )


class AuthTools(Struct, frozen=True, kw_only=True):
    """
    What credentials may be made with, beside the options of their api.

    Attributes:
        connector: Its name.
        task: The task's number.
        places: Where tokens are kept.
        ask: (api, URL) to a way to that URL's origin: limited, without credentials.
        ask_once: The same, following no redirect.
    """

    connector: str
    task: int
    places: Places
    ask: Callable[[Api, str], Fetch]
    ask_once: Callable[[Api, str], Fetch]


#: Makes the credentials of an api.
Maker: TypeAlias = Callable[[Api, AuthTools], Auth | None]


def auth_of(api: Api, tools: AuthTools) -> Auth | None:
    """
    What an api's requests prove with who we are; None: nothing, or by
    `http.auth.class`, which carries requests itself.
    """
    auth = api.values.of(AuthConfig)
    if auth.auth_class is not None:
        return None
    if auth.credentials is not None:
        found = [
            _one_of(api, each) for each in credentials_of(auth.credentials.reveal())
        ]
        return rotation.Rotation(found, start=tools.task)
    return MAKERS[auth.type](api, tools)


def _one_of(api: Api, text: str) -> Auth:
    """One of several credentials."""
    kind = api.values.of(AuthConfig).type
    if kind == "BASIC":
        user, _, password = text.partition(":")
        return header_auth.basic(user, password)
    if kind == "BEARER":
        return header_auth.bearer(text)
    key = api.values.of(ApiKeyConfig)
    made = header_auth.QueryAuth if key.location == "QUERY" else header_auth.HeaderAuth
    return made(key.name, text)


def secret_params(values: Values) -> frozenset[str]:
    """Names of the query parameters that carry credentials."""
    key = values.of(ApiKeyConfig)
    kind, login = values.of(AuthConfig).type, values.of(LoginConfig)
    if kind == "API_KEY" and key.location == "QUERY":
        return frozenset({key.name})
    if kind == "LOGIN" and login.place == "QUERY" and login.name:
        return frozenset({login.name})
    return frozenset()


def _none(api: Api, tools: AuthTools) -> Auth | None:
    return None


def _basic(api: Api, tools: AuthTools) -> Auth:
    auth = api.values.of(AuthConfig)
    return header_auth.basic(needed(auth.user), reveal(auth.password) or "")


def _digest(api: Api, tools: AuthTools) -> Auth:
    auth = api.values.of(AuthConfig)
    return digest_auth.DigestAuth(needed(auth.user), reveal(auth.password) or "")


def _bearer(api: Api, tools: AuthTools) -> Auth:
    return header_auth.bearer(needed(api.values.of(AuthConfig).bearer_token).reveal())


def _api_key(api: Api, tools: AuthTools) -> Auth:
    key = api.values.of(ApiKeyConfig)
    made = header_auth.QueryAuth if key.location == "QUERY" else header_auth.HeaderAuth
    return made(key.name, needed(key.value).reveal())


def _oauth(api: Api, tools: AuthTools) -> Auth:
    oauth = api.values.of(OAuthConfig)
    refreshes = oauth.grant_type == "refresh_token"
    by_password = oauth.grant_type == "password"
    options = oauth_auth.OAuthOptions(
        token_url=needed(oauth.token_url),
        client_id=oauth.client_id or "",
        client_secret=reveal(oauth.client_secret) or "",
        grant=oauth.grant_type,
        refresh_token=reveal(oauth.refresh_token) if refreshes else None,
        user=(oauth.username or "") if by_password else "",
        password=(reveal(oauth.password) or "") if by_password else "",
        jwt=_jwt(api.values, oauth),
        scope=oauth.scope,
        client_mode=oauth.auth_mode,
        headers=tuple(oauth.headers or ()),
        params=pairs(oauth.params),
        as_json=oauth.request_format == "JSON",
        property=oauth.property,
        expires=oauth.expires,
        base=oauth.base_url,
        borders=http_options(api).borders,
        header=oauth.header,
        kind=oauth.token_type or "",
        buffer=float(oauth.buffer),
    )
    name = f"{options.token_url}\0{options.client_id}"
    if oauth.grant_type in ("password", "jwt_bearer"):
        name += f"\0{options.user}\0{options.jwt and options.jwt.subject}"
    return oauth_auth.OAuth2(
        options,
        fetch=tools.ask(api, options.token_url),
        **_kept(tools, name, outlives=refreshes),
    )


def _jwt(values: Values, oauth: OAuthConfig) -> jwt_auth.JwtOptions | None:
    if oauth.grant_type != "jwt_bearer" and oauth.auth_mode != "JWT":
        return None
    jwt = values.of(JwtConfig)
    return jwt_auth.JwtOptions(
        key=needed(jwt.key).reveal(),
        password=reveal(jwt.key_password),
        algorithm=jwt.algorithm,
        key_id=jwt.key_id or "",
        issuer=jwt.issuer or "",
        subject=jwt.subject or "",
        audience=jwt.audience or "",
        claims=_numbers(dict(jwt.claims or {})),
        lifetime=jwt.lifetime,
    )


def _numbers(value: Any) -> Any:
    """Numbers as JSON's own types have them."""
    if isinstance(value, dict):
        return {name: _numbers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _login(api: Api, tools: AuthTools) -> Auth:
    login, auth = api.values.of(LoginConfig), api.values.of(AuthConfig)
    options = login_auth.LoginOptions(
        url=urljoin(url_of(api.values).split("${", 1)[0], needed(login.url)),
        method=login.method,
        headers=tuple(login.headers or ()),
        body=login.body,
        user=auth.user or "",
        password=reveal(auth.password) or "",
        path=login.path,
        header=login.header,
        cookie=login.cookie,
        expires=login.expires,
        after=login.after,
        place=login.place,
        name=login.name or "",
        template=login.template.replace("${ token }", "${token}"),
        buffer=float(login.buffer),
    )
    return login_auth.LoginAuth(
        options,
        fetch=tools.ask_once(api, options.url),
        **_kept(
            tools, f"{options.method} {options.url}\0{options.user}", outlives=False
        ),
    )


def _kept(tools: AuthTools, whose: str, *, outlives: bool) -> dict[str, Any]:
    """File and lock of what all tasks share, by a name that tells whose it is."""
    places = tools.places
    # A rotated refresh token outlives the engine, an access token need not.
    tokens = places.outlived("tokens") if outlives else places.passing("tokens")
    digest = hashlib.blake2b(whose.encode(), digest_size=8).hexdigest()
    stem = f"{tools.connector}-{digest}"
    return {
        "path": tokens / f"{stem}.json",
        "lock": FileLock(tokens / f"{stem}.lock"),
    }


def _aws(api: Api, tools: AuthTools) -> Auth:
    aws = api.values.of(AwsConfig)
    return aws_auth.AwsSigV4(
        region=needed(aws.region),
        service=aws.service,
        access_key_id=needed(aws.access_key_id).reveal(),
        secret_access_key=needed(aws.secret_access_key).reveal(),
        session_token=reveal(aws.session_token),
    )


#: What makes the credentials of each `auth.type`.
MAKERS: Final[Mapping[str, Maker]] = {
    "NONE": _none,
    "BASIC": _basic,
    "BEARER": _bearer,
    "API_KEY": _api_key,
    "OAUTH2": _oauth,
    "LOGIN": _login,
    "DIGEST": _digest,
    "AWS_SIGV4": _aws,
}
