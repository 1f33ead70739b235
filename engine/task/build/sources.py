"""
Sources: the HTTP side of a task, made from its configuration.

Owns the order of the layers around a request, and what is polled with them.  The way to a
server is `build.wires`, with whose credentials is `build.credentials`.

Path: `build.wiring`, `preview` and `check --connect` -> here -> ``source``
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from engine.config import Api, Connector
from engine.config.reread import reread
from engine.config.sections.auth import AuthConfig
from engine.config.sections.client import BalancingConfig, ClientConfig
from engine.config.sections.engine import ApiConfig
from engine.config.sections.limits import CircuitBreakerConfig, RetryConfig
from engine.config.sections.paging import PaginationConfig, PrefetchConfig
from engine.config.sections.request import RequestConfig
from engine.config.sections.response import AnswersConfig
from engine.config.sections.section import needed
from engine.observe.failures import FailureLog
from engine.records import Offset, Response, Shard
from engine.seams import Fetch, Stopping
from engine.shared.breaker import CircuitBreaker
from engine.shared.limiter import RateLimits
from engine.source.auth.base import Rebased
from engine.source.children import ChildApi, ChildDelivery, Tree
from engine.source.decode.decoder import Decode, Decoded, compile_decoder
from engine.source.fetch.balance import Balanced, Endpoints
from engine.source.fetch.breaker import Guarded
from engine.source.fetch.limit import Limited
from engine.source.fetch.metered import Metered
from engine.source.fetch.retry import Retrying
from engine.source.fetch.waits import Waits
from engine.source.jobs import JobPoll
from engine.source.paging.pager import ShardCoordination
from engine.source.paging.paginator import Paginator
from engine.source.paging.request import Shape
from engine.source.poll import EXPIRED_WITHIN, Poll
from engine.source.prefetch import ByteBudget, Prefetcher
from engine.source.wire.cookies import CookieJar
from engine.source.wire.origin import origin_of
from engine.source.wire.pieces import BodyLimits
from engine.source.wire.pool import HttpCounters
from engine.task.build.auth import AuthTools
from engine.task.build.cache import Caching
from engine.task.build.credentials import ApiCredentials
from engine.task.build.http import errors_of, policy_of, url_of
from engine.task.build.jobs import job_decoder, keys_of, steps_of
from engine.task.build.limits import threads_of
from engine.task.build.places import Places
from engine.task.build.polling import paginator_of
from engine.task.build.shapes import exploding_of, shapes_of
from engine.task.build.wires import Wires
from engine.task.metering import Metering
from engine.task.pause import Gate, Pausing


class Sources:
    """
    Makes the sources of a task's shards, and keeps what they share.

    Args:
        connector: The configuration.
        zone: `schedule.timezone`.
        task: The task's number.
        places: Where shared files stand.
        budget: Where the bytes of pages fetched ahead count.
        limits: What may be asked; None: as the connector has it.
        stop: The only way to wait, for what no single shard asks for.
        metering: Where requests and their stages are counted, or None.
        caching: The response cache, or None: each page is asked for.
        gate: Closed while the connector is paused.

    Attributes:
        pool: The task's connections.
        limiter: The connector's.
        waits: What kept each shard from asking.
        failures: What went wrong last, of each shard.
        breakers: Those of the apis that have one, by api.
    """

    def __init__(
        self,
        connector: Connector,
        *,
        zone: str,
        task: int,
        places: Places,
        budget: ByteBudget | None,
        stop: Stopping,
        limits: RateLimits | None = None,
        metering: Metering | None = None,
        caching: Caching | None = None,
        gate: Gate | None = None,
    ):
        self._gate = gate if gate is not None else Gate()
        self._metering = metering
        self._caching = caching
        self._task = task
        self._places = places
        self.zone = ZoneInfo(zone)
        self.waits: dict[Shard, Waits] = {}
        self.failures: dict[Shard, FailureLog] = {}
        self.breakers: dict[str, CircuitBreaker] = {}
        self._wires = Wires(
            connector,
            task=task,
            places=places,
            limits=limits,
            stop=stop,
            metering=metering,
            waits=self.waits,
            turns=lambda api: self._credentials.turns(api),
        )
        self.pool, self.limiter = self._wires.pool, self._wires.limiter
        self._ahead = Prefetcher(
            threads=threads_of(connector),
            pages=connector.values.of(PrefetchConfig).queue_size,
            budget=budget,
        )
        # What was rotated since the engine was started is taken up by each start.
        self._connector = connector = reread(connector)
        self._credentials = ApiCredentials(
            connector,
            AuthTools(
                connector=connector.known_as,
                task=task,
                places=places,
                ask=self._wires.plain,
                ask_once=functools.partial(self._wires.plain, redirects=0),
            ),
        )
        self._tries: dict[str, Fetch] = {}
        self._endpoints: dict[str, Endpoints] = {}

    def cut(self) -> None:
        """End the requests under way; their shards see a failed answer."""
        self._wires.cut()

    def close(self) -> None:
        """Close the connections and the limiter's files."""
        for breaker in self.breakers.values():
            breaker.close()
        self._wires.close()

    def tick(self, now: float) -> float:
        """
        See to idle connections and probes; never blocks.

        Returns: seconds until it wants to be called again, at most 1.
        """
        due = self._wires.tick(now)
        if not self._gate.closed:
            # A pause is for probes, too: nothing leaves.
            for endpoints in self._endpoints.values():
                endpoints.tick()
        return min(due, 1.0)

    @property
    def spool(self) -> Path:
        """Where what is too large for the memory is put, in files without a name."""
        return self._places.state

    @property
    def counters(self) -> HttpCounters:
        """What the HTTP side of the task counts."""
        return self.pool.counters

    # -- one api ---------------------------------------------------------------

    def _try(self, api: Api) -> Fetch:
        """One request of an api, with its credentials."""
        made = self._tries.get(api.name)
        if made is None:
            auth = self._credentials.auth(api)
            made = self._tries[api.name] = self._wires.way(api, auth, paying=True)
        return made

    def _balance(self, api: Api) -> Endpoints | None:
        values = api.values
        urls = values.of(BalancingConfig).endpoints
        if not urls:
            return None
        made = self._endpoints.get(api.name)
        if made is None:
            health = None
            if values.of(BalancingConfig).check_enabled:
                health = CircuitBreaker(
                    self._places.shared("endpoints"),
                    threshold=values.of(BalancingConfig).check_threshold,
                    recovery=values.of(BalancingConfig).check_interval,
                )
            base = needed(values.of(RequestConfig).url)
            made = Endpoints(
                str(origin_of(url_of(values).split("${", 1)[0]))
                if "://" in base
                else str(urls[0]),
                urls,
                strategy=values.of(BalancingConfig).strategy,
                start=self._task,
                health=health,
                probe=self._wires.way(api, self._credentials.auth(api), paying=False),
                probe_path=values.of(BalancingConfig).check_path or "",
                counters=self.counters,
            )
            self._endpoints[api.name] = made
        return made

    def _breaker(self, api: Api) -> CircuitBreaker | None:
        values = api.values
        if not values.of(CircuitBreakerConfig).enabled:
            return None
        made = self.breakers.get(api.name)
        if made is None:
            made = self.breakers[api.name] = CircuitBreaker(
                self._places.shared("breaker"),
                threshold=values.of(CircuitBreakerConfig).threshold,
                recovery=values.of(CircuitBreakerConfig).recovery,
            )
        return made

    def fetch(
        self,
        api: Api,
        decode: Decode,
        stopping: Stopping,
        waits: Waits,
        failures: FailureLog,
        *,
        cached: bool = True,
        again: bool = True,
    ) -> Fetch:
        """
        The onion of an api for one of its shards, outermost layer last.

        A token is paid for each try, a breaker is asked once for a request;
        the cache's layer goes around all of it.

        Args:
            cached: False: what is asked is asked of the API.
            again: False: a request whose end is unknown is not sent again.
        """
        api = self._credentials.newest(api)
        values = api.values
        metering = self._metering
        if metering is not None:
            decode = metering.through(api.name, "decode", decode)
        fetch = self._try(api)
        rate_gate = self._wires.rate_gate(api, stopping, waits)
        # What carries requests itself pays for each of them itself.
        pays = values.of(AuthConfig).auth_class is None
        fetch = Pausing(
            fetch,
            self._gate,
            stopping=stopping,
            rate_gate=rate_gate if pays else None,
        )
        if pays:
            fetch = Limited(fetch, rate_gate)
        base = self._credentials.base(api)
        if base is not None:
            home = str(origin_of(url_of(values).split("${", 1)[0]))
            fetch = Rebased(fetch, base, home)
        endpoints = self._balance(api)
        if endpoints is not None:
            fetch = Balanced(fetch, endpoints, stopping=stopping)
        renewing = self._credentials.renewing(api)
        if renewing is not None:
            fetch = renewing.through(fetch)
        breaker = self._breaker(api)
        policy = policy_of(values)
        fetch = Retrying(
            fetch,
            policy if again else replace(policy, idempotent=False),
            stopping=stopping,
            counters=self.counters,
            failures=failures,
            decode=decode,
            refresh=functools.partial(self._credentials.refreshed, api.name, renewing),
            rate_gate=self._wires.rate_gate(api, stopping, waits),
            allow=closed(breaker),
        )
        if metering is not None:
            fetch = Metered(fetch, metering.meters, stopping=stopping)
        if breaker is not None:
            fetch = Guarded(fetch, breaker, stopping=stopping, waits=waits)
        if self._caching is not None and cached:
            fetch = self._caching.around(api, fetch, stopping)
        return fetch

    def poll(
        self,
        api: Api,
        shard: Shard,
        *,
        stopping: Stopping,
        coordination: ShardCoordination | None = None,
        others: Sequence[tuple[int, int, Offset]] = (),
        note: Callable[[str], None] = lambda name: None,
    ) -> Poll:
        """
        The pages of one shard.

        Args:
            others: Stored offsets of shards of another count.
            coordination: Where the shards of this api meet.
            note: Told the name of each counter that goes up.
        """
        api = self._credentials.newest(api)
        values = api.values
        paginator = paginator_of(
            self._connector,
            api,
            shard,
            zone=self.zone,
            task=self._task,
            coordination=coordination,
            others=others,
            note=note,
        )
        decode = compile_decoder(
            format=values.of(AnswersConfig).format,
            data_path=values.of(AnswersConfig).data_pointer or "",
            wanted=paginator.paths,
            optional=values.of(AnswersConfig).data_optional,
            empty=values.of(AnswersConfig).status_empty,
            errors=errors_of(values),
            empty_body=values.of(AnswersConfig).empty_body == "EMPTY",
            charset=values.of(AnswersConfig).charset,
            bounds=BodyLimits(
                size=values.of(ClientConfig).max_response,
                spool_dir=str(self._places.state),
            ),
            shapes=shapes_of(values),
        )
        return self._polling(api, shard, paginator, stopping, note)(
            paginator,
            fetch=self.fetch(
                api,
                decode,
                stopping,
                self.waits.setdefault(shard, Waits()),
                self.failures.setdefault(shard, FailureLog()),
            ),
            decode=once_decoded(decode),
            stopping=stopping,
            task=self._task,
            entity=shard.entity,
            ahead=self._ahead if values.of(PaginationConfig).concurrent else None,
            name=f"ahead-{shard.label}",
            expired=values.of(PaginationConfig).cursor_expired_status,
            expired_within=values.of(PaginationConfig).cursor_expired_status
            if values.stated("pagination.cursor.expired.status")
            else EXPIRED_WITHIN,
            restart=values.of(PaginationConfig).cursor_expired == "RESTART",
            explode=exploding_of(values),
            jar=CookieJar if values.of(AuthConfig).cookies == "POLL" else None,
        )

    def _polling(
        self,
        api: Api,
        shard: Shard,
        paginator: Paginator,
        stopping: Stopping,
        note: Callable[[str], None],
    ) -> Callable[..., Poll]:
        """Makes the polls of an api: plain ones, or those of its jobs."""
        keys = keys_of(api)
        if keys is None:
            return Poll
        decode = job_decoder(api)
        fetch = functools.partial(
            self.fetch,
            api,
            decode,
            stopping,
            self.waits.setdefault(shard, Waits()),
            self.failures.setdefault(shard, FailureLog()),
            cached=False,
        )
        pages = paginator.shape
        assert isinstance(pages, Shape)
        steps = steps_of(
            self._connector,
            api,
            shard,
            pages=pages,
            ask=fetch(again=False),
            look=fetch(),
            decode=once_decoded(decode),
            zone=self.zone,
            task=self._task,
        )
        return functools.partial(JobPoll, keys=keys, steps=steps, note=note)

    def tree(
        self,
        root: Api,
        poll: Poll,
        *,
        delivery: ChildDelivery,
        stopping: Stopping,
        below: Stopping,
        notes: Mapping[str, Callable[[str], None]],
        note: Callable[[str], None],
        entity: str | None = None,
    ) -> Tree:
        """
        The pages of a root, each behind those of its children.

        Args:
            poll: The root's own.
            delivery: Where children's pages go.
            below: How children wait; several threads do at once.
            notes: As `note`, for each api below.
            entity: The root's.
        """
        return Tree(
            poll,
            self._children(root, below, notes, entity),
            delivery=delivery,
            stopping=stopping,
            note=note,
        )

    def _children(
        self,
        parent: Api,
        stopping: Stopping,
        notes: Mapping[str, Callable[[str], None]],
        entity: str | None,
    ) -> list[ChildApi]:
        return [
            ChildApi(
                api.name,
                self.poll(
                    api,
                    Shard(self._connector.name, api.name, entity),
                    stopping=stopping,
                    note=notes[api.name],
                ),
                extract=needed(api.values.of(ApiConfig).extract),
                concurrent=api.values.of(ApiConfig).max_concurrent,
                patient=api.values.of(RetryConfig).behavior == "IGNORE",
                children=self._children(api, stopping, notes, entity),
            )
            for api in self._connector.children(parent)
        ]


def closed(breaker: CircuitBreaker | None) -> Callable[[str], bool] | None:
    """Answers whether a host may be asked again; an open breaker says no."""
    if breaker is None:
        return None
    return lambda host: breaker.state(host) != "open"


def once_decoded(decode: Decode) -> Decode:
    """
    What the retrying layer made of a response when it judged it; what comes
    out of the cache nobody has judged yet.
    """

    def decoded(response: Response) -> Decoded:
        made: Decoded | None = response.decoded
        return decode(response) if made is None else made

    return decoded
