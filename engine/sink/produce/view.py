"""
View: what is known of the cluster, and since when.

Owns who leads which partition, by the last metadata and by what brokers hint
since.  Asks nobody: `sink.produce.sender` brings it the answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.sink.produce.messages import Metadata, TopicMetadata
from engine.sink.produce.verdicts import NO_TOPIC
from engine.sink.produce.wire import NO_ID, BrokerAddress, Hint

#: No leader.
NOBODY = -1


class ClusterView:
    """
    Attributes:
        cluster: The cluster's id, "" until it is known.
        brokers: By node id.
        version: Counts the changes of leaders.
        wanted: Topics to ask for.
        missing: Topics that are wanted and that the cluster does not have, and
            since when, monotonic seconds.
    """

    def __init__(self) -> None:
        self.cluster = ""
        self.brokers: dict[int, BrokerAddress] = {}
        self.version = 0
        self.wanted: set[str] = set()
        self.missing: dict[str, float] = {}
        self._topics: dict[str, TopicMetadata] = {}
        self._leaders: dict[tuple[str, int], Hint] = {}
        self._names: dict[bytes, str] = {}
        self._codes: dict[str, int] = {}

    def want(self, topic: str) -> bool:
        """Ask for a topic from now on; False if it was already."""
        if topic in self.wanted:
            return False
        self.wanted.add(topic)
        return True

    def learn(self, found: Metadata, asked: Sequence[str], now: float) -> None:
        """
        Take in an answer.

        Args:
            asked: The topics it is about.
        """
        self.cluster = found.cluster or self.cluster
        self.brokers = found.brokers or self.brokers
        for name in asked:
            topic = found.topics.get(name)
            code = topic.code if topic is not None else NO_TOPIC[0]
            self._codes[name] = code
            if code in NO_TOPIC:
                self.missing.setdefault(name, now)
                self._forget(name)
            else:
                self.missing.pop(name, None)
            if topic is not None and topic.partitions:
                self._take(name, topic)
        self.version += 1

    def _take(self, name: str, topic: TopicMetadata) -> None:
        before = self._topics.get(name)
        made_anew = before is not None and before.id != topic.id
        self._topics[name] = topic
        if topic.id != NO_ID:
            self._names[topic.id] = name
        if before is not None:
            for index in before.partitions.keys() - topic.partitions.keys():
                self._leaders.pop((name, index), None)
        for index, told in topic.partitions.items():
            known = self._leaders.get((name, index))
            # A broker that lags behind must not take back what is known better; a leader that
            # nobody can be sent to is nothing better.
            if (
                known is None
                or made_anew
                or known.leader not in self.brokers
                or told.epoch < 0
                or told.epoch >= known.epoch
            ):
                self._leaders[name, index] = Hint(told.leader, told.epoch)

    def _forget(self, name: str) -> None:
        gone = self._topics.pop(name, None)
        if gone is not None:
            self._names.pop(gone.id, None)
            for index in gone.partitions:
                self._leaders.pop((name, index), None)

    def hint(self, topic: str, index: int, hint: Hint) -> bool:
        """A broker says who leads now (KIP-951); True if that is news."""
        known = self._leaders.get((topic, index))
        if known is not None and hint.epoch <= known.epoch:
            return False
        self._leaders[topic, index] = hint
        self.version += 1
        return True

    def doubt(self, topic: str, index: int) -> None:
        """The leader denies it: the next metadata is believed, whatever its epoch."""
        known = self._leaders.get((topic, index))
        if known is not None:
            self._leaders[topic, index] = Hint(known.leader, -1)

    def leader(self, topic: str, index: int) -> int:
        """Node id of the partition's leader, `NOBODY` for none."""
        found = self._leaders.get((topic, index))
        return NOBODY if found is None else found.leader

    def count(self, topic: str) -> int | None:
        """Partitions of the topic, None while that is not known."""
        found = self._topics.get(topic)
        return None if found is None else len(found.partitions)

    def code(self, topic: str) -> int:
        """Why nothing is known of a topic: Kafka's error code, 0 for nothing yet."""
        return self._codes.get(topic, 0)

    def led(self, topic: str) -> list[int]:
        """The partitions of the topic that have a leader."""
        found = self._topics.get(topic)
        if found is None:
            return []
        return [
            index
            for index in sorted(found.partitions)
            if self.leader(topic, index) != NOBODY
        ]

    def topic_id(self, topic: str) -> bytes:
        """The topic's id, `NO_ID` where brokers do not say it."""
        found = self._topics.get(topic)
        return NO_ID if found is None else found.id

    def name(self, topic_id: bytes) -> str:
        """The topic with an id, "" for none."""
        return self._names.get(topic_id, "")
