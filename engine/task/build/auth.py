"""
Auth: the credentials of an api, made from its options.

Owns one function for each `auth.type`, and which query parameters carry a secret.

Path: `build.sources` (each api's requests) -> here -> `source.auth`
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from msgspec import Struct

from engine.config import Api, Values
from engine.config.sections.auth import ApiKeyConfig, AuthConfig, AwsConfig, OAuthConfig
from engine.config.sections.section import needed
from engine.seams import Fetch
from engine.shared.lock import FileLock
from engine.source.auth.aws import AwsSigV4
from engine.source.auth.header import HeaderAuth, QueryAuth, basic, bearer
from engine.source.auth.oauth import OAuth2, OAuthOptions
from engine.source.wire.http1 import Auth
from engine.task.build.http import pairs, reveal
from engine.task.build.places import Places


class AuthTools(Struct, frozen=True, kw_only=True):
    """
    What credentials may be made with, beside the options of their api.

    Attributes:
        connector: Its name.
        places: Where tokens are kept.
        ask: (api, URL) to a way to that URL's origin: limited, without credentials.
    """

    connector: str
    places: Places
    ask: Callable[[Api, str], Fetch]


#: Makes the credentials of an api.
Maker: TypeAlias = Callable[[Api, AuthTools], Auth | None]


def auth_of(api: Api, tools: AuthTools) -> Auth | None:
    """
    What an api's requests prove with who we are; None: nothing, or by
    `http.auth.class`, which carries requests itself.
    """
    auth = api.values.of(AuthConfig)
    return None if auth.auth_class is not None else MAKERS[auth.type](api, tools)


def secret_params(values: Values) -> frozenset[str]:
    """Names of the query parameters that carry credentials."""
    key = values.of(ApiKeyConfig)
    asked = values.of(AuthConfig).type == "API_KEY" and key.location == "QUERY"
    return frozenset({key.name} if asked else ())


def _none(api: Api, tools: AuthTools) -> Auth | None:
    return None


def _basic(api: Api, tools: AuthTools) -> Auth:
    auth = api.values.of(AuthConfig)
    return basic(needed(auth.user), reveal(auth.password) or "")


def _bearer(api: Api, tools: AuthTools) -> Auth:
    return bearer(needed(api.values.of(AuthConfig).bearer_token).reveal())


def _api_key(api: Api, tools: AuthTools) -> Auth:
    key = api.values.of(ApiKeyConfig)
    made = QueryAuth if key.location == "QUERY" else HeaderAuth
    return made(key.name, needed(key.value).reveal())


def _oauth(api: Api, tools: AuthTools) -> Auth:
    oauth = api.values.of(OAuthConfig)
    refresh = None
    if oauth.grant_type == "refresh_token":
        refresh = reveal(oauth.refresh_token)
    options = OAuthOptions(
        token_url=needed(oauth.token_url),
        client_id=needed(oauth.client_id),
        client_secret=needed(oauth.client_secret).reveal(),
        refresh_token=refresh,
        scope=oauth.scope,
        in_header=oauth.auth_mode == "HEADER",
        headers=tuple(oauth.headers or ()),
        params=pairs(oauth.params),
        property=oauth.property,
        buffer=float(oauth.buffer),
    )
    name = hashlib.blake2b(
        f"{options.token_url}\0{options.client_id}".encode(), digest_size=8
    ).hexdigest()
    # A rotated refresh token outlives the engine, an access token need not.
    kept = refresh is not None
    tokens = tools.places.outlived("tokens") if kept else tools.places.passing("tokens")
    return OAuth2(
        options,
        fetch=tools.ask(api, options.token_url),
        path=tokens / f"{tools.connector}-{name}.json",
        lock=FileLock(tokens / f"{tools.connector}-{name}.lock"),
    )


def _aws(api: Api, tools: AuthTools) -> Auth:
    aws = api.values.of(AwsConfig)
    return AwsSigV4(
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
    "AWS_SIGV4": _aws,
}
