"""
Balance: which of several equivalent endpoints a request goes to.

Owns the choice and the rule that a chain never changes host within a poll.
Health (who is out, when a probe is due) is an object passed in, shared by all
tasks; the logical URL is what everybody else sees.

Path: `source.fetch` (Retrying) -> here -> `source.fetch` (Limited)
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from engine.errors import SourceError, Unreachable
from engine.policy import Follows, of_host
from engine.records import Request, Response
from engine.seams import Fetch, Stopping
from engine.source.wire.origin import shown
from engine.source.wire.pool import HttpCounters

log = logging.getLogger("http")


class Health(Protocol):
    """
    Which endpoints are in rotation; a breaker for each, by its URL.

    `closed` is in; anything else is out.  `allow` hands the right to probe to
    one caller of all processes at a time, once the interval is over.
    """

    def state(self, host: str) -> str: ...

    def allow(self, host: str) -> bool: ...

    def failed(self, host: str) -> None: ...

    def succeeded(self, host: str) -> None: ...

    def released(self, host: str) -> None: ...


class Endpoints:
    """
    The endpoints of an api in one task: their order, and their probes.

    Args:
        base: The logical URL's part that an endpoint takes the place of.
        urls: `http.source.endpoints`.
        strategy: ROUND_ROBIN, RANDOM or FAILOVER.
        start: Where round robin begins: the task's number.
        health: Shared by all tasks; None: all stay in rotation.
        probe: Asks an endpoint; costs no token.
        probe_path: What is asked; "" is the endpoint itself.
    """

    def __init__(
        self,
        base: str,
        urls: Sequence[str],
        *,
        strategy: str = "ROUND_ROBIN",
        start: int = 0,
        health: Health | None = None,
        probe: Fetch | None = None,
        probe_path: str = "",
        counters: HttpCounters,
        choose: Callable[[Sequence[str]], str] = random.choice,
    ):
        self.base = base.rstrip("/")
        self.urls = tuple(url.rstrip("/") for url in urls)
        self._strategy = strategy
        self._next = start
        self._health = health
        self._probe = probe
        self._probe_path = probe_path
        self._counters = counters
        self._choose = choose
        # Guards the turn and which endpoints are being probed, between the threads of a task: two
        # of them would else give one endpoint two turns, or probe it twice.
        self._lock = threading.Lock()
        self._probing: set[str] = set()

    def pick(self) -> str:
        """The endpoint for a request that is free to go anywhere."""
        urls = self._in_rotation()
        if self._strategy == "FAILOVER":
            return urls[0]
        if self._strategy == "RANDOM":
            return self._choose(urls)
        with self._lock:
            # Counted over all, so that one that is out shifts nobody's turn
            # more than it must.
            for _ in self.urls:
                url = self.urls[self._next % len(self.urls)]
                self._next += 1
                if url in urls:
                    return url
        return urls[0]

    def _in_rotation(self) -> Sequence[str]:
        health = self._health
        if health is None:
            return self.urls
        found = [url for url in self.urls if health.state(url) == "closed"]
        # With all of them out, trying any is better than trying none.
        return found or self.urls

    def tell(self, url: str, failure: SourceError | None) -> None:
        """How a request to an endpoint ended."""
        health = self._health
        if health is None:
            return
        follows = Follows.HOST_WORKS if failure is None else of_host(failure)
        if follows is Follows.HOST_WORKS:
            health.succeeded(url)
        elif follows is Follows.HOST_FAILED:
            before = health.state(url)
            health.failed(url)
            if before == "closed" and health.state(url) != "closed":
                self._counters.endpoints_out += 1
                log.warning("%s is out of rotation: %s", shown(url), failure)

    def answered(self, url: str, status: int) -> None:
        """An endpoint answered a request, with whatever status."""
        if status < 500:
            self.tell(url, None)
        else:
            self.tell(url, Unreachable(f"answers {status}", status=status))

    def tick(self) -> None:
        """
        Start the probes that are due; the task's loop calls it each second.

        Never blocks: a probe runs in a thread of its own.
        """
        health, probe = self._health, self._probe
        if health is None or probe is None:
            return
        for url in self.urls:
            if url in self._probing or health.state(url) == "closed":
                continue
            if health.allow(url):
                self._probing.add(url)
                threading.Thread(
                    target=self._ask, args=(url, health, probe), daemon=True
                ).start()

    def _ask(self, url: str, health: Health, probe: Fetch) -> None:
        self._counters.probes += 1
        try:
            response = probe(Request("GET", f"{url}{self._probe_path}"))
        except SourceError:
            health.failed(url)
        else:
            if response.status < 500:
                health.succeeded(url)
                log.info("%s is back in rotation", shown(url))
            else:
                health.failed(url)
        finally:
            self._probing.discard(url)


class Balanced:
    """
    A fetch that sends each request to one of the endpoints; one for a shard.

    A request that continues a chain goes where the chain went before.
    """

    def __init__(self, inner: Fetch, endpoints: Endpoints, *, stopping: Stopping):
        self._inner = inner
        self._endpoints = endpoints
        self._stopping = stopping
        self._chain: str | None = None

    def __call__(self, request: Request) -> Response:
        endpoints = self._endpoints
        url = request.url
        if not _under(url, endpoints.base):
            # A link the API gave: it names its host itself.
            return self._inner(request)
        if request.chained and request.page > 0 and self._chain is not None:
            endpoint = self._chain
        else:
            endpoint = endpoints.pick()
            if request.page == 0:
                self._chain = endpoint
        sent = replace(request, url=endpoint + url[len(endpoints.base) :])
        try:
            response = self._inner(sent)
        except SourceError as error:
            if not self._stopping.is_set():
                endpoints.tell(endpoint, error)
            raise
        endpoints.answered(endpoint, response.status)
        # Cache, state and links go by the logical URL.
        answered = response.url
        if _under(answered, endpoint):
            answered = endpoints.base + answered[len(endpoint) :]
        return replace(response, request=request, url=answered)


def _under(url: str, base: str) -> bool:
    """True if a URL is the base or lies below it."""
    return url.startswith(base) and url[len(base) : len(base) + 1] in ("", "/", "?")
