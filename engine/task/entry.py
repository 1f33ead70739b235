"""
Entry: a task process from its first step to its exit code.

Owns the wiring: it is the only place that constructs the path of a page out
of rooms that do not know each other.  Everything is opened here, after the
fork, and opened anew after the broker was away.

Path: ``supervisor.child`` -> here -> ``task.run``
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from engine.clock import SYSTEM, Clock
from engine.config import Api, Connector, Values
from engine.config.sections.borders import CertificatesConfig
from engine.config.sections.cache import ResponseCacheConfig
from engine.config.sections.client import ClientConfig
from engine.config.sections.delivery import StateConfig, TransactionsConfig
from engine.config.sections.engine import ApiConfig, IdentityConfig, ScheduleConfig
from engine.config.sections.kafka import ProducerConfig
from engine.config.sections.letters import DeadLetterQueueConfig, ErrorsConfig
from engine.config.sections.limits import RetryConfig
from engine.config.sections.observing import MetricsConfig
from engine.config.sections.offsets import OffsetsConfig
from engine.config.sections.paging import PaginationConfig
from engine.config.sections.processes import DirectoriesConfig, TasksConfig
from engine.config.sections.response import (
    AnswersConfig,
    DeduplicationConfig,
    RecordsConfig,
)
from engine.errors import Doubtful, EngineError
from engine.observe import log as logs
from engine.observe.failures import FailureLog, decoded
from engine.observe.meters import DIRECTORY, Meters
from engine.observe.redact import redact
from engine.records import Parcel, Shard
from engine.seams import Transform
from engine.shared.board import Board, Slot
from engine.shared.limiter import Limits
from engine.shared.link import Assigned, BrokerKnown, Message
from engine.sink.commit import Delivery
from engine.sink.fencing import Owner, taken_over
from engine.sink.identity import Identities
from engine.sink.kafka import wait_for_broker
from engine.sink.outlet import Saver
from engine.sink.preflight import Topics
from engine.sink.state import Nowhere, Saved, State, canonical
from engine.sink.statetopic import TopicState
from engine.source.paging.pager import CHAINS
from engine.task.absence import Absence
from engine.task.admission import Admission
from engine.task.broker import Brokers, bootstrap_of, state_place
from engine.task.cache import Caching, unique_headers
from engine.task.doubled import doubled
from engine.task.flow import Flow, Source
from engine.task.memory import PART, Forgetful, Remembering
from engine.task.metering import Held, Metering
from engine.task.owning import Decided, Owning
from engine.task.pace import Interval
from engine.task.pause import Gate
from engine.task.positions import Positions
from engine.task.pulse import Patience, Pulse
from engine.task.registry import Persistent, Registries
from engine.task.reporting import Reporter
from engine.task.run import ONCE_PATIENCE, Context, Impatience, Stopper, Task
from engine.task.seen import Keeping, SeenStore, kept, partition_of
from engine.task.shelf import Shelf
from engine.task.siblings import Siblings
from engine.task.source import Places, Sources, pace_of, policy_of, url_of
from engine.task.standing import Standing, over, stored
from engine.task.starting import Start
from engine.task.transform import transform_of
from engine.task.tree import Branch, Branches, Rooted, stored_below, without_topic
from engine.task.troubles import Troubles
from engine.task.unchanged import Unchanged
from engine.task.walker import Walker
from engine.task.watching import Watching
from engine.transform.dedup import Seen

log = logging.getLogger("task")

#: Seconds a request may take over its own deadline before its loop counts as
#: dead: DNS and TLS have no better clock than the deadline they were given.
SLACK = 10.0


#: Crashes in a row after which what processes share in files is suspected.
CRASHES = 2

#: Seconds in which the cache may move what is in memory to the disk.
SETTLING = 2.0

#: Topics that are looked up or created before the start says how far it is.
TOPICS_AT_ONCE = 8

#: Seconds between two attempts to save a state, at the start.
SAVING_AGAIN = 1.0

#: Said where less is delivered than was asked for.
NOT_EXACTLY = (
    "Delivery is at least once although exactly.once.support=%s: %s. A kill repeats "
    "the pages in flight; the gauge http_source_eos_active is 0."
)

#: Said while there is no state that could be saved.
UNSAVED = "The state cannot be saved, so nothing more is delivered: %s"
RIVAL_GONE = "No other engine saves the offsets of this connector any more."
SAVED_AGAIN = "The state can be saved again; deliveries go on."
#: Seconds a stop waits for writes of which nothing is heard; what they hold is
#: asked for again by the next start.
LAST_WRITES = 3.0

#: Seconds between two lines about the same counter of a shard.
NOTE_EVERY = 60.0

#: Counters that tell of a poll which went otherwise than the API said.
DOUBTFUL = frozenset(
    {
        "total_mismatch_total",
        "totals_doubted_total",
        "polls_repeating_total",
        "polls_refused_total",
        "polls_unsure_total",
        "polls_restarted_total",
    }
)

#: What a counter of the source's means to who reads the log.
NOTES = {
    "total_mismatch_total": "the API promised more records than it sent",
    "page_rewritten_total": "the API has rewritten a page that was delivered before",
    "polls_truncated_total": "the poll was cut by pagination.max.pages; "
    "the next one goes on from there",
    "polls_restarted_total": "the poll began anew: the API knew no more where it was",
    "delta_links_unused_total": "the API gives a link to what changes from now on; "
    "http.offset.mode=CURSOR_PAGINATION goes on from it",
    "children_without_value_total": "a parent record has no value for its child",
    "child_polls_skipped_total": "a child's poll failed and was skipped",
    "records_with_doubled_members_total": "records have a member twice; "
    "the last one counts",
}


class Home(Context, Protocol):
    """What this room needs of the child's context beside `task.run.Context`."""

    board: Board
    index: int
    runtime: Path


def run(
    context: Home,
    *,
    connector: Connector,
    process: Values,
    embedded: Callable[[], str],
    once: bool,
    siblings: Sequence[str] = (),
) -> int:
    """
    One task process.

    Args:
        siblings: The other connectors of the engine that keep their state in the
            same place.
        embedded: Address of the embedded broker, asked for after the fork.

    Returns: the exit code.  Blocks: for the life of the task.
    """
    logs.name_process(connector=connector.name, task=str(context.number))
    bootstrap = bootstrap_of(connector.values, embedded)
    brokers = Brokers(connector, bootstrap, context.number)
    meters = Meters(
        directory=context.runtime / DIRECTORY,
        connector=connector.name,
        task=context.number,
        detailed=connector.values.of(MetricsConfig).detailed,
    )
    registries = Registries(connector)
    metering = Metering(
        meters,
        letters="topic" if brokers.letters() else "log",
        insecure=not all(
            api.values.of(CertificatesConfig).verify for api in connector.apis
        ),
        schemas=registries.cache,
    )
    wiring = Wiring(
        context,
        connector,
        process,
        brokers,
        registries,
        metering,
        once,
        siblings=siblings,
    )

    def wait() -> bool:
        stopping: Stopper = context.stopping
        if once:
            stopping = Impatience(stopping, ONCE_PATIENCE)
        return wait_for_broker(brokers.admin, stopping, log.warning)

    try:
        return Task(context, wiring, wait, once=once).run()
    finally:
        wiring.close()
        registries.close()
        metering.close()


class Wiring:
    """Makes a `Session`; called again after the broker was away."""

    def __init__(
        self,
        context: Home,
        connector: Connector,
        process: Values,
        brokers: Brokers,
        registries: Registries,
        metering: Metering,
        once: bool,
        siblings: Sequence[str] = (),
    ):
        self._metering = metering
        self._siblings = siblings
        self._context = context
        self._connector = connector
        self._process = process
        self._brokers = brokers
        self._once = once
        self._apis = {api.name: api for api in connector.apis}
        self._complaints = Complaints(
            connector.values, always=brokers.letters() is None
        )
        self._registries = registries
        self._places = Places(
            context.runtime, Path(process.of(DirectoriesConfig).state)
        )
        self._caching = Caching(
            connector,
            place=context.runtime,
            disk=Path(process.of(DirectoriesConfig).cache),
            task=context.number,
            suspect=context.board.watch(context.index).get("crashes") >= CRASHES,
        )
        self._identities = Identities(brokers.admin)
        #: As a reload has changed them, or None.
        self._limits: Limits | None = None
        self._gate = Gate()
        if self._caching.tiers is not None:
            metering.follow_cache(self._caching)

    def _remember_limits(self, limits: Limits) -> None:
        self._limits = limits

    def close(self) -> None:
        """Let go of what outlives the broker's absences."""
        hurried = self._context.stopping.hurried
        self._caching.close(0.0 if hurried else SETTLING)

    def __call__(
        self,
        *,
        stop: threading.Event,
        wake: Callable[[], None],
        ended: Callable[[Walker], None],
        settled: set[Shard],
        start: Start,
    ) -> Session:
        """As `task.run.Build`."""
        values = self._connector.values
        brokers = self._brokers
        topics = brokers.topics(log.warning)
        self._identities = Identities(brokers.admin, ensure=topics.limit)
        self._ensure(topics, start)
        state = self._state()
        decided = self._decide(state, start)
        producer = None
        if decided.exactly:
            producer = brokers.transactional(brokers.transactional_id())
        start.step("reading_state")
        try:
            saved = self._load(state, decided, start)
        except BaseException:
            if producer is not None:
                producer.close(1.0)
            raise
        self._require_saving(state, start)
        start.step("opening_connections")
        budget = brokers.budget()
        delivery = brokers.delivery(
            topics,
            budget=budget,
            producer=producer,
            # Somebody waits for the end of a single run.
            patience=brokers.patience if self._once else None,
        )
        session = Session(
            delivery,
            self._metering,
            self._context.report,
            self._remember_limits,
            Absence(
                brokers.cluster.address,
                self._context.report,
                linger=values.of(ProducerConfig).linger,
            ),
            self._once,
            self._gate,
        )
        try:
            sources = Sources(
                self._connector,
                zone=self._process.of(ScheduleConfig).timezone,
                task=self._context.number,
                places=self._places,
                budget=budget,
                stop=Patience(stop, Pulse(fetch=0.0, work=0.0)),
                limits=self._limits,
                metering=self._metering,
                caching=self._caching,
                gate=self._gate,
            )
            session.sources = sources
            self._metering.follow(sources.counters, sources.pool, budget, delivery)
            self._metering.follow_limits(sources.limiter, sources.breakers)
            positions = Positions(
                (each.shard for one in self._context.assigned for each in one.tree),
                saved.values(),
            )
            saver = positions.saver(self._metering.saver(state))
            board = self._context.board
            slots = {
                each.shard: board.shard(each.slot)
                for assigned in self._context.assigned
                for each in assigned.tree
            }
            session.held = Held(sources.waits, budget, slots)
            places = {
                each.shard: each.slot
                for assigned in self._context.assigned
                for each in assigned.tree
            }
            for shard, place in places.items():
                last = decoded(board.failure(place))
                sources.failures[shard] = FailureLog(last)
            self._metering.follow_failures(sources.failures)
            session.reporter = Reporter(
                board,
                places,
                sources.failures,
                sources.waits,
                positions,
                session.walkers,
            )
            for assigned in self._context.assigned:
                if assigned.shard not in settled:
                    start.step("opening_connections")
                    walker = self._walker(
                        assigned,
                        delivery=delivery,
                        sources=sources,
                        state=state,
                        saver=saver,
                        saved=saved,
                        topics=topics,
                        stop=stop,
                        ended=ended,
                        pause=values.of(StateConfig).flush_interval,
                    )
                    if walker is None:
                        session.done.append(assigned.shard)
                    else:
                        session.walkers.append(walker)
            if not self._once:
                state.own(
                    (each.shard.partition for each in self._context.assigned),
                    decided.owner.gen if decided.exactly else None,
                )
                session.watching = Watching(state, stop)
            self._caching.tend(
                stop,
                limiter=sources.limiter,
                zone=self._process.of(ScheduleConfig).timezone,
                url_of=url_of,
                # One poll and the end: nothing comes for which to fetch ahead.
                leads=() if self._once else self._leads(),
                next_poll=session.next_poll,
            )
        except BaseException:
            session.close(0.0)
            raise
        return session

    def _ensure(self, topics: Topics, start: Start) -> None:
        """The topics are there; said of in parts where they are many."""
        start.step("preparing_topics")
        names, keyless = self._fixed_topics(), set(self._keyless())
        for at in range(0, len(names), TOPICS_AT_ONCE):
            part = names[at : at + TOPICS_AT_ONCE]
            topics.ensure(part, keyless=[name for name in part if name in keyless])
            start.progress(at + len(part), len(names))

    def _state(self) -> State:
        values = self._connector.values
        return self._brokers.state(
            once=self._once,
            siblings=self._siblings,
            shelf=Shelf(self._context.runtime, state_place(values)),
            say=log.warning,
        )

    def _decide(self, state: State, start: Start) -> Decided:
        """
        Whether records and positions go in transactions.

        Raises: TakenOver if another engine has the connector by now; Misconfigured
        with `exactly.once.support=required` where it is not possible.
        """
        values = self._connector.values
        support = values.of(TransactionsConfig).support
        why = unfit(values)
        decided = Decided(Owner(), why=why if support == "requested" else "")
        if isinstance(state, TopicState) and support != "disabled" and not why:
            decided = self._owning(state, start)
        self._metering.exactly(decided.exactly)
        if decided.why and (values.stated("exactly.once.support") or not why):
            log.warning(NOT_EXACTLY, support, decided.why)
        return decided

    def _owning(self, state: TopicState, start: Start) -> Decided:
        start.step("fencing")
        values = self._connector.values
        return Owning(
            self._brokers,
            state,
            runtime=self._context.runtime,
            connector=self._connector.name,
            task=self._context.number,
            tasks=values.of(IdentityConfig).tasks_max,
            support=values.of(TransactionsConfig).support,
        ).decide(start.progress)

    def _load(self, state: State, decided: Decided, start: Start) -> dict[str, Saved]:
        """
        What is saved, with nobody left who saves otherwise.

        Raises: TakenOver if another engine has the connector by now.
        """
        saved = state.load(start.progress)
        if not isinstance(state, TopicState):
            return saved
        if not decided.exactly and state.owner.tasks:
            # An engine before had transactions, of which one may be open.
            self._owning(state, start)
            start.step("reading_state")
            return state.load(start.progress)
        if decided.exactly and state.owner.gen > decided.owner.gen:
            raise taken_over(self._connector.name, decided.owner.gen, state.owner)
        return saved

    def _require_saving(self, state: State, start: Start) -> None:
        """
        Wait until the state can be saved: what has none is delivered twice.

        Raises: Doubtful if it cannot for too long under `run --once`.
        """
        start.step("saving_state")
        began = SYSTEM.monotonic()
        while why := state.able():
            if self._once and SYSTEM.monotonic() - began > ONCE_PATIENCE:
                raise Doubtful(UNSAVED % why)
            start.wait(SAVING_AGAIN, UNSAVED % why)

    def _leads(self) -> set[str]:
        """The apis of which this task polls the first shard: one task does."""
        found = set()
        for assigned in self._context.assigned:
            for shard in (each.shard for each in assigned.tree):
                entities = self._apis[shard.api].values.of(ApiConfig).entities or ()
                if shard.index == 0 and shard.entity in (None, *entities[:1]):
                    found.add(shard.api)
        return found

    def _keyless(self) -> list[str]:
        """Fixed topics that get records without a key."""
        return [
            topic
            for api in self._connector.apis
            if (topic := api.values.of(RecordsConfig).fixed_topic)
            and api.values.of(RecordsConfig).key is None
        ]

    def _fixed_topics(self) -> list[str]:
        names = [
            topic
            for api in self._connector.apis
            if (topic := api.values.of(RecordsConfig).fixed_topic)
        ]
        dead = self._brokers.letters()
        return [*dict.fromkeys(names), *([dead] if dead else [])]

    def _walker(
        self,
        assigned: Assigned,
        *,
        delivery: Delivery,
        sources: Sources,
        state: State,
        saver: Saver,
        saved: dict[str, Saved],
        topics: Topics,
        stop: threading.Event,
        ended: Callable[[Walker], None],
        pause: float,
    ) -> Walker | None:
        """A shard's loop, None if `run --once` has nothing to do for it."""
        shard = assigned.shard
        standing = stored(saved.values(), shard)
        slot = self._context.board.shard(assigned.slot)
        crew = self._crew(assigned)
        crew.begin(standing.poll, standing.told)
        if self._once and over(standing, shard.count, slot):
            return None
        if shard.index == 0 and standing.outlived(shard.count):
            gone = [each.partition for each in standing.others]
            state.reset([*gone, *({**each, **PART} for each in gone)])
        api = self._apis[shard.api]
        values = api.values
        pulse = Pulse(
            fetch=values.of(ClientConfig).request_timeout + SLACK,
            work=self._process.of(TasksConfig).heartbeat_timeout,
        )
        patience = Patience(stop, pulse)
        tally = Tally(shard, slot, self._complaints)
        poll = sources.poll(
            api,
            shard,
            stopping=patience,
            crew=crew,
            others=standing.family,
            note=tally.note,
        )
        source: Source = poll
        outlet = self._metering.outlet(
            api.name,
            delivery.outlet(
                shard.partition, saver, pause=pause, bad=self._bad(api, tally)
            ),
        )
        remember = self._remember(api, shard, delivery, saver, saved)
        stores: list[SeenStore] = []
        store = self._store(delivery, saver, saved)
        transform = self._transform(api, shard, topics, patience, stores, store)
        if assigned.below:
            tallies = self._tallies(assigned)
            branches = Branches(
                [
                    self._branch(
                        each, delivery, saver, saved, topics, pause, patience, stores
                    )
                    for each in tallies.values()
                ],
                stored_below(saved.values(), shard, tallies),
                delivery=delivery,
                pulse=pulse,
            )
            outlet = Rooted(outlet, branches)
            source = sources.tree(
                api,
                poll,
                delivery=branches,
                stopping=patience,
                # Their waits are many at once and none of them is the loop's.
                below=Patience(stop, Pulse(fetch=0.0, work=0.0)),
                notes={name: each.note for name, each in tallies.items()},
                note=tally.note,
                entity=shard.entity,
            )
        flow = Flow(
            shard,
            standing.offset(self._once),
            source=source,
            transform=transform,
            outlet=Keeping(outlet, stores) if stores else outlet,
            memory=remember(shard.partition) or Forgetful(),
            counting=tally.counting,
            pulse=pulse,
            stopping=patience,
            gate=self._gate,
        )
        pace = pace_of(
            api,
            sources.zone,
            # What is stored does not know of a poll that had no page yet.
            resume=standing.unfinished or tally.cut,
            skipped=tally.skipped,
            origin=self._grid(assigned, tally, standing),
            last_ms=standing.at,
        )
        if isinstance(pace, Interval):
            tally.grid = pace.origin
        return Walker(
            flow,
            pace=pace,
            patient=values.of(RetryConfig).behavior == "IGNORE",
            patience=values.of(AnswersConfig).bad_page_patience,
            once=self._once,
            pulse=pulse,
            stopping=patience,
            polling=tally.polling,
            given_up=tally.given_up,
            succeeded=tally.succeeded,
            failures=sources.failures[shard],
            ended=ended,
            gate=self._gate,
        )

    def _grid(
        self, assigned: Assigned, tally: Tally, standing: Standing
    ) -> float | None:
        """
        Where the grid of the shard's polls begins, None for here and now.

        A part that came with another cut keeps to the grid of those before it.
        """
        if tally.grid is not None or standing.own is not None or not standing.others:
            return tally.grid
        board = self._context.board
        begun = (board.shard(slot).get("grid_ns") for slot in assigned.siblings)
        return min((ns / 1e9 for ns in begun if ns), default=None)

    def _tallies(self, assigned: Assigned) -> dict[str, Tally]:
        """Those of the apis below a root, by name."""
        board = self._context.board
        return {
            each.shard.api: Tally(each.shard, board.shard(each.slot), self._complaints)
            for each in assigned.below
        }

    def _branch(
        self,
        tally: Tally,
        delivery: Delivery,
        saver: Saver,
        saved: Mapping[str, Saved],
        topics: Topics,
        pause: float,
        patience: Patience,
        stores: list[SeenStore],
    ) -> Branch:
        shard = tally.shard
        api = self._apis[shard.api]
        keeps = api.values.of(ApiConfig).state == "KEEP"
        store = self._store(delivery, saver, saved)
        if not keeps:
            saver = Nowhere()
        return Branch(
            shard,
            self._transform(
                api,
                shard,
                topics,
                patience,
                stores,
                store,
            ),
            open=lambda partition: delivery.outlet(
                partition, saver, pause=pause, bad=self._bad(api, tally)
            ),
            memory=self._remember(api, shard, delivery, saver, saved),
            timed=lambda outlet: self._metering.outlet(shard.api, outlet),
            counting=tally.counting,
            forget=lambda partition, done: saver.forget(delivery, partition, done),
            keeps=keeps,
            polls=self._polls_kept(api) if keeps else 0,
        )

    def _polls_kept(self, api: Api) -> int:
        """
        `api.chaining.state.polls` of a child.

        Its default is for positions that cost nothing to lose: a child that is read
        from its start each poll, or one whose parents list all there is.
        """
        values, polls = api.values, int(api.values.of(ApiConfig).state_polls)
        line = [api, *self._connector.ancestors(api)]
        full = [each.values.of(OffsetsConfig).mode == "FULL" for each in line]
        cheap = full[0] or all(full[1:])
        return polls if cheap or values.stated("api.chaining.state.polls") else 0

    def _remember(
        self,
        api: Api,
        shard: Shard,
        delivery: Delivery,
        saver: Saver,
        saved: Mapping[str, Saved],
    ) -> Callable[[Mapping[str, str]], Remembering | None]:
        """Makes the memory of a source partition, where its polls repeat."""
        values = api.values
        off = (
            not values.of(ResponseCacheConfig).enabled
            or values.of(OffsetsConfig).mode != "FULL"
        )
        if off or values.of(RecordsConfig).topic is None:
            return lambda partition: None
        chain = values.of(PaginationConfig).type in CHAINS
        identities = self._identities

        def remembering(partition: Mapping[str, str]) -> Remembering:
            partition = {**partition, **PART}
            kept = saved.get(canonical(partition))
            stored = None if kept is None else kept.offset
            return Remembering(
                Unchanged(
                    stored,
                    topic=identities.of,
                    max_age=values.of(ResponseCacheConfig).unchanged_max_age,
                    count=shard.count,
                    chain=chain,
                    stamped=values.of(RecordsConfig).timestamp is not None,
                    unique=unique_headers(values),
                ),
                stored,
                label=shard.label,
                open=lambda: delivery.outlet(partition, saver, pause=0.0),
                delivery=delivery,
            )

        return remembering

    def _transform(
        self,
        api: Api,
        shard: Shard,
        topics: Topics,
        patience: Patience,
        stores: list[SeenStore],
        store: Callable[[Api, Shard, Seen], SeenStore],
    ) -> Transform:
        """Its store of keys seen is put among `stores`, where there is one."""
        if api.values.of(RecordsConfig).topic is None:
            return without_topic
        compiled = transform_of(
            self._connector,
            api,
            shard,
            zone=self._process.of(ScheduleConfig).timezone,
            registries=self._registries,
            limit=self._limit(api, topics),
            reserved=self._brokers.reserved(),
        )
        if (
            compiled.seen is not None
            and api.values.of(DeduplicationConfig).store == "STATE"
        ):
            stores.append(store(api, shard, compiled.seen))
        admission = Admission(
            Persistent(compiled, policy_of(api.values), stopping=patience),
            topics,
            tolerant=api.values.of(ErrorsConfig).tolerance == "all",
            fixed=api.values.of(RecordsConfig).fixed_topic,
            stopping=patience,
        )
        return self._metering.transform(api.name, admission)

    def _bad(self, api: Api, tally: Tally) -> Callable[[Parcel], None] | None:
        """What hears of records that the broker refuses, where that is tolerated."""
        if api.values.of(ErrorsConfig).tolerance != "all":
            return None

        def hear(parcel: Parcel) -> None:
            tally.refused(parcel)
            self._metering.refused(parcel)

        return hear

    def _store(
        self, delivery: Delivery, saver: Saver, saved: Mapping[str, Saved]
    ) -> Callable[[Api, Shard, Seen], SeenStore]:
        """Makes the store of the keys that a shard has seen."""

        def made(api: Api, shard: Shard, seen: Seen) -> SeenStore:
            own, others = kept(saved.values(), shard)
            return SeenStore(
                seen,
                own,
                others,
                window_ms=api.values.of(DeduplicationConfig).window_minutes * 60_000,
                open=lambda chunk: delivery.outlet(
                    partition_of(shard, chunk), saver, pause=0.0
                ),
                delivery=delivery,
            )

        return made

    def _limit(self, api: Api, topics: Topics) -> int | None:
        topic = api.values.of(RecordsConfig).fixed_topic
        return None if topic is None else topics.record_limit(topic)

    def _crew(self, assigned: Assigned) -> Siblings:
        return Siblings(self._context.board, assigned.slot, assigned.siblings)


def unfit(values: Values) -> str:
    """Why a configuration allows no transactions, or ""."""
    if values.of(StateConfig).file is not None:
        return "offset.storage.file.filename keeps the state in a file"
    if values.of(ProducerConfig).acks != "all":
        return f"producer.acks={values.of(ProducerConfig).acks} is not all"
    if not values.of(ProducerConfig).idempotent:
        return "producer.enable.idempotence=false"
    return ""


class Session:
    """What a task has open between two absences of the broker."""

    def __init__(
        self,
        delivery: Delivery,
        metering: Metering,
        report: Callable[[Message], bool],
        remember: Callable[[Limits], None],
        absence: Absence,
        once: bool,
        gate: Gate,
    ):
        self._metering = metering
        self._once = once
        self._gate = gate
        self._troubles = Troubles(report)
        self._held_since = 0.0
        self._remember = remember
        self._report = report
        self._absence = absence
        self._cluster = ""
        self.walkers: list[Walker] = []
        self.done: list[Shard] = []
        self.sources: Sources | None = None
        self.held: Held | None = None
        self.watching: Watching | None = None
        self.reporter: Reporter | None = None
        self._delivery = delivery
        self._due = 0.0

    def tick(self, now: float) -> float:
        """As `task.run.Wired`."""
        held = self._delivery.held
        self._troubles.look("state", UNSAVED % held if held else "", now, SAVED_AGAIN)
        if not held:
            self._held_since = now
        elif self._once and now - self._held_since > ONCE_PATIENCE:
            self._delivery.fail(Doubtful(UNSAVED % held))
        if self.watching is not None:
            self.watching.check()
            self._troubles.look("rival", self.watching.rival, now, RIVAL_GONE)
        due = self._delivery.tick(now)
        waits = self._delivery.waits(now, self._absence.first)
        self._absence.look(self._delivery.silent(now), waits, now)
        if self.sources is not None:
            if now >= self._due:
                self._due = now + self.sources.tick(now)
                if self.held is not None:
                    self.held.move()
                if self.reporter is not None:
                    self.reporter.report()
                cluster = self._delivery.cluster
                if cluster != self._cluster and self._report(BrokerKnown(cluster)):
                    self._cluster = cluster
            due = min(due, self._due - now)
        self._metering.tick(now)
        return due

    @property
    def away(self) -> bool:
        """As `task.run.Wired`."""
        return bool(self._absence)

    def next_poll(self) -> float | None:
        """Monotonic seconds of the next tick of any shard; None if none waits."""
        return min(
            (walker.due_at for walker in self.walkers if walker.due_at is not None),
            default=None,
        )

    def adopt(self, limits: Limits) -> None:
        """As `task.run.Wired`."""
        self._remember(limits)
        if self.sources is not None:
            self.sources.limiter.adopt(limits)

    def pause(self, paused: bool) -> None:
        """As `task.run.Wired`."""
        self._gate.closed = paused

    def cut(self) -> None:
        """As `task.run.Wired`."""
        if self.sources is not None:
            self.sources.cut()
        if held := self._delivery.held:
            # What waits for it would wait longer than a stop may take.
            self._delivery.fail(Doubtful(UNSAVED % held))
        self._delivery.hurry(LAST_WRITES)

    def close(self, timeout: float) -> None:
        """As `task.run.Wired`."""
        if self.held is not None:
            self.held.move()
        if self.reporter is not None:
            self.reporter.report()
        try:
            self._delivery.close(timeout)
        except EngineError as failure:
            log.debug("while closing: %s", failure)
        if self.sources is not None:
            self._metering.leave_limits()
            self.sources.close()


class Complaints:
    """
    Says in the log which records could not be produced.

    Args:
        values: `errors.log.enable`, `errors.log.include.messages`.
        always: No topic takes the dead letters: the log is all there is.
    """

    #: Lines a second, of one task.
    MOST = 10

    def __init__(self, values: Values, *, always: bool, clock: Clock = SYSTEM):
        self._enabled = values.of(DeadLetterQueueConfig).log or always
        self._whole = values.of(DeadLetterQueueConfig).log_messages
        self._clock = clock
        self._second = 0
        self._said = 0
        self._kept_back = 0

    def hear(self, shard: Shard, parcel: Parcel) -> None:
        """Say what is new, at most ten lines a second."""
        if not self._enabled:
            return
        for letter in parcel.letters:
            second = int(self._clock.monotonic())
            if second != self._second:
                self._second, self._said = second, 0
            if self._said >= self.MOST:
                self._kept_back += 1
                continue
            self._said += 1
            more = f" ({self._kept_back} more not shown)" if self._kept_back else ""
            self._kept_back = 0
            value = ""
            if self._whole:
                value = ": " + redact(letter.value[:1000].decode(errors="replace"))
            log.error(
                "%s, page %d, record %d is a bad record (%s): %s%s%s",
                shard.label,
                parcel.page.index,
                letter.index,
                letter.stage,
                letter.message,
                value,
                more,
            )


class Tally:
    """
    Counts a shard's pages on the board, where they outlive this process.

    Cells of pages are written by whoever brings the acknowledgement, under the
    delivery's lock; the others by the shard's own thread.
    """

    def __init__(
        self,
        shard: Shard,
        slot: Slot,
        complaints: Complaints,
        clock: Clock = SYSTEM,
    ):
        self.shard = shard
        self._slot = slot
        self._complaints = complaints
        self._clock = clock
        #: Polls begun, from where an earlier process was.
        self._polls = slot.get("polling")
        #: A page was delivered by this process, which has been said.
        self._begun = False
        #: Name -> when it may be said again, and how often it was not.
        self._noted: dict[str, tuple[float, int]] = {}

    def counting(self, parcel: Parcel) -> Callable[[float], None]:
        """
        What counts a parcel once it is delivered: what never arrives is no
        number.  It keeps sums and not the page; about 2 us a page.
        """
        page = parcel.page
        if parcel.letters:
            self._complaints.hear(self.shard, parcel)
        size = len(page.response.body)
        cached = page.response.origin != "network"
        if twice := doubled(page.records):
            self.note("records_with_doubled_members_total")
        sums = [
            (name, n)
            for name, n in (
                ("pages", 1),
                ("received", page.received),
                ("produced", len(parcel.values)),
                ("filtered", parcel.filtered),
                ("dead_lettered", len(parcel.letters)),
                ("deduplicated", parcel.deduplicated),
                ("doubled", twice),
                ("saved", page.saved),
                ("saved_records", page.saved_records),
                ("saved_requests", cached and not page.response.tries),
                ("saved_bytes", size if cached else 0),
                ("bytes", page.response.wire_bytes),
                ("requests", page.response.tries),
                ("polls", page.last),
                ("polls_truncated", page.truncated),
            )
            if n
        ]
        slot = self._slot
        poll = self._polls if page.last or page.truncated else -1
        wall_ms = self._clock.wall_ms
        received, produced = page.received, len(parcel.values)

        def delivered(_: float) -> None:
            slot.add_all(sums)
            # The moment at which it is delivered, whatever the answer's age: an
            # answer out of the cache is as good a poll as one from the API.
            now_ms = wall_ms()
            slot.put("last_success_ms", now_ms)
            if produced:
                slot.put("last_record_ms", now_ms)
            if not self._begun:
                self._begun = True
                log.info(
                    "%s: the first page is delivered: %d records received, %d produced.",
                    self.shard.label,
                    received,
                    produced,
                )
            if poll == slot.get("polling"):
                # Delivered to its end; the next one has not begun.
                slot.put("polling", 0)

        return delivered

    def refused(self, parcel: Parcel) -> None:
        """
        Letters of a page that was counted as produced: the broker has refused
        them since.  By whoever brings the acknowledgement.
        """
        self._complaints.hear(self.shard, parcel)
        count = len(parcel.letters)
        self._slot.add_all([("produced", -count), ("dead_lettered", count)])

    @property
    def grid(self) -> float | None:
        """
        Monotonic seconds at which the shard's grid of polls begins, or None.

        A task that is started again keeps it, a new supervisor begins anew.
        """
        return self._slot.get("grid_ns") / 1e9 or None

    @grid.setter
    def grid(self, origin: float) -> None:
        self._slot.put("grid_ns", int(origin * 1e9))

    @property
    def cut(self) -> bool:
        """
        An earlier process of this supervisor ended within a poll.

        Also where no page of it was delivered, of which nothing is stored.
        """
        return self._slot.get("polling") != 0

    def polling(self, begun: bool) -> None:
        """A poll begins, or is over without a last page."""
        self._polls += begun
        self._slot.put("polling", self._polls if begun else 0)

    def skipped(self, count: int) -> None:
        """Ticks of the interval passed while a poll ran."""
        self._slot.add("polls_skipped", count)

    def note(self, name: str) -> None:
        """
        A counter of the source's has gone up; the board's own are not its.

        What comes again and again is said once a minute, with how often.
        """
        if name == "polls_without_page_total":
            self._slot.add("polls")
            return
        if name in DOUBTFUL:
            self._slot.add("polls_doubtful")
        words = NOTES.get(name)
        if words is None:
            return
        now = self._clock.monotonic()
        due, unsaid = self._noted.get(name, (now, 0))
        if now < due:
            self._noted[name] = due, unsaid + 1
            return
        more = f" ({unsaid} times more in between)" if unsaid else ""
        log.warning("%s: %s%s", self.shard.label, words, more)
        self._noted[name] = now + NOTE_EVERY, 0

    def succeeded(self) -> None:
        """A poll has ended well, whatever it brought."""
        self._slot.put("last_success_ms", self._clock.wall_ms())

    def given_up(self, failure: Exception) -> None:
        """A poll was given up; the next tick tries again."""
        self._slot.add("errors")
        log.warning("Poll given up: %s", failure)
