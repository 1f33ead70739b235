"""
Credentials: what an api's requests prove with who we are, over what becomes of it.

Owns the credentials of a task's apis, and reading anew what their keys' references stood
for: files change while a task runs, and an API that refuses is the first to tell.

Path: `build.sources` -> here -> `build.auth`, `source.auth.renewal`
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from engine.clock import SYSTEM
from engine.config import Api, Connector
from engine.config.reread import reread_values, rereads, texts
from engine.config.sections.auth import AuthConfig, OAuthConfig
from engine.errors import Denied
from engine.later import later
from engine.records import Response
from engine.source.auth.renewal import Refreshable, RenewableAuth, Renewing
from engine.source.auth.rotation import Rotation
from engine.source.fetch.limit import CredentialTurns
from engine.source.wire.options import Auth
from engine.task.build.auth import AuthTools, auth_of

if TYPE_CHECKING:
    from engine.source.auth import oauth as oauth_auth
else:
    oauth_auth = later("engine.source.auth.oauth")

log = logging.getLogger("http")


#: Beginnings of the keys whose text goes into requests beside `auth.type`.
IN_REQUESTS = (
    "http.source.header",
    "http.source.query.params",
    "http.source.url",
    "http.source.body",
)


class ApiCredentials:
    """
    The credentials of a connector's apis, in one task.

    Args:
        connector: The configuration, as its references were read last.
        tools: What they may be made with.
    """

    def __init__(self, connector: Connector, tools: AuthTools):
        self._may = connector.may
        self._tools = tools
        self._apis = {api.name: api for api in connector.apis}
        #: What the references in keys of requests stood for when last read.
        self._told = {
            api.name: texts(api.values, IN_REQUESTS) for api in connector.apis
        }
        self._renewing: dict[str, Renewing | None] = {}
        self._auths: dict[str, Auth | None] = {}
        self._renewable: dict[str, RenewableAuth] = {}

    def newest(self, api: Api) -> Api:
        """The api, with what its references stand for by now."""
        return self._apis.get(api.name, api)

    def auth(self, api: Api) -> Auth | None:
        """What the requests of an api prove with who we are; made once."""
        if api.name not in self._auths:
            made = auth_of(api, self._tools)
            if rereads(api.values) and api.values.of(AuthConfig).auth_class is None:
                made = self._renewable[api.name] = RenewableAuth(made)
            self._auths[api.name] = made
        return self._auths[api.name]

    def turns(self, api: Api) -> Callable[[], CredentialTurns | None] | None:
        """Gives an api's several credentials, as they are then; None: it has one."""
        if api.values.of(AuthConfig).credentials is None:
            return None

        def turns() -> CredentialTurns | None:
            auth = self._inmost(api.name)
            return auth if isinstance(auth, Rotation) else None

        return turns

    def base(self, api: Api) -> Callable[[], str] | None:
        """Gives the URL that a login says requests go to; None: none says one."""
        if api.values.of(OAuthConfig).base_url is None:
            return None

        def base() -> str:
            auth = self._inmost(api.name)
            return auth.base() if isinstance(auth, oauth_auth.OAuth2) else ""

        return base

    def renewing(self, api: Api) -> Renewing | None:
        """What reads an api's secrets anew, or None: none stands in a file."""
        if api.name not in self._renewing:
            made = None
            if rereads(api.values):
                made = Renewing(
                    functools.partial(self._read_anew, api), SYSTEM.monotonic
                )
            self._renewing[api.name] = made
        return self._renewing[api.name]

    def refreshed(
        self,
        name: str,
        renewing: Renewing | None,
        response: Response | None,
        stale: bool,
    ) -> bool:
        """
        Other credentials after a refusal: a fresh token, the server's time, or what
        their files say now.  True if there are any.
        """
        auth = self._inmost(name)
        if response is not None and isinstance(auth, Refreshable):
            try:
                if auth.refresh(response, stale):
                    return True
            except Denied:
                if renewing is None:
                    raise
        asked = response is None or response.status == 401 or stale
        return asked and renewing is not None and renewing(response)

    def _inmost(self, name: str) -> object:
        """What stands now in the place that is renewed."""
        auth: object = self._auths.get(name)
        return auth.inner if isinstance(auth, RenewableAuth) else auth

    def _read_anew(self, api: Api) -> Mapping[str, str] | None:
        before, told = self._apis[api.name].values, self._told[api.name]
        values = reread_values(before, self._may)
        now = texts(values, IN_REQUESTS)
        changed = {
            old: now[place]
            for place, old in told.items()
            if place in now and now[place] != old
        }
        if values is before and not changed:
            return None
        fresh = self._apis[api.name] = replace(api, values=values)
        self._told[api.name] = now
        renewable = self._renewable.get(api.name)
        if renewable is not None:
            renewable.replace(auth_of(fresh, self._tools))
        log.info("%s: its credentials were read anew.", api.name)
        return changed
