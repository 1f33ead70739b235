"""
Cache: a fetch that asks only for what it cannot know.

Owns the outermost layer: what was answered before is used as RFC 9111 allows,
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
from typing import Protocol

import msgspec

from engine.clock import SYSTEM, Clock
from engine.errors import SourceError, Throttled
from engine.records import Request, Response
from engine.seams import Fetch, Stopping
from engine.source.fetch.freshness import (
    ERRORS,
    OWN,
    SAFE,
    CacheVerdict,
    StoredResponse,
    confirms,
    freshened,
    keepable,
    kept,
    requested,
    stands_in,
    storable,
    touched,
    validators,
    verdict,
)

log = logging.getLogger("http")

#: Seconds between two looks whether somebody else's answer has come.
LOOK = 0.01

#: Keys remembered as kept by this process, and as not to be kept.
MOST_KNOWN = 10_000


class Hit(Protocol):
    """Something that was found: see `engine.shared.cache.tiers.CacheHit`."""

    @property
    def value(self) -> StoredResponse: ...
    @property
    def level(self) -> int: ...
    @property
    def age(self) -> float: ...


class FlightLease(Protocol):
    """The right to ask for a key."""

    def land(self) -> None:
        """Give the right to ask back."""


class Kept(Protocol):
    """What finds and keeps: see `engine.shared.cache.tiers.Tiers`."""

    def find(self, key: str, *, anew: bool = False) -> Hit | None: ...
    def keep(self, key: str, value: StoredResponse) -> None: ...
    def drop(self, key: str) -> None: ...
    def lead(self, key: str) -> FlightLease | None: ...
    def count(self, level: int | None, result: str) -> None: ...
    def fingerprint(self, text: str) -> str: ...


class Cached:
    """
    Args:
        inner: Asks the API; its answers have proved usable.
        tiers: Where answers are kept.
        ttl: `cache.response.ttl.seconds`.
        credential: What tells one identity from another beside the request
            (not a token that is renewed); hashed before it is part of a key.
        repeatable: False where pages are not asked for twice the same way.
        changed: Others of the connector may change by their requests what this
            one is answered: RFC 9111 4.4.
        changes: What this one sends may do that to others.
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
        changed: bool = False,
        changes: bool = True,
        patience: float = 60.0,
        watch: Callable[[str, Request, bool], None] | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._inner = inner
        self._tiers = tiers
        self._stopping = stopping
        self._ttl = ttl
        self._credential = credential
        self._repeatable = repeatable
        self._changed = changed
        self._changes = changes
        self._patience = patience
        self._watch = watch
        self._clock = clock
        #: What this process has kept, and what it was not allowed to keep.
        self._known: OrderedDict[str, None] = OrderedDict()
        self._unkept: OrderedDict[str, None] = OrderedDict()
        self._refreshing: set[str] = set()
        # Guards `_refreshing` alone: of the threads that find the same stale answer one starts
        # the request behind it. The two ordered dicts are only hints, and a lost one costs a
        # request.
        self._threads = threading.Lock()

    def __call__(self, request: Request) -> Response:
        # Hot path: a chain's pages are never asked for twice: two looks at
        # attributes, and the cache has cost them nothing.  What cookies a kept
        # answer would have set is not known.
        if request.chained or not self._repeatable or request.jar is not None:
            return self._inner(request)
        if request.method != "GET":
            return self._pass_through(request)
        for name, _ in request.headers:
            if name.lower() in OWN:
                return self._inner(request)
        key = self.key(request)
        hit = self._find(key)
        answer = self._use(hit, request, key) if hit is not None else None
        if self._watch is not None:
            self._watch(key, request, answer is not None)
        if answer is not None:
            return answer
        if "only-if-cached" in requested(request):
            return self._timed_out(request)
        if key in self._unkept:
            return self._ask(key, request, hit)
        return self._ask_alone(key, request, hit)

    def key(self, request: Request) -> str:
        """
        What an answer is found by: 32 hex digits.

        All that it may depend on: method, URL, each header and the body of the
        request, and who asks, hashed with the installation's secret.  A header
        that nobody has heard of may be the one that names the user.
        """
        body = "" if request.body is None else request.body.decode("latin-1")
        headers = sorted((name.lower(), value) for name, value in request.headers)
        pairs = [part for pair in headers for part in pair]
        return self._tiers.fingerprint(
            "\0".join((request.method, request.url, self._credential, body, *pairs))
        )

    def warm(self, request: Request) -> Response | None:
        """
        Ask for what is not fresh, for later; None: it still is fresh.

        Raises: as a fetch.
        """
        key = self.key(request)
        hit = self._find(key)
        if hit is not None:
            judged = verdict(hit.value, hit.age, request, self._ttl)
            if judged is CacheVerdict.FRESH and not self._touched(hit):
                return None
        flight = self._tiers.lead(key)
        if flight is None:
            return None
        try:
            return self._ask(key, request, hit, counted=False)
        finally:
            flight.land()

    def _find(self, key: str, *, anew: bool = False) -> Hit | None:
        """What is stored for a key; marks are no answers."""
        hit = self._tiers.find(key, anew=anew)
        return None if hit is None or not hit.value.status else hit

    def _use(self, hit: Hit, request: Request, key: str) -> Response | None:
        """An answer that needs no asking, or None."""
        judged = verdict(hit.value, hit.age, request, self._ttl)
        if judged is CacheVerdict.STALE or self._touched(hit):
            return None
        if judged is CacheVerdict.WHILE_REVALIDATING:
            # Only what this process brought itself: it is still there to ask.
            # One that began with it might end before, and the next one again.
            if key not in self._known:
                return None
            self._refresh(key, request)
            self._tiers.count(hit.level, "stale")
        else:
            self._tiers.count(hit.level, "hit")
        return self._answer(hit.value, hit.age, request, "fresh")

    def _answer(
        self, stored: StoredResponse, age: float, request: Request, origin: str
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
            # Whoever asks has it now, as he would have it from the API.
            received_ms=self._clock.wall_ms(),
            tries=0,
            wire_bytes=0,
            origin=origin,
        )

    def _ask_alone(self, key: str, request: Request, hit: Hit | None) -> Response:
        """
        Ask, unless another process does: then its answer counts for both.

        An answer that came while we waited is as good as our own would have
        been, even where it must be asked for at every use.
        """
        began = self._clock.monotonic()
        flight = self._tiers.lead(key)
        # Between the look that found nothing and the lead another process may
        # have asked and landed.
        look = flight is None or hit is None
        while flight is None:
            passed = self._clock.monotonic() - began
            if passed >= self._patience or self._stopping.wait(LOOK):
                break
            flight = self._tiers.lead(key)
        try:
            if look:
                newer = self._find(key, anew=True)
                if newer is not None:
                    passed = self._clock.monotonic() - began
                    if newer.age < passed:
                        self._tiers.count(newer.level, "hit")
                        return self._answer(newer.value, newer.age, request, "fresh")
                    answer = self._use(newer, request, key)
                    if answer is not None:
                        return answer
                    hit = newer
            return self._ask(key, request, hit)
        finally:
            if flight is not None:
                flight.land()

    def _ask(
        self, key: str, request: Request, hit: Hit | None, *, counted: bool = True
    ) -> Response:
        """Ask the API, for news only where something is stored."""
        conditions = {}
        if hit is not None:
            conditions = validators(hit.value.headers, hit.value.received_ms)
        asked = request
        if conditions:
            asked = msgspec.structs.replace(
                request,
                headers=(*request.headers, *conditions.items()),
                conditional=True,
            )
        try:
            response = self._inner(asked)
            delay = max(0.0, self._clock.monotonic() - response.sent_at)
            if conditions and hit is not None and response.status == 304:
                if confirms(hit.value, response):
                    return self._confirmed(key, request, hit, response, delay, counted)
                # It speaks of another answer than ours: asked for as it is.
                self._drop(key)
                tries = response.tries
                response = self._inner(request)
                response = msgspec.structs.replace(
                    response, tries=response.tries + tries
                )
                delay = max(0.0, self._clock.monotonic() - response.sent_at)
        except SourceError as failure:
            if conditions and _refuses(failure):
                # What was refused may be the condition: the page itself is asked
                # for once, and what is stored is asked about no more.
                self._drop(key)
                return self._ask(key, request, None, counted=counted)
            if hit is None or not self._may_stand_in(failure, hit, request):
                raise
            self._tiers.count(hit.level, "stale")
            return self._answer(hit.value, hit.age, request, "fresh")
        before = key in self._known
        if response.request is not request:
            response = msgspec.structs.replace(response, request=request)
        stored = self._store(key, request, response, delay)
        if counted:
            self._tiers.count(None, _result(stored, hit is not None, before))
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
        if keepable(stored):
            self._enter(key, stored)
        else:
            self._drop(key)
        if counted:
            self._tiers.count(hit.level, "revalidated")
        answer = self._answer(stored, 0.0, request, "revalidated")
        return msgspec.structs.replace(
            answer,
            sent_at=response.sent_at,
            received_ms=response.received_ms,
            tries=response.tries,
            wire_bytes=response.wire_bytes,
        )

    def _store(
        self, key: str, request: Request, response: Response, delay: float
    ) -> bool:
        """True if the answer may be kept, and was handed to the tiers."""
        if not isinstance(response.body, memoryview) and storable(
            request, response, self._ttl
        ):
            self._enter(key, kept(request, response, delay))
            return True
        _remember(self._unkept, key)
        if response.status < 400:
            # What may not be kept makes what was kept before it wrong.
            self._drop(key)
        return False

    def _enter(self, key: str, stored: StoredResponse) -> None:
        self._unkept.pop(key, None)
        _remember(self._known, key)
        self._tiers.keep(key, stored)

    def _drop(self, key: str) -> None:
        self._known.pop(key, None)
        self._tiers.drop(key)

    def _may_stand_in(self, failure: SourceError, hit: Hit, request: Request) -> bool:
        if self._stopping.is_set():
            return False
        if failure.status is not None and failure.status not in ERRORS:
            return False
        return stands_in(hit.value, hit.age, request, self._ttl)

    def _pass_through(self, request: Request) -> Response:
        response = self._inner(request)
        if self._changes and request.method not in SAFE:
            for url in touched(request, response):
                # Whoever asks for it, by whatever headers: a mark of its own.
                mark = StoredResponse(url, url, 0, (), b"")
                self._tiers.keep(self._mark(url), mark)
        return response

    def _touched(self, hit: Hit) -> bool:
        """True if a request of ours may have changed it since it was received."""
        if not self._changed:
            return False
        mark = self._tiers.find(self._mark(hit.value.url), anew=True)
        return mark is not None and mark.age <= hit.age

    def _mark(self, url: str) -> str:
        return self._tiers.fingerprint(f"changed\0{url}")

    def _refresh(self, key: str, request: Request) -> None:
        """Ask in a thread of its own for what was just used stale, once."""
        with self._threads:
            if key in self._refreshing:
                return
            self._refreshing.add(key)

        def work() -> None:
            try:
                self.warm(request)
            except SourceError as failure:
                log.info("%s could not be refreshed: %s", request.url, failure)
            finally:
                with self._threads:
                    self._refreshing.discard(key)

        threading.Thread(target=work, name="cache-refresh", daemon=True).start()

    def _timed_out(self, request: Request) -> Response:
        """RFC 9111 5.2.1.7: only what is stored was wanted, and nothing is."""
        self._tiers.count(None, "uncacheable")
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
    if isinstance(failure, Throttled):
        # A rate limit, in whatever status the API says it.
        return False
    return status is not None and 400 <= status < 500 and status != 429


def _result(stored: bool, hit: bool, known: bool) -> str:
    """How a lookup is counted that needed a body from the API."""
    if not stored:
        return "uncacheable"
    if hit:
        return "news"
    # Only what had been kept and is gone before its time is the cache's failing.
    return "miss" if known else "first"


def _remember(keys: OrderedDict[str, None], key: str) -> None:
    keys[key] = None
    keys.move_to_end(key)
    while len(keys) > MOST_KNOWN:
        with contextlib.suppress(KeyError):
            keys.popitem(last=False)
