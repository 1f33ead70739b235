"""
Wiring: everything that a task opens, in the order in which it is opened.

Owns that order: topics, state, producer, sources, shards.  It is called again after
the broker was away.

Path: `task.run` -> here -> `build.shards`, `build.sources`, `build.kafka`
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.clock import SYSTEM
from engine.config import Connector, Values
from engine.config.sections.delivery import (
    StateConfig,
    StateTopicConfig,
    TransactionsConfig,
)
from engine.config.sections.engine import ApiConfig, IdentityConfig, ScheduleConfig
from engine.config.sections.kafka import ProducerConfig
from engine.config.sections.processes import DirectoriesConfig
from engine.config.sections.response import (
    RecordsConfig,
)
from engine.errors import Doubtful
from engine.observe.failures import FailureLog, decoded
from engine.records import Shard
from engine.shared.limiter import RateLimits
from engine.sink.fencing import TaskCountRecord, taken_over
from engine.sink.identity import Identities
from engine.sink.preflight import Topics
from engine.sink.produce.producer import Producer
from engine.sink.state import Saved, State
from engine.sink.statetopic import TopicState
from engine.task.absence import Absence
from engine.task.build.cache import Caching
from engine.task.build.http import url_of
from engine.task.build.kafka import KafkaBuilder, state_place, unfit
from engine.task.build.places import Places
from engine.task.build.registry import Registries
from engine.task.build.shards import Opened, ShardBuilder
from engine.task.build.sources import Sources
from engine.task.build.transform import complaints_of
from engine.task.metering import Metering
from engine.task.owning import Decided, Owning
from engine.task.pause import Gate
from engine.task.positions import Positions
from engine.task.pulse import LoopStopping, Pulse
from engine.task.reporting import Reporter
from engine.task.run import ONCE_PATIENCE, BuildContext
from engine.task.session import UNSAVED, TaskSession
from engine.task.shardloop import ShardLoop
from engine.task.sharedreading import SharedReadingFile
from engine.task.starting import Start
from engine.task.waited import WaitMeter
from engine.task.watching import RivalWatcher

log = logging.getLogger("task")


#: Said where less is delivered than was asked for.
NOT_EXACTLY = (
    "Delivery is at least once although exactly.once.support=%s: %s. A kill repeats "
    "the pages in flight; the gauge http_source_eos_active is 0."
)


#: Crashes in a row after which what processes share in files is suspected.
CRASHES = 2


#: Seconds in which the cache may move what is in memory to the disk.
SETTLING = 2.0


#: Topics that are looked up or created before the start says how far it is.
TOPICS_AT_ONCE = 8


#: Seconds between two attempts to save a state, at the start.
SAVING_AGAIN = 1.0


class Wiring:
    """Makes a `TaskSession`; called again after the broker was away."""

    def __init__(
        self,
        context: BuildContext,
        connector: Connector,
        process: Values,
        brokers: KafkaBuilder,
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
        self._complaints = complaints_of(
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
            once=once,
        )
        self._identities = Identities(brokers.admin)
        #: As a reload has changed them, or None.
        self._limits: RateLimits | None = None
        self._gate = Gate()
        if self._caching.tiers is not None:
            metering.follow_cache(self._caching)

    def _remember_limits(self, limits: RateLimits) -> None:
        self._limits = limits

    def close(self) -> None:
        """Let go of what outlives the broker's absences."""
        hurried = self._context.stopping.hurried
        self._caching.close(0.0 if hurried else SETTLING)

    def __call__(
        self,
        *,
        stop: threading.Event,
        ended: Callable[[ShardLoop], None],
        settled: set[Shard],
        start: Start,
    ) -> TaskSession:
        """As `task.run.Build`."""
        brokers = self._brokers
        with contextlib.ExitStack() as failing:
            # It comes to its broker while the topics and the state are looked at.
            begun = brokers.begin()
            if begun is not None:
                failing.callback(begun.close, 1.0)
            made = self._open(stop, ended, settled, start, begun)
            failing.pop_all()
        return made

    def _open(
        self,
        stop: threading.Event,
        ended: Callable[[ShardLoop], None],
        settled: set[Shard],
        start: Start,
        begun: Producer | None,
    ) -> TaskSession:
        values = self._connector.values
        brokers = self._brokers
        topics = brokers.topics(log.warning)
        self._identities = Identities(brokers.admin, ensure=topics.limit)
        self._ensure(topics, start)
        state = self._state(begun)
        # Who owns the transactions is decided, and former owners are fenced, before a position is
        # read: else one of them could commit another position behind the one that was read.
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
        # The HTTP side is last: nothing is asked of an API before it is known where to go on, and
        # that where it comes to can be saved.
        start.step("opening_connections")
        budget = brokers.budget()
        delivery = brokers.delivery(
            topics,
            budget=budget,
            producer=producer,
            begun=begun,
            expected=self._expected(),
            # Somebody waits for the end of a single run.
            patience=brokers.patience if self._once else None,
        )
        session = TaskSession(
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
                stop=LoopStopping(stop, Pulse(fetch=0.0, work=0.0)),
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
            session.held = WaitMeter(sources.waits, budget, slots)
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
                session.loops,
            )
            shards = ShardBuilder(
                Opened(
                    delivery=delivery,
                    sources=sources,
                    state=state,
                    saver=saver,
                    saved=saved,
                    topics=topics,
                    identities=self._identities,
                    stop=stop,
                    ended=ended,
                ),
                context=self._context,
                connector=self._connector,
                process=self._process,
                brokers=brokers,
                registries=self._registries,
                metering=self._metering,
                complaints=self._complaints,
                gate=self._gate,
                once=self._once,
            )
            for assigned in self._context.assigned:
                if assigned.shard not in settled:
                    start.step("opening_connections")
                    shard_loop = shards.shard_loop(assigned)
                    if shard_loop is None:
                        session.done.append(assigned.shard)
                    else:
                        session.loops.append(shard_loop)
            if not self._once:
                state.own(
                    (each.shard.partition for each in self._context.assigned),
                    decided.owner.gen if decided.exactly else None,
                )
                session.watching = RivalWatcher(state, stop)
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

    def _state(self, begun: Producer | None) -> State:
        values = self._connector.values
        return self._brokers.state(
            once=self._once,
            siblings=self._siblings,
            shared_reading=SharedReadingFile(
                self._context.runtime, state_place(values)
            ),
            say=log.warning,
            producer=begun,
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
        decided = Decided(TaskCountRecord(), why=why if support == "requested" else "")
        if isinstance(state, TopicState) and support != "disabled" and not why:
            decided = self._owning(state, start, support)
        self._metering.exactly(decided.exactly)
        # All tasks of a connector fare alike: one says it.
        if decided.why and not self._context.number:
            if why and not values.stated("exactly.once.support"):
                # The owner's own keys say so; the default gives way to them.
                log.info("Delivery is at least once: %s.", decided.why)
            else:
                log.warning(NOT_EXACTLY, support, decided.why)
        return decided

    def _owning(self, state: TopicState, start: Start, support: str) -> Decided:
        start.step("fencing")
        values = self._connector.values
        return Owning(
            self._brokers,
            state,
            runtime=self._context.runtime,
            connector=self._connector.name,
            task=self._context.number,
            tasks=values.of(IdentityConfig).tasks_max,
            support=support,
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
            self._owning(state, start, "disabled")
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

    def _expected(self) -> list[str]:
        """Topics that are written to, whatever the records are."""
        values = self._connector.values
        names = self._fixed_topics()
        if values.of(StateConfig).file is None:
            names.append(values.of(StateTopicConfig).topic)
        return names

    def _fixed_topics(self) -> list[str]:
        names = [
            topic
            for api in self._connector.apis
            if (topic := api.values.of(RecordsConfig).fixed_topic)
        ]
        dead = self._brokers.letters()
        return [*dict.fromkeys(names), *([dead] if dead else [])]
