"""
Replay: dead letters through the transform and the producer as they are now.

Owns the order of things: a letter counts as gone once all that came of it is
acknowledged, and progress is saved after that; one that fails again stays where
it lies, is told by name, and holds nobody up.  Moves no offset of a shard.

Path: `dlq replay` -> here -> ``task.build.transform``, ``sink.delivery``
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from itertools import islice

from engine.config import Api, Connector
from engine.config.sections.response import RecordsConfig
from engine.errors import EngineError, RecordError, SinkError
from engine.records import Parcel, Shard
from engine.sink.deadletter import Letter, UnansweredLetters, unfit
from engine.sink.delivery import Delivery
from engine.sink.outlet import AtLeastOnce
from engine.sink.preflight import Topics
from engine.sink.state import NoState
from engine.task.build.http import policy_of
from engine.task.build.kafka import KafkaBuilder
from engine.task.build.registry import Persistent, Registries
from engine.task.build.transform import transform_of
from engine.task.path import check_sums
from engine.task.pulse import LoopStopping, Pulse

log = logging.getLogger("dlq")

#: Letters between two savings of the progress.
CHUNK = 250

#: What only a page has; a template that asks for one of these is not replayed.
ENVELOPE = {
    "response": "response",
    "response.header": "response.header",
    "parent": "parent",
    "parent_value": "parent_value",
    "window.start": "window",
    "window.end": "window",
}


class Replay:
    """
    One connector's.

    Args:
        brokers: Its Kafka side.
        box: Its letters.
        zone: `schedule.timezone`.
        failed: Told each letter that stays, and why.

    Attributes:
        gone: Letters that went through.
        left: Letters that stay.
    """

    def __init__(
        self,
        connector: Connector,
        brokers: KafkaBuilder,
        box: UnansweredLetters,
        *,
        zone: str,
        registries: Registries,
        failed: Callable[[Letter, str], None],
    ):
        self.gone = 0
        self.left = 0
        self._connector = connector
        self._box = box
        self._brokers = brokers
        self._zone = zone
        self._registries = registries
        self._failed = failed
        self._apis = {api.name: api for api in connector.apis}
        self._paths: dict[tuple[str, str | None], Callable[[Letter], str | None]] = {}
        self._outlets: list[AtLeastOnce] = []

    def run(self) -> None:
        """
        All letters there are now.

        Raises: a SinkError; a SourceError where a registry stays away.  What
        was acknowledged before is saved.
        Blocks: until all of it is acknowledged.
        """
        brokers = self._brokers
        letters = self._box.letters()
        first = next(letters, None)
        if first is None:
            self._box.save()
            return
        topics = brokers.topics(log.warning)
        delivery = brokers.delivery(
            topics, budget=brokers.budget(), patience=brokers.patience
        )
        try:
            chunk = [first, *islice(letters, CHUNK - 1)]
            while chunk:
                self._through(chunk, delivery, topics)
                if self._box.full:
                    rest = sum(1 for _ in letters)
                    self.left += rest
                    if rest:
                        log.warning(
                            "Too many letters fail between others that do not: %d "
                            "were not tried; replay again after a fix.",
                            rest,
                        )
                    return
                chunk = list(islice(letters, CHUNK))
        finally:
            delivery.close(3.0)

    def _through(self, chunk: list[Letter], delivery: Delivery, topics: Topics) -> None:
        failure: EngineError | None = None
        verdicts: list[tuple[Letter, str | None]] = []
        for letter in chunk:
            try:
                verdicts.append((letter, self._one(letter, delivery, topics)))
            except SinkError:
                raise
            except EngineError as error:
                failure = error
                break
        for outlet in self._outlets:
            outlet.commit()
        for letter, why in verdicts:
            if why is None:
                self.gone += 1
                self._box.went(letter)
            else:
                self.left += 1
                self._box.stays(letter)
                self._failed(letter, why)
        self._box.save()
        if failure is not None:
            raise failure

    def _one(self, letter: Letter, delivery: Delivery, topics: Topics) -> str | None:
        """Hand one over; why it fails again, or None."""
        why = unfit(letter, self._apis)
        if why is not None:
            return why
        key = letter.api, letter.entity
        path = self._paths.get(key)
        if path is None:
            path = self._path(letter, delivery, topics)
            self._paths[key] = path
        return path(letter)

    def _path(
        self, letter: Letter, delivery: Delivery, topics: Topics
    ) -> Callable[[Letter], str | None]:
        """The way of the letters of one api and entity."""
        api = self._apis[letter.api]
        shard = Shard(self._connector.name, api.name, letter.entity)
        limit = None
        topic = api.values.of(RecordsConfig).topic
        if topic is None:
            return lambda letter: f"api {api.name} has no kafka.topic now"
        if "${" not in topic:
            topics.ensure([topic])
            limit = topics.record_limit(topic)
        compiled = transform_of(
            self._connector,
            api,
            shard,
            zone=self._zone,
            registries=self._registries,
            limit=limit,
            reserved=self._brokers.reserved(),
        )
        wanted = lacking(api, compiled.needs)
        if wanted is not None:
            return lambda letter: wanted
        transform = Persistent(
            compiled,
            policy_of(api.values),
            stopping=LoopStopping(threading.Event(), Pulse(fetch=0.0, work=0.0)),
        )
        outlet = delivery.outlet(shard.partition, NoState())
        self._outlets.append(outlet)
        outlet.begin()

        def through(letter: Letter) -> str | None:
            try:
                parcel = transform(letter.page())
            except RecordError as error:
                return str(error)
            except EngineError:
                raise
            except Exception as error:
                # A letter is whatever lies in the topic: one that nobody foresaw
                # stays, and the others go through.
                log.debug("Letter %s cannot be read.", letter.id, exc_info=True)
                return f"it cannot be read: {type(error).__name__}: {error}"
            if parcel.letters:
                return "; ".join(each.message for each in parcel.letters)
            return self._handed(parcel, shard, outlet, topics)

        return through

    def _handed(
        self, parcel: Parcel, shard: Shard, outlet: AtLeastOnce, topics: Topics
    ) -> str | None:
        check_sums(shard, parcel)
        names = {parcel.topic} if isinstance(parcel.topic, str) else set(parcel.topic)
        most = max(map(len, filter(None, parcel.values)), default=0)
        for name in filter(None, names):
            room = topics.record_limit(name)
            if most > room:
                return f"{most} bytes, more than the {room} that {name} takes"
        outlet.hand_over(parcel, {})
        return None


def lacking(api: Api, needs: frozenset[str]) -> str | None:
    """Why an api's letters cannot be tried again for what they do not carry."""
    if api.values.of(RecordsConfig).provenance:
        return "kafka.headers.provenance.enabled needs the page it came with"
    wanted = sorted({ENVELOPE[name] for name in needs if name in ENVELOPE})
    if not wanted:
        return None
    names = ", ".join(f"${{{name}}}" for name in wanted)
    return f"a template asks for {names}, which a letter does not carry"
