"""
Cached: a fetch that asks only for what it cannot know.

Owns the outermost skin: what was answered before is used as RFC 9111 allows,
asked for with its validators, and kept anew; of all processes one asks for a
key while the others wait for its answer.  Knows no tier and no process: it is
given an object to find and keep by.  Any failure of that object means
uncached, never a wrong page.

Path: `source.poll` (Request) -> here -> Guarded, Retrying, ... -> Response
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Protocol

import msgspec

from engine.clock import SYSTEM, Clock
from engine.errors import SourceError
from engine.records import Request, Response
from engine.seams import Fetch, Stopping
from engine.source.freshness import (
    ERRORS,
    OWN,
    SAFE,
    Stored,
    Verdict,
    freshened,
    kept,
    requested,
    stands_in,
    storable,
    touched,
    validators,
    varying,
    verdict,
)

log = logging.getLogger("http")

#: Seconds between two looks whether somebody else's answer has come.
LOOK = 0.01

#: Keys remembered as not to be kept, for which nobody waits.
MOST_UNKEPT = 10_000

#: Request headers that belong to the credential in a key.
SECRETS = ("authorization", "proxy-authorization", "cookie")
SECRET_WORDS = ("key", "token", "secret", "password", "signature")


class Hit(Protocol):
    """Something that was found: see `engine.shared.tiers.Found`."""

    @property
    def value(self) -> Stored: ...
    @property
    def level(self) -> int: ...
    @property
    def age(self) -> float: ...


class Flight(Protocol):
    """The right to ask for a key."""

    def land(self) -> None:
        """Give it back."""


class Kept(Protocol):
    """What finds and keeps: see `engine.shared.tiers.Tiers`."""

    def find(self, key: str, *, anew: bool = False) -> Hit | None: ...
    def keep(self, key: str, value: Stored) -> None: ...
    def drop(self, key: str) -> None: ...
    def lead(self, key: str) -> Flight | None: ...
    def count(self, level: int | None, result: str) -> None: ...
    def fingerprint(self, text: str) -> str: ...


class Cached:
    """
    Args:
        inner: Asks the API; its answers have proved usable.
        tiers: Where answers are kept.
        ttl: `cache.response.ttl.seconds`.
        credential: What tells one identity from another (not a token that is
            renewed); hashed before it is part of a key.
        repeatable: False where pages are not asked for twice the same way.
        patience: Seconds to wait for another process's answer.
        watch: Told the key of each request that could be kept, and whether it
            was fresh (warming learns from it).
    """

    def __init__(
        self,
        inner: Fetch,
        tiers: Kept,
        *,
        stopping: Stopping,
        ttl: float = 0.0,
        credential: str = "",
        repeatable: bool = True,
        patience: float = 60.0,
        watch: Callable[[str, Request, bool], None] | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._inner = inner
        self._tiers = tiers
        self._stopping = stopping
        self._ttl = ttl
        self._credential = credential
        self._identity: str | None = None
        self._repeatable = repeatable
        self._patience = patience
        self._watch = watch
        self._clock = clock
        self._unkept: OrderedDict[str, None] = OrderedDict()
        self._refreshing: set[str] = set()
        self._threads = threading.Lock()

    def __call__(self, request: Request) -> Response:
        # Hot path: a chain's pages are never asked for twice: two looks at
        # attributes, and the cache has cost them nothing.
        if request.chained or not self._repeatable:
            return self._inner(request)
        if request.method != "GET":
            return self._pass_through(request)
        for name, _ in request.headers:
            if name.lower() in OWN:
                return self._inner(request)
        key = self.key(request)
        hit, place = self._select(key, request)
        answer = self._use(hit, request, place) if hit is not None else None
        if self._watch is not None:
            self._watch(key, request, answer is not None)
        if answer is not None:
            return answer
        if "only-if-cached" in requested(request):
            return self._timed_out(request)
        if place in self._unkept:
            return self._ask(key, place, request, hit)
        return self._ask_alone(key, place, request, hit)

    def key(self, request: Request) -> str:
        """What an answer is found by: method, URL, credential; 32 hex digits."""
        return _digest(request.method, request.url, self._identity_of(request))

    def _identity_of(self, request: Request) -> str:
        """Whose answer it is; a secret header of the request's is part of it."""
        if self._identity is None:
            self._identity = self._tiers.fingerprint(self._credential)
        secret = [
            f"{name}:{value}"
            for name, value in request.headers
            if (lower := name.lower()) in SECRETS
            or any(word in lower for word in SECRET_WORDS)
        ]
        if secret:
            return self._identity + self._tiers.fingerprint("\n".join(secret))
        return self._identity

    def warm(self, request: Request) -> Response | None:
        """
        Ask for what is not fresh, for later; None: it still is fresh.

        Raises: as a fetch.
        """
        key = self.key(request)
        hit, place = self._select(key, request)
        if hit is not None:
            judged = verdict(hit.value, hit.age, request, self._ttl)
            if judged is Verdict.FRESH:
                return None
        flight = self._tiers.lead(place)
        if flight is None:
            return None
        try:
            return self._ask(key, place, request, hit, counted=False)
        finally:
            flight.land()

    def _select(
        self, key: str, request: Request, *, anew: bool = False
    ) -> tuple[Hit | None, str]:
        """(what is stored for this request, the key it stands or would stand by)."""
        hit = self._tiers.find(key, anew=anew)
        if hit is None:
            return None, key
        stored = hit.value
        if stored.status == 0:
            # Only which headers make a difference stands here.
            names = ",".join(name for name, _ in stored.vary)
            place = _variant(key, varying(request, names))
            hit = self._tiers.find(place, anew=anew)
            if hit is None:
                return None, place
            stored = hit.value
            key = place
        if stored.url != request.url or stored.vary != varying(
            request, ",".join(name for name, _ in stored.vary) or None
        ):
            return None, key
        return hit, key

    def _use(self, hit: Hit, request: Request, place: str) -> Response | None:
        """An answer that needs no asking, or None."""
        judged = verdict(hit.value, hit.age, request, self._ttl)
        if judged is Verdict.STALE:
            return None
        if judged is Verdict.WHILE_REVALIDATING:
            self._refresh(place, request)
            self._tiers.count(hit.level, "stale")
        else:
            self._tiers.count(hit.level, "hit")
        return self._answer(hit.value, hit.age, request, "fresh")

    def _answer(
        self, stored: Stored, age: float, request: Request, origin: str
    ) -> Response:
        headers = [pair for pair in stored.headers if pair[0] != "age"]
        headers.append(("age", str(int(min(stored.age + age, 2**31)))))
        return Response(
            request=request,
            url=stored.answered,
            status=stored.status,
            headers=headers,
            body=stored.body,
            sent_at=self._clock.monotonic(),
            received_ms=stored.received_ms,
            tries=0,
            wire_bytes=0,
            origin=origin,
        )

    def _ask_alone(
        self, key: str, place: str, request: Request, hit: Hit | None
    ) -> Response:
        """
        Ask, unless another process does: then its answer counts for both.

        An answer that came while we waited is as good as our own would have
        been, even where it must be asked for at every use.
        """
        began = self._clock.monotonic()
        flight = self._tiers.lead(place)
        # Between the look that found nothing and the lead another process may
        # have asked and landed.
        look = flight is None or hit is None
        while flight is None:
            passed = self._clock.monotonic() - began
            if passed >= self._patience or self._stopping.wait(LOOK):
                break
            flight = self._tiers.lead(place)
        try:
            if look:
                newer, place = self._select(key, request, anew=True)
                if newer is not None:
                    passed = self._clock.monotonic() - began
                    if newer.age < passed:
                        self._tiers.count(newer.level, "hit")
                        return self._answer(newer.value, newer.age, request, "fresh")
                    answer = self._use(newer, request, place)
                    if answer is not None:
                        return answer
                    hit = newer
            return self._ask(key, place, request, hit)
        finally:
            if flight is not None:
                flight.land()

    def _ask(
        self,
        key: str,
        place: str,
        request: Request,
        hit: Hit | None,
        *,
        counted: bool = True,
    ) -> Response:
        """Ask the API, for news only where something is stored."""
        conditions = validators(hit.value.headers) if hit is not None else {}
        asked = request
        if conditions:
            asked = msgspec.structs.replace(
                request, headers=(*request.headers, *conditions.items())
            )
        try:
            response = self._inner(asked)
        except SourceError as failure:
            if conditions and _refuses(failure):
                # What was refused may be the condition: the page itself is asked
                # for once, and what is stored is asked about no more.
                self._tiers.drop(place)
                return self._ask(key, place, request, None, counted=counted)
            if hit is None or not self._may_stand_in(failure, hit, request):
                self._tiers.count(None, "miss")
                raise
            self._tiers.count(hit.level, "stale")
            return self._answer(hit.value, hit.age, request, "fresh")
        delay = max(0.0, self._clock.monotonic() - response.sent_at)
        if conditions and hit is not None and response.status == 304:
            return self._confirmed(key, request, hit, response, delay, counted)
        if counted:
            self._tiers.count(None, "miss")
        if response.request is not request:
            response = msgspec.structs.replace(response, request=request)
        self._store(key, place, request, response, delay)
        return response

    def _confirmed(
        self,
        key: str,
        request: Request,
        hit: Hit,
        response: Response,
        delay: float,
        counted: bool,
    ) -> Response:
        stored = freshened(hit.value, response, delay)
        self._enter(key, request, stored)
        if counted:
            self._tiers.count(hit.level, "revalidated")
        answer = self._answer(stored, 0.0, request, "revalidated")
        answer.sent_at = response.sent_at
        answer.tries = response.tries
        answer.wire_bytes = response.wire_bytes
        return answer

    def _store(
        self, key: str, place: str, request: Request, response: Response, delay: float
    ) -> None:
        if not isinstance(response.body, memoryview) and storable(
            request, response, self._ttl
        ):
            self._enter(key, request, kept(request, response, delay))
            return
        self._unkept[place] = None
        while len(self._unkept) > MOST_UNKEPT:
            with contextlib.suppress(KeyError):
                self._unkept.popitem(last=False)
        if response.status < 400:
            # What may not be kept makes what was kept before it wrong.
            self._tiers.drop(key)

    def _enter(self, key: str, request: Request, stored: Stored) -> None:
        place = key
        if stored.vary:
            place = _variant(key, stored.vary)
            pointer = self._tiers.find(key)
            names = tuple((name, None) for name, _ in stored.vary)
            if (
                pointer is None
                or pointer.value.status != 0
                or pointer.value.vary != names
            ):
                mark = Stored(stored.url, stored.answered, 0, (), b"", names)
                self._tiers.keep(key, mark)
        self._unkept.pop(place, None)
        self._tiers.keep(place, stored)

    def _may_stand_in(self, failure: SourceError, hit: Hit, request: Request) -> bool:
        if self._stopping.is_set():
            return False
        if failure.status is not None and failure.status not in ERRORS:
            return False
        return stands_in(hit.value, hit.age, request, self._ttl)

    def _pass_through(self, request: Request) -> Response:
        response = self._inner(request)
        if request.method not in SAFE:
            for url in touched(request, response):
                self._tiers.drop(_digest("GET", url, self._identity_of(request)))
        return response

    def _refresh(self, place: str, request: Request) -> None:
        """Ask in a thread of its own for what was just used stale, once."""
        with self._threads:
            if place in self._refreshing:
                return
            self._refreshing.add(place)

        def work() -> None:
            try:
                self.warm(request)
            except SourceError as failure:
                log.info("%s could not be refreshed: %s", request.url, failure)
            finally:
                with self._threads:
                    self._refreshing.discard(place)

        threading.Thread(target=work, name="cache-refresh", daemon=True).start()

    def _timed_out(self, request: Request) -> Response:
        """RFC 9111 5.2.1.7: only what is stored was wanted, and nothing is."""
        self._tiers.count(None, "miss")
        now = self._clock
        return Response(
            request=request,
            url=request.url,
            status=504,
            headers=[],
            body=b"",
            sent_at=now.monotonic(),
            received_ms=now.wall_ms(),
            tries=0,
            origin="fresh",
        )


def _refuses(failure: SourceError) -> bool:
    """
    A 4xx, but for the one that says "later" (RFC 6585, 4).

    A 412, 413 or 431 speaks of the condition; a 400 or 403 may come from a gateway
    that took offence at it.
    """
    status = failure.status
    return status is not None and 400 <= status < 500 and status != 429


def _digest(*parts: str) -> str:
    return blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def _variant(key: str, values: tuple[tuple[str, str | None], ...]) -> str:
    return _digest(key, *(f"{name}={value!r}" for name, value in values))
