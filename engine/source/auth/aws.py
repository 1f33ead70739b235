"""
Aws: a request signed for AWS, each try anew.

Never sends anything itself, and shows no secret.

Path: `source.wire.http1` (each try) -> here; `task.build.auth` makes it
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import logging
from collections.abc import Hashable, Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

import requests
from requests.auth import AuthBase

from engine.clock import SYSTEM, Clock
from engine.observe.redact import REDACTOR
from engine.records import Response
from engine.source.auth.header import header_text
from engine.source.fetch.policy import epoch_of
from engine.source.wire.origin import origin_of, shown

log = logging.getLogger("http")

#: Headers that those between us and AWS may change, or that the signature is in.
UNSIGNED = frozenset(
    {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "expect",
        "proxy-authorization",
        "transfer-encoding",
        "user-agent",
        "x-amzn-trace-id",
    }
)
#: Milliseconds between two clocks that no service minds.
SKEW_ALLOWED_MS = 60_000


class AwsSigV4(AuthBase):
    """
    `auth.type=AWS_SIGV4`: every try is signed.

    Args:
        service: Of the scope.
        encode_twice: Whether a path is encoded once more for the signature;
            None: as AWS has it, everywhere but for s3.
        clock: The wall clock goes into the signature, corrected by the server's
            once it has refused one.

    Source: "Signature Version 4 signing process", AWS General Reference.
    """

    query = ""

    def __init__(
        self,
        *,
        region: str,
        service: str,
        access_key_id: str,
        secret_access_key: str,
        session_token: str | None = None,
        encode_twice: bool | None = None,
        clock: Clock = SYSTEM,
    ):
        self._encode_twice = service != "s3" if encode_twice is None else encode_twice
        self._scope = f"{region}/{service}/aws4_request"
        self._region = region
        self._service = service
        self._id = access_key_id
        self._secret = secret_access_key
        self._token = session_token
        self._clock = clock
        #: Milliseconds by which the server's clock is ahead of ours.
        self._ahead_ms = 0
        for secret in (secret_access_key, session_token):
            if secret:
                REDACTOR.learn(secret)

    def stamp(self) -> Hashable | None:
        """None: nothing that was signed is good for another request."""
        return None

    def refresh(self, response: Response, stale: bool = False) -> bool:
        """
        After a refusal: learn the server's time, if ours is what it refused.

        Returns: True if the next signature carries another time.
        """
        said = epoch_of(response.header("date"))
        if said is None:
            return False
        ahead_ms = int(said * 1000) - response.received_ms
        if abs(ahead_ms - self._ahead_ms) < SKEW_ALLOWED_MS:
            return False
        log.warning(
            "The clock of %s is %+d s off this machine's: signed by its time.",
            shown(response.url),
            ahead_ms // 1000,
        )
        self._ahead_ms = ahead_ms
        return True

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        now_ms = self._clock.wall_ms() + self._ahead_ms
        at = datetime.datetime.fromtimestamp(now_ms / 1000, datetime.UTC)
        stamp = at.strftime("%Y%m%dT%H%M%SZ")
        body = r.body or b""
        payload = body.encode() if isinstance(body, str) else bytes(body)
        r.headers["X-Amz-Date"] = stamp
        if self._token is not None:
            r.headers["X-Amz-Security-Token"] = self._token
        digest = hashlib.sha256(payload).hexdigest()
        if self._service == "s3":
            r.headers["X-Amz-Content-SHA256"] = digest
        r.headers["Authorization"] = self._sign(
            r.method or "GET", r.url or "", r.headers, digest, stamp
        )
        return r

    def _sign(
        self,
        method: str,
        url: str,
        headers: Mapping[str, Any],
        digest: str,
        stamp: str,
    ) -> str:
        parts = urlsplit(url)
        signed = {
            name.lower(): " ".join(header_text(value).split())
            for name, value in headers.items()
            if name.lower() not in UNSIGNED
        }
        signed["host"] = str(origin_of(url)).partition("://")[2]
        names = sorted(signed)
        canonical = "\n".join(
            [
                method,
                self._path(parts.path),
                _canonical_query(parts.query),
                *(f"{name}:{signed[name]}" for name in names),
                "",
                ";".join(names),
                digest,
            ]
        )
        scope = f"{stamp[:8]}/{self._scope}"
        to_sign = "\n".join(
            [
                "AWS4-HMAC-SHA256",
                stamp,
                scope,
                hashlib.sha256(canonical.encode()).hexdigest(),
            ]
        )
        key = f"AWS4{self._secret}".encode()
        for part in (stamp[:8], self._region, self._service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        return (
            f"AWS4-HMAC-SHA256 Credential={self._id}/{scope}, "
            f"SignedHeaders={';'.join(names)}, Signature={signature}"
        )

    def _path(self, path: str) -> str:
        if self._service == "s3":
            return path or "/"
        kept: list[str] = []
        for part in path.split("/"):
            if part == "..":
                del kept[-1:]
            elif part not in ("", "."):
                kept.append(part)
        tail = "/" if kept and path.endswith("/") else ""
        plain = f"/{'/'.join(kept)}{tail}"
        return quote(plain, safe="/~") if self._encode_twice else plain


def _canonical_query(query: str) -> str:
    # A plus is a plus here, not a blank; bytes, as they need not be UTF-8.
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    encoded = sorted((_canonical(name), _canonical(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def _canonical(text: str) -> str:
    return quote(unquote_to_bytes(text), safe="-_.~")
