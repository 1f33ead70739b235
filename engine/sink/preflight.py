"""
Preflight: what must hold before the first record is sent.

Owns the topics: that they exist or are created as configured, and how large a
record of each may be.  Sends nothing.

Path: run by the task at its start; asked by `sink.commit` for a topic's limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from engine.errors import Misconfigured, Refused
from engine.language import compile_regex
from engine.sink.kafka import (
    Cluster,
    TopicDescription,
    admin,
    create,
    describe,
)

#: What a batch's header and a record's framing take at most, and a little more.
RECORD_MARGIN = 128


class TopicCreationGroup(Struct, frozen=True, kw_only=True):
    """
    How topics of a kind are created, `topic.creation.<group>.*`.

    Attributes:
        include, exclude: Regular expressions for the whole name.
        partitions, replication: -1: the broker's default.
        settings: Topic settings by name.
    """

    include: Sequence[str] = (".*",)
    exclude: Sequence[str] = ()
    partitions: int = -1
    replication: int = -1
    settings: Mapping[str, str] = {}

    def matches(self, topic: str) -> bool:
        """True if the group is for this topic."""
        return any(compile_regex(each).matches(topic) for each in self.include) and (
            not any(compile_regex(each).matches(topic) for each in self.exclude)
        )


class Topics:
    """
    The topics of a connector's records.

    A topic is looked up once, at the start or with its first record.
    """

    def __init__(
        self,
        cluster: Cluster,
        groups: Sequence[TopicCreationGroup],
        *,
        creating: bool = True,
        tasks: int = 1,
        max_request_size: int = 1048576,
        most: int = 100,
        say: Callable[[str], None],
    ) -> None:
        """
        Args:
            most: Topics that are made because a record names them.
            groups: In order; the last is `topic.creation.default`.
            creating: `topic.creation.enable`.
            tasks: `tasks.max`; a topic with fewer partitions is warned of.
            say: Takes a warning.
        """
        self._cluster = cluster
        self._groups = groups
        self._creating = creating
        self._tasks = tasks
        self._max_request_size = max_request_size
        self._say = say
        self._most = most
        self._made_from_data = 0
        self._known: dict[str, TopicDescription] = {}

    def ensure(
        self,
        names: Iterable[str],
        *,
        keyless: Iterable[str] = (),
        from_data: bool = False,
    ) -> None:
        """
        Look topics up, create those that are missing.

        Args:
            keyless: Those among them that get records without a key.
            from_data: A record names them: only so many are made.

        Raises: Misconfigured, naming all that are missing or not allowed; Refused
        for one too many; Unavailable.
        Blocks: for a few requests to the broker.
        """
        wanted = [name for name in dict.fromkeys(names) if name not in self._known]
        if not wanted:
            return
        with admin(self._cluster) as client:
            found = describe(client, wanted)
            missing = [name for name in wanted if name not in found]
            if missing and not self._creating:
                raise Misconfigured(
                    f"no topic {', '.join(missing)} at {self._cluster.address}, and "
                    "topic.creation.enable=false"
                )
            for name in missing:
                if from_data:
                    self._count_made(name)
                group = self._group(name)
                create(
                    client, name, group.partitions, group.replication, group.settings
                )
            if missing:
                found |= describe(client, missing)
        for name, topic in found.items():
            if topic.partitions < self._tasks:
                self._say(
                    f"Topic {name} has {topic.partitions} partitions, fewer than "
                    f"tasks.max={self._tasks}."
                )
        silent = [name for name, topic in found.items() if not topic.cleanup]
        if silent:
            self._say(
                f"The broker does not tell the settings of topic {', '.join(silent)} "
                "(DescribeConfigs): max.message.bytes and cleanup.policy are not checked "
                "before records are sent."
            )
        for name in keyless:
            if "compact" in found[name].cleanup.split(","):
                raise Misconfigured(
                    f"topic {name} is compacted and takes no record without a key; "
                    "set kafka.key or cleanup.policy=delete"
                )
        self._known |= found

    def absent(self, names: Iterable[str]) -> dict[str, str]:
        """
        Those among the topics that are not there; nothing is created.

        Returns: name -> "" if `ensure` would create it, else why it would not.
        Raises: Misconfigured, Unavailable.
        Blocks: for a few requests to the broker.
        """
        told: dict[str, str] = {}
        with admin(self._cluster) as client:
            wanted = list(dict.fromkeys(names))
            found = describe(client, wanted)
            for name in wanted:
                if name in found:
                    continue
                told[name] = "topic.creation.enable=false"
                if self._creating:
                    told[name] = self._refusal(client, name)
        return told

    def _refusal(self, client: Any, name: str) -> str:
        group = self._group(name)
        try:
            create(
                client,
                name,
                group.partitions,
                group.replication,
                group.settings,
                only_asking=True,
            )
        except Misconfigured as refusal:
            return str(refusal)
        return ""

    def _group(self, name: str) -> TopicCreationGroup:
        return next(each for each in self._groups if each.matches(name))

    def _count_made(self, name: str) -> None:
        if self._made_from_data >= self._most:
            raise Refused(
                f"topic {name} is not made: {self._most} topics have been made "
                "because records name them (kafka.topic.creation.max)"
            )
        self._made_from_data += 1

    def known(self, topic: str) -> TopicDescription:
        """
        What the broker has said of a topic that records go to.

        Raises: as `ensure`.  Blocks: at a topic's first record.
        """
        found = self._known.get(topic)
        if found is None:
            self.ensure([topic], from_data=True)
            found = self._known[topic]
        return found

    def revive(self, topic: str) -> None:
        """
        Make a topic anew that has gone, as it was made the first time.

        Raises: as `ensure`; Misconfigured for a topic that is none of the records'.
        Blocks: for a few requests to the broker.
        """
        if self._known.pop(topic, None) is None:
            raise Misconfigured(
                f"topic {topic} has gone and is not made anew: it holds more than "
                "the records of this connector"
            )
        self._say(f"Topic {topic} has gone; it is made anew as topic.creation.* says.")
        self.ensure([topic])

    def limit(self, topic: str) -> int:
        """
        Bytes a batch for the topic may have.

        Raises: as `ensure`.  Blocks: at a topic's first record.
        """
        known = self.known(topic)
        if known.max_message is None:
            return self._max_request_size
        return min(self._max_request_size, known.max_message)

    def record_limit(self, topic: str) -> int:
        """
        Bytes key, value and headers of one record may have together.

        Raises, blocks: as `limit`.
        """
        return self.limit(topic) - RECORD_MARGIN
