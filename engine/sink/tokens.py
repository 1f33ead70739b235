"""
Tokens: OAUTHBEARER for the brokers, by client credentials.

Owns the answer of `sasl.oauthbearer.token.endpoint.url`: how long a token lasts,
what a refusal means, and that one token serves every client of a process, or each
new connection would ask for its own.

Path: `sink.cluster` makes one for each client; `sink.sasl` asks it at each new
connection and each re-authentication (KIP-368).
"""

from __future__ import annotations

import http.client
import json
import logging
import math
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Mapping
from typing import Any

from engine.clock import SYSTEM, Clock
from engine.errors import Misconfigured, SinkError, Unavailable

log = logging.getLogger("sink")

#: Seconds an endpoint has to answer.
ANSWER = 5.0

#: Seconds a token is renewed before it ends, if it lasts long enough for that.
MARGIN = 60.0

#: Seconds a token lasts that says nothing of it (RFC 6749, 5.1 leaves it open), and
#: the longest that one is believed to last.
UNSAID = 300.0
LONGEST = 86400.0

#: Bytes of an answer that are read, and characters of one that are shown.
_MOST = 1 << 20
_SHOWN = 200

#: What refuses for now and not for good.
_LATER = {408, 425, 429}


class _Fixed(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET, and the secret go elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


class TokenSource:
    """
    The tokens of one client at one endpoint.

    Args:
        url: The token endpoint.
        options: Of `sasl.jaas.config`: clientId, clientSecret, and scope if set.
        context: For an endpoint over TLS.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, str],
        context: ssl.SSLContext,
        clock: Clock = SYSTEM,
    ) -> None:
        self._url = url
        self._options = options
        self._context = context
        self._clock = clock
        # Held while the endpoint is asked, on purpose: several connections of a process need a
        # token at the same time, and one request gets it for all of them.
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = 0.0
        self._ends_at = 0.0

    def token(self) -> str:
        """
        A token that is good now.

        One that is near its end is renewed; if that fails it serves until its end.

        Raises: Misconfigured if the endpoint refuses the client or is none;
        Unavailable if it does not answer.  Blocks: at most about `ANSWER` seconds,
        and while another thread asks.
        """
        with self._lock:
            now = self._clock.monotonic()
            if now < self._renew_at:
                return self._token
            try:
                self._take(self._ask(), now)
            except SinkError as error:
                if now >= self._ends_at:
                    raise
                log.warning("A token is not renewed, the old one is used: %s", error)
                self._renew_at = min(self._ends_at, now + ANSWER)
            return self._token

    def _take(self, found: Mapping[str, Any], now: float) -> None:
        token = found.get("access_token")
        if not isinstance(token, str) or not token:
            said = _told(found)
            raise Misconfigured(
                f"{self._named}: its answer has no access_token{said}; see "
                "sasl.oauthbearer.token.endpoint.url and sasl.jaas.config"
            )
        lasts = lifetime(found.get("expires_in"))
        if lasts is None:
            lasts = _by_claims(token, self._clock.wall_ms() / 1000)
        self._token = token
        self._ends_at = now + lasts
        self._renew_at = now + max(lasts - MARGIN, lasts * 0.8)

    @property
    def _named(self) -> str:
        """The endpoint for people; what may be secret of its URL is left out."""
        parts = urllib.parse.urlsplit(self._url)
        host = parts.netloc.rpartition("@")[2]
        return f"token endpoint {parts.scheme}://{host}{parts.path}"

    def _ask(self) -> Mapping[str, Any]:
        form = {"grant_type": "client_credentials"}
        if scope := self._options.get("scope"):
            form["scope"] = scope
        login = f"{self._options['clientId']}:{self._options['clientSecret']}"
        try:
            request = urllib.request.Request(
                self._url,
                data=urllib.parse.urlencode(form).encode(),
                headers={
                    "Authorization": f"Basic {b64encode(login.encode()).decode()}",
                    "Accept": "application/json",
                },
            )
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}),
                urllib.request.HTTPSHandler(context=self._context),
                _Fixed,
            )
            with opener.open(request, timeout=ANSWER) as answer:
                content = answer.read(_MOST)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error) from error
        except ValueError as error:
            raise Misconfigured(
                f"sasl.oauthbearer.token.endpoint.url is no URL: {error}"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", None) or error
            if isinstance(why, ssl.SSLCertVerificationError):
                raise Misconfigured(
                    f"{self._named}: its certificate is not accepted: {why}; see "
                    "ssl.truststore.*"
                ) from error
            said = str(why) or type(why).__name__
            raise Unavailable(f"{self._named} does not answer: {said}") from error
        found = _document(content)
        if found is None:
            raise Unavailable(
                f"{self._named} answered 200 with what is no JSON object: "
                f"{_short(content)}"
            )
        return found

    def _refused(self, error: urllib.error.HTTPError) -> SinkError:
        try:
            content = error.read(_MOST)
        except (OSError, http.client.HTTPException):
            content = b""
        told = _document(content)
        said = _short(content) if told is None else _told(told)
        text = f"{self._named} answered {error.code} {error.reason or ''}".rstrip()
        text = f"{text}{said if said.startswith(':') or not said else f': {said}'}"
        if error.code >= 500 or error.code in _LATER:
            return Unavailable(text)
        if 300 <= error.code < 400:
            goes = error.headers.get("Location", "nowhere")
            return Misconfigured(
                f"{text}; it redirects to {urllib.parse.urlsplit(goes).netloc or goes}: "
                "state the last URL as sasl.oauthbearer.token.endpoint.url"
            )
        return Misconfigured(
            f"{text}; see clientId, clientSecret and scope in sasl.jaas.config, and "
            "sasl.oauthbearer.token.endpoint.url"
        )


def lifetime(said: object) -> float | None:
    """
    `expires_in` in seconds; None where it says nothing that can be used.

    Servers leave it out, send null, or send digits as a string; zero and less are
    sent for "now" and for "never" alike.

    Source: RFC 6749, 5.1: a number, recommended.
    """
    if isinstance(said, bool) or not isinstance(said, (int, float, str)):
        return None
    try:
        seconds = float(said)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(seconds) or seconds <= 0:
        return None
    return min(seconds, LONGEST)


def _by_claims(token: str, now: float) -> float:
    """Seconds until `exp` of a token that is a JWT (RFC 7519, 4.1.4)."""
    try:
        part = token.split(".")[1]
        claims = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        left = lifetime(float(claims["exp"]) - now)
    except (IndexError, KeyError, TypeError, ValueError):
        return UNSAID
    return UNSAID if left is None else left


def _document(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _told(found: Mapping[str, Any]) -> str:
    """An error as RFC 6749, 5.2 has it, for people."""
    words = [found.get("error"), found.get("error_description")]
    said = " ".join(str(word) for word in words if isinstance(word, str))
    return f": {said[:_SHOWN]}" if said else ""


def _short(content: bytes) -> str:
    text = " ".join(content.decode(errors="replace").split())
    return text[:_SHOWN]


_SOURCES: dict[tuple[object, ...], TokenSource] = {}
# Two threads that made a source each would ask for two tokens, and an endpoint may end the first
# when it gives the second.
_SOURCES_LOCK = threading.Lock()


def source_of(
    url: str, options: Mapping[str, str], context: ssl.SSLContext
) -> TokenSource:
    """The one source of this process for this client at this endpoint."""
    key = (url, *sorted(options.items()))
    with _SOURCES_LOCK:
        found = _SOURCES.get(key)
        if found is None:
            found = _SOURCES[key] = TokenSource(url, options, context)
        return found


def extensions(options: Mapping[str, str]) -> dict[str, str]:
    """SASL extensions (KIP-342), from options `extension_<name>`."""
    return {
        name.removeprefix("extension_"): value
        for name, value in options.items()
        if name.startswith("extension_")
    }
