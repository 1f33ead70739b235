"""
Shards: the loop of each shard of a task, with all that is its own.

Owns what a shard's poll, transformation, outlet and memory are made of.  Whatever the
shards of a task share is given to `ShardBuilder` once.

Path: `build.wiring` -> here -> `task.flow`, `task.tree`, `task.shardloop`
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from msgspec import Struct

from engine.config import Api, Connector, Values
from engine.config.pagination import TYPES
from engine.config.sections.cache import ResponseCacheConfig
from engine.config.sections.client import ClientConfig
from engine.config.sections.delivery import StateConfig
from engine.config.sections.engine import ApiConfig, ScheduleConfig
from engine.config.sections.letters import ErrorsConfig
from engine.config.sections.limits import RetryConfig
from engine.config.sections.offsets import OffsetsConfig, WindowsConfig
from engine.config.sections.paging import PaginationConfig
from engine.config.sections.processes import TasksConfig
from engine.config.sections.response import (
    AnswersConfig,
    DeduplicationConfig,
    RecordsConfig,
)
from engine.records import Offset, Parcel, Shard
from engine.seams import Outlet, Transform
from engine.shared.link import Assigned
from engine.sink.delivery import Delivery
from engine.sink.identity import Identities
from engine.sink.outlet import LAG
from engine.sink.preflight import Topics
from engine.sink.seams import Saver
from engine.sink.state import NoState, Saved, State, canonical
from engine.task.admission import Admission
from engine.task.below import names_of, stored_below
from engine.task.build.cache import unique_headers
from engine.task.build.http import policy_of
from engine.task.build.kafka import KafkaBuilder
from engine.task.build.polling import pace_of
from engine.task.build.registry import Persistent, Registries
from engine.task.build.sources import Sources
from engine.task.build.transform import burying, contents_of, transform_of
from engine.task.coordination import BoardCoordination
from engine.task.counting import Complaints, Tally
from engine.task.diff import SegmentPlaces, SnapshotDiff, SnapshotLimits, segments_of
from engine.task.diff import partition_of as segment_partition
from engine.task.flow import Flow, Source
from engine.task.memory import NO_PAGE, PART, Forgetful, Remembering
from engine.task.metering import Metering
from engine.task.pace import Interval
from engine.task.path import PagePath
from engine.task.pause import Gate
from engine.task.pulse import LoopStopping, Pulse
from engine.task.run import BuildContext
from engine.task.seen import DedupOutlet, SeenStore, kept, kind_of, partition_of
from engine.task.shardloop import ShardLoop
from engine.task.stored import StoredPosition, over, stored_position
from engine.task.tree import Branch, Branches, Rooted, without_topic
from engine.task.unchanged import Unchanged
from engine.transform.dedup import Seen

#: Modes in which each poll of a parent names all children that there are.
LISTING = frozenset({"FULL", "SNAPSHOT_DIFF"})

#: Seconds a request may take over its own deadline before its loop counts as
#: dead: DNS and TLS have no better clock than the deadline they were given.
SLACK = 10.0


class Opened(Struct, frozen=True, kw_only=True):
    """
    What the shards of a task share between two absences of the broker.

    Attributes:
        delivery, state, topics: Of the Kafka side.
        sources: Of the HTTP side.
        saver: Where their positions are saved, `saved` what was read at the start.
        identities: Which topic is the same as before.
        stop: Set when the task is to end.
        ended: Told each loop that is over.
    """

    delivery: Delivery
    sources: Sources
    state: State
    saver: Saver
    saved: dict[str, Saved]
    topics: Topics
    identities: Identities
    stop: threading.Event
    ended: Callable[[ShardLoop], None]


class ShardBuilder:
    """
    Makes the loops of a task's shards.

    Args:
        complaints: Says which records are bad.
        gate: Where the loops wait while the connector is paused.
    """

    def __init__(
        self,
        opened: Opened,
        *,
        context: BuildContext,
        connector: Connector,
        process: Values,
        brokers: KafkaBuilder,
        registries: Registries,
        metering: Metering,
        complaints: Complaints,
        gate: Gate,
        once: bool,
    ):
        self._delivery, self._sources = opened.delivery, opened.sources
        self._state, self._saver, self._saved = opened.state, opened.saver, opened.saved
        self._topics, self._identities = opened.topics, opened.identities
        self._stop, self._ended = opened.stop, opened.ended
        self._pause = connector.values.of(StateConfig).flush_interval
        self._context = context
        self._connector = connector
        self._process = process
        self._brokers = brokers
        self._registries = registries
        self._metering = metering
        self._complaints = complaints
        self._gate = gate
        self._once = once
        self._apis = {api.name: api for api in connector.apis}

    def shard_loop(self, assigned: Assigned) -> ShardLoop | None:
        """A shard's loop, None if `run --once` has nothing to do for it."""
        shard = assigned.shard
        position = stored_position(self._saved.values(), shard)
        slot = self._context.board.shard(assigned.slot)
        coordination = self._coordination(assigned)
        coordination.begin(position.poll, position.told)
        if self._once and over(position, shard.count, slot):
            return None
        if shard.index == 0 and position.outlived(shard.count):
            gone = [each.partition for each in position.others]
            self._state.reset([*gone, *({**each, **PART} for each in gone)])
        api = self._apis[shard.api]
        values = api.values
        pulse = Pulse(
            fetch=values.of(ClientConfig).request_timeout + SLACK,
            work=self._process.of(TasksConfig).heartbeat_timeout,
        )
        patience = LoopStopping(self._stop, pulse)
        tally = Tally(shard, slot, self._complaints)
        outlet = self._metering.outlet(
            api.name,
            self._delivery.outlet(
                shard.partition,
                self._saver,
                pause=self._pause,
                bad=self._bad(api, tally),
                lag=LAG,
            ),
        )
        differing = None
        if values.of(OffsetsConfig).mode == "SNAPSHOT_DIFF":
            differing = self._differing(api, shard, position, outlet, tally)
        poll = self._sources.poll(
            api,
            shard,
            stopping=patience,
            coordination=coordination,
            others=position.family,
            note=tally.note if differing is None else differing.note,
        )
        source: Source = poll
        remember = self._remember(api, shard, self._saver)
        stores: list[SeenStore] = []
        path = self._path(tally, pulse, patience, stores)
        if assigned.below:
            tallies = self._tallies(assigned)
            branches = Branches(
                [
                    self._branch(each, pulse, patience, stores)
                    for each in tallies.values()
                ],
                stored_below(self._saved.values(), shard, tallies),
                delivery=self._delivery,
                pulse=pulse,
            )
            outlet = Rooted(outlet, branches)
            source = self._sources.tree(
                api,
                poll,
                delivery=branches,
                stopping=patience,
                # Their waits are many at once and none of them is the loop's.
                below=LoopStopping(self._stop, Pulse(fetch=0.0, work=0.0)),
                notes={name: each.note for name, each in tallies.items()},
                note=tally.note,
                entity=shard.entity,
            )
        flow = Flow(
            position.offset(self._once),
            source=source,
            path=path,
            outlet=DedupOutlet(outlet, stores) if stores else outlet,
            memory=differing or remember(shard.partition) or Forgetful(),
        )
        pace = pace_of(
            api,
            self._sources.zone,
            # What is stored does not know of a poll that had no page yet.
            resume=position.unfinished or tally.cut,
            skipped=tally.skipped,
            origin=self._grid(assigned, tally, position),
            last_ms=position.at,
        )
        if isinstance(pace, Interval):
            tally.grid = pace.origin
        return ShardLoop(
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
            failures=self._sources.failures[shard],
            ended=self._ended,
            gate=self._gate,
        )

    def _differing(
        self,
        api: Api,
        shard: Shard,
        position: StoredPosition,
        outlet: Outlet,
        tally: Tally,
    ) -> SnapshotDiff:
        """What mode SNAPSHOT_DIFF remembers; what was stored of it is let go of."""
        saver, offsets = self._saver, api.values.of(OffsetsConfig)
        stored = {}
        for number, each in segments_of(self._saved.values(), shard).items():
            stored[number] = each.offset
            # A million keys are not kept twice.
            del self._saved[canonical(each.partition)]
        return SnapshotDiff(
            shard,
            stored,
            None if position.own is None else position.own.offset,
            limits=SnapshotLimits(
                most=offsets.snapshot_max_keys,
                fall=offsets.snapshot_max_fall,
                tombstones=offsets.tombstones,
                tolerant=api.values.of(ErrorsConfig).tolerance == "all",
            ),
            contents=contents_of(api.values),
            places=SegmentPlaces(
                self._delivery,
                lambda number: self._delivery.outlet(
                    segment_partition(shard, number), saver, pause=0.0
                ),
                lambda number, done: saver.forget(
                    self._delivery, segment_partition(shard, number), done
                ),
            ),
            outlet=outlet,
            counting=tally.counting,
            told=tally,
            shifts=TYPES[api.values.of(PaginationConfig).type].addressable,
            spool=str(self._sources.spool),
        )

    def _grid(
        self, assigned: Assigned, tally: Tally, position: StoredPosition
    ) -> float | None:
        """
        Where the grid of the shard's polls begins, None for here and now.

        A part that came with another cut keeps to the grid of those before it.
        """
        if tally.grid is not None or position.own is not None or not position.others:
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
        pulse: Pulse,
        patience: LoopStopping,
        stores: list[SeenStore],
    ) -> Branch:
        shard = tally.shard
        api = self._apis[shard.api]
        keeps = api.values.of(ApiConfig).state == "KEEP"
        saver = self._saver if keeps else NoState()
        return Branch(
            self._path(tally, pulse, patience, stores),
            open=lambda partition: self._delivery.outlet(
                partition, saver, pause=self._pause, bad=self._bad(api, tally)
            ),
            memory=self._remember(api, shard, saver),
            timed=lambda outlet: self._metering.outlet(shard.api, outlet),
            forget=lambda partition, done: saver.forget(
                self._delivery, partition, done
            ),
            save=self._saved_alone,
            keeps=keeps,
            under=names_of(
                self._connector.ancestors(api)[0].name,
                str(api.values.of(ApiConfig).extract),
            ),
            polls=self._polls_kept(api) if keeps else 0,
        )

    def _saved_alone(self, partition: Mapping[str, str], offset: Offset) -> None:
        """Save a position without a page; blocks until that is done."""
        outlet = self._delivery.outlet(partition, self._saver, pause=0.0)
        outlet.begin()
        outlet.hand_over(Parcel(page=NO_PAGE, topic="", values=()), offset)
        outlet.commit()
        self._delivery.forget(outlet)

    def _polls_kept(self, api: Api) -> int:
        """
        `api.chaining.state.polls` of a child.

        Its default is for positions that nobody misses: of a child that is read from
        its start each poll, or one whose parents list all there is.
        """
        values, polls = api.values, int(api.values.of(ApiConfig).state_polls)
        if values.of(OffsetsConfig).mode == "FULL":
            return polls
        listing = all(
            each.values.of(OffsetsConfig).mode in LISTING
            and each.values.of(WindowsConfig).size is None
            for each in self._connector.ancestors(api)
        )
        return polls if listing or values.stated("api.chaining.state.polls") else 0

    def _remember(
        self, api: Api, shard: Shard, saver: Saver
    ) -> Callable[[Mapping[str, str]], Remembering | None]:
        """Makes the memory of a source partition, where its polls repeat."""
        values = api.values
        off = (
            not values.of(ResponseCacheConfig).enabled
            or values.of(OffsetsConfig).mode != "FULL"
            or values.of(WindowsConfig).size is not None
        )
        if off or values.of(RecordsConfig).topic is None:
            return lambda partition: None
        chain = TYPES[values.of(PaginationConfig).type].chained
        identities = self._identities

        def remembering(partition: Mapping[str, str]) -> Remembering:
            partition = {**partition, **PART}
            kept = self._saved.get(canonical(partition))
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
                open=lambda: self._delivery.outlet(partition, saver, pause=0.0),
                delivery=self._delivery,
            )

        return remembering

    def _path(
        self,
        tally: Tally,
        pulse: Pulse,
        patience: LoopStopping,
        stores: list[SeenStore],
    ) -> PagePath:
        """What the pages of a shard go through, or those of an api below it."""
        shard = tally.shard
        return PagePath(
            shard,
            transform=self._transform(self._apis[shard.api], shard, patience, stores),
            counting=tally.counting,
            pulse=pulse,
            stopping=patience,
            gate=self._gate,
        )

    def _transform(
        self,
        api: Api,
        shard: Shard,
        patience: LoopStopping,
        stores: list[SeenStore],
    ) -> Transform:
        """
        A shard's transformation; its store of keys seen is put among `stores`, where there is
        one.
        """
        if api.values.of(RecordsConfig).topic is None:
            return without_topic
        compiled = transform_of(
            self._connector,
            api,
            shard,
            zone=self._process.of(ScheduleConfig).timezone,
            registries=self._registries,
            limit=self._limit(api),
            reserved=self._brokers.reserved(),
        )
        if (
            compiled.seen is not None
            and api.values.of(DeduplicationConfig).store == "STATE"
        ):
            stores.append(self._store(api, shard, compiled.seen))
        made = burying(
            self._connector,
            api,
            shard,
            compiled,
            zone=self._process.of(ScheduleConfig).timezone,
            registries=self._registries,
            limit=self._limit(api),
            reserved=self._brokers.reserved(),
        )
        admission = Admission(
            Persistent(made, policy_of(api.values), stopping=patience),
            self._topics,
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

    def _store(self, api: Api, shard: Shard, seen: Seen) -> SeenStore:
        """The store of the keys that a shard has seen."""
        own, others = kept(self._saved.values(), shard)
        return SeenStore(
            seen,
            own,
            others,
            of=kind_of(
                api.values.of(DeduplicationConfig).key_fields,
                str(api.values.of(RecordsConfig).topic),
            ),
            window_ms=api.values.of(DeduplicationConfig).window_minutes * 60_000,
            open=lambda chunk: self._delivery.outlet(
                partition_of(shard, chunk), self._saver, pause=0.0
            ),
            delivery=self._delivery,
        )

    def _limit(self, api: Api) -> int | None:
        topic = api.values.of(RecordsConfig).fixed_topic
        return None if topic is None else self._topics.record_limit(topic)

    def _coordination(self, assigned: Assigned) -> BoardCoordination:
        return BoardCoordination(self._context.board, assigned.slot, assigned.siblings)
