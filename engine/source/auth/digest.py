"""
Digest: a password that is proved and not sent.

Owns the challenge of each server and the answer to it, counted anew for each try.  The
first request of a task is refused and brings the challenge; a nonce that has become
stale is taken up from the answer that says so.

Path: `source.wire.http1` (each try) -> here; `source.fetch.retry` hands the refusal over
Source: RFC 7616; RFC 2069 for servers that name no qop.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from engine.errors import Denied
from engine.later import pattern
from engine.observe.redact import REDACTOR
from engine.records import Response
from engine.source.wire.origin import origin_of, shown

#: The strongest first; what `hashlib` calls them.
ALGORITHMS = {"SHA-512-256": "sha512_256", "SHA-256": "sha256", "MD5": "md5"}

_TOKEN = pattern(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SPACE = pattern(r"[ \t]*")
_QUOTED = pattern(r'"((?:[^"\\]|\\.)*)"')
_BARE = pattern(r"[^\s,\"]+")
_TOKEN68 = pattern(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]").search
#: Characters of one header that are looked at, and origins with a challenge of theirs.
_LONGEST, _MOST_ORIGINS = 16_384, 64


class Challenge(Struct):
    """
    What a server asks for; `count` is how often its nonce was used.

    Attributes:
        algorithm: As the server wrote it; "" where it said none, which means MD5.
        qop: Whether it takes `auth`; False: the form of RFC 2069.
    """

    realm: str
    nonce: str
    opaque: str | None
    algorithm: str
    qop: bool
    userhash: bool
    utf8: bool
    count: int = 0

    @property
    def name(self) -> str:
        """One of `ALGORITHMS`."""
        return (self.algorithm or "MD5").upper().removesuffix("-SESS")

    @property
    def session(self) -> bool:
        """Whether it is one of the `-sess` algorithms."""
        return self.algorithm.upper().endswith("-SESS")


class DigestAuth:
    """
    `auth.type=DIGEST`.  Thread-safe; each process counts its own nonce.

    Args:
        nonce: Makes the client's own.
    """

    query = ""

    def __init__(
        self,
        user: str,
        password: str,
        *,
        nonce: Callable[[], str] = lambda: os.urandom(16).hex(),
    ):
        self._user = user
        self._password = password
        self._nonce = nonce
        # Guards the challenges and the count of each: a server refuses a count that it has seen
        # with the same nonce (RFC 7616, 3.4), so no two threads may send one.
        self._lock = threading.Lock()
        self._challenges: dict[str, Challenge] = {}
        REDACTOR.learn(password)

    def stamp(self) -> Hashable | None:
        """None once there is a challenge: each try has a proof of its own."""
        return None if self._challenges else True

    def __call__(self, prepared: Any) -> Any:
        url = prepared.url or ""
        target = url[url.find("/", 8) :]
        with self._lock:
            challenge = self._challenges.get(str(origin_of(prepared.url)))
            if challenge is None:
                return prepared
            challenge.count += 1
            proof = answer(
                challenge,
                user=self._user,
                password=self._password,
                method=prepared.method or "GET",
                target=target,
                cnonce=self._nonce(),
            )
        prepared.headers["Authorization"] = proof
        return prepared

    def refresh(self, response: Response, stale: bool = False) -> bool:
        """
        After a 401: take its challenge up.

        Returns: True if there is a nonce that the refused request did not have.
        Raises: Denied: Digest is asked for in a form that is not known.
        """
        if response.status != 401:
            return False
        found = challenges(
            [value for name, value in response.headers if name == "www-authenticate"]
        )
        digests = [params for scheme, params in found if scheme == "digest"]
        if not digests:
            return False
        made = _chosen(digests, response)
        origin = str(origin_of(response.url))
        with self._lock:
            before = self._challenges.get(origin)
            if before is not None and before.nonce == made.nonce:
                return False
            if len(self._challenges) >= _MOST_ORIGINS:
                self._challenges.clear()
            self._challenges[origin] = made
        return True


def answer(
    challenge: Challenge,
    *,
    user: str,
    password: str,
    method: str,
    target: str,
    cnonce: str,
) -> str:
    """The Authorization header for one request; `challenge.count` is its nc."""

    # Headers are read as Latin-1: so these are the bytes that the server has sent, and
    # ours are UTF-8 as it is everywhere by now, whether the server says so or not.
    def hashed(text: str) -> str:
        data = text.encode("latin-1")
        return hashlib.new(ALGORITHMS[challenge.name], data).hexdigest()

    plain, user = user, user.encode().decode("latin-1")
    password = password.encode().decode("latin-1")
    realm, nonce = challenge.realm, challenge.nonce
    secret = hashed(f"{user}:{realm}:{password}")
    if challenge.session:
        secret = hashed(f"{secret}:{nonce}:{cnonce}")
    asked = hashed(f"{method}:{target}")
    count = f"{challenge.count:08x}"
    if challenge.qop:
        proof = hashed(f"{secret}:{nonce}:{count}:{cnonce}:auth:{asked}")
    else:
        proof = hashed(f"{secret}:{nonce}:{asked}")
    name = f"username={_quoted(user)}"
    if challenge.userhash:
        name = f"username={_quoted(hashed(f'{user}:{realm}'))}"
    elif challenge.utf8 and not plain.isascii():
        name = f"username*=UTF-8''{quote(plain, safe='')}"
    fields = [
        name,
        f"realm={_quoted(realm)}",
        f"uri={_quoted(target)}",
    ]
    if challenge.algorithm:
        fields.append(f"algorithm={challenge.algorithm}")
    fields.append(f"nonce={_quoted(nonce)}")
    if challenge.qop:
        fields += [f"nc={count}", f"cnonce={_quoted(cnonce)}", "qop=auth"]
    elif challenge.session:
        fields.append(f"cnonce={_quoted(cnonce)}")
    fields.append(f'response="{proof}"')
    if challenge.opaque is not None:
        fields.append(f"opaque={_quoted(challenge.opaque)}")
    if challenge.userhash:
        fields.append("userhash=true")
    return f"Digest {', '.join(fields)}"


def _chosen(found: list[dict[str, str]], response: Response) -> Challenge:
    """The strongest of the challenges that can be answered."""
    usable: list[Challenge] = []
    why = ""
    for params in found:
        made, lacks = _challenge(params)
        if made is None:
            why = lacks
        else:
            usable.append(made)
    if not usable:
        raise Denied(
            f"{shown(response.url)} asks for Digest in a way that is not known: {why}",
            status=401,
            url=shown(response.url),
        )
    order = list(ALGORITHMS)
    return min(usable, key=lambda each: order.index(each.name))


def _challenge(params: dict[str, str]) -> tuple[Challenge | None, str]:
    nonce = params.get("nonce", "")
    values = [nonce, params.get("realm", ""), params.get("opaque", "")]
    if not nonce or any(map(_CONTROL, values)):
        return None, "no nonce" if not nonce else "a control character"
    algorithm = params.get("algorithm", "")
    name = (algorithm or "MD5").upper().removesuffix("-SESS")
    if name not in ALGORITHMS or ALGORITHMS[name] not in hashlib.algorithms_available:
        return None, f"algorithm={algorithm[:40]}"
    offered = {one.strip().lower() for one in params.get("qop", "").split(",")} - {""}
    if offered and "auth" not in offered:
        return None, f"qop={params['qop'][:40]}; qop=auth is what can be answered"
    return (
        Challenge(
            realm=params.get("realm", ""),
            nonce=nonce,
            opaque=params.get("opaque"),
            algorithm=algorithm,
            qop=bool(offered),
            userhash=params.get("userhash", "").lower() == "true",
            utf8=params.get("charset", "").upper() == "UTF-8",
        ),
        "",
    )


def challenges(values: list[str]) -> list[tuple[str, dict[str, str]]]:
    """
    The challenges of WWW-Authenticate: scheme and parameters, names in lower case.

    Several may stand in one header, and parameters are separated like they are
    (RFC 9110, 11.6.1).  What cannot be read ends its header.
    """
    found: list[tuple[str, dict[str, str]]] = []
    for value in values:
        for scheme, name, text in _items(value[:_LONGEST]):
            if scheme:
                found.append((scheme.lower(), {}))
            elif found:
                # The first of a name holds: what comes behind cannot change it.
                found[-1][1].setdefault(name.lower(), text)
    return found


def _items(text: str) -> Iterator[tuple[str, str, str]]:
    """(scheme, "", "") or ("", name, value), in order."""
    at, end = 0, len(text)

    def spaces(at: int) -> int:
        match = _SPACE.match(text, at)
        return match.end() if match else at

    while at < end:
        at = spaces(at)
        if at < end and text[at] == ",":
            at += 1
            continue
        word = _TOKEN.match(text, at)
        if word is None:
            return
        at = spaces(word.end())
        if at < end and text[at] == "=" and not text.startswith("==", at):
            at = spaces(at + 1)
            quoted = _QUOTED.match(text, at)
            if quoted is not None:
                yield "", word[0], re.sub(r"\\(.)", r"\1", quoted[1])
                at = quoted.end()
                continue
            bare = _BARE.match(text, at)
            if bare is None:
                return
            yield "", word[0], bare[0]
            at = bare.end()
            continue
        yield word[0], "", ""
        # `Negotiate abc==`: a blob where the parameters would be.
        blob = _TOKEN68.match(text, at)
        if blob is not None and "=" not in blob[0].rstrip("="):
            at = blob.end()


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
