"""Topics are looked up, created or missed by name before the first record."""

from __future__ import annotations

import time

import pytest

from engine.errors import Misconfigured, Unavailable
from engine.sink.kafka import Cluster
from engine.sink.preflight import RECORD_MARGIN, TopicCreationGroup, Topics
from tests.brokers import Broker
from tests.sink.rig import topic_name


def topics(
    broker: Broker,
    *groups: TopicCreationGroup,
    said: list[str] | None = None,
    **settings: object,
) -> Topics:
    cluster = Cluster(bootstrap=(broker.address,), request_timeout=5.0)
    heard = said if said is not None else []
    return Topics(
        cluster, groups or (TopicCreationGroup(),), say=heard.append, **settings
    )  # type: ignore[arg-type]


def test_a_missing_topic_is_created_as_its_group_says(broker: Broker) -> None:
    mark = topic_name()
    groups = (
        TopicCreationGroup(
            include=(f"{mark}-a.*",),
            exclude=(".*-not",),
            partitions=4,
            settings={"retention.ms": "12345678"},
        ),
        TopicCreationGroup(partitions=2),
    )

    topics(broker, *groups).ensure([f"{mark}-a1", f"{mark}-a2-not", f"{mark}-b"])

    counts = [broker.partitions(f"{mark}-{name}") for name in ("a1", "a2-not", "b")]
    assert [4, 2, 2] == counts
    assert "12345678" == broker.settings(f"{mark}-a1")["retention.ms"]


def test_every_missing_topic_is_named_within_ten_seconds(broker: Broker) -> None:
    there = broker.create(topic_name())
    began = time.monotonic()

    with pytest.raises(Misconfigured, match="no topic gone-1, gone-2 at 127.0.0.1"):
        topics(broker, creating=False).ensure([there, "gone-1", "gone-2"])

    assert time.monotonic() - began < 10.0


def test_too_few_partitions_are_warned_of(broker: Broker) -> None:
    name = broker.create(topic_name(), 2)
    said: list[str] = []

    topics(broker, said=said, tasks=3).ensure([name])

    assert [f"Topic {name} has 2 partitions, fewer than tasks.max=3."] == said


def test_the_limit_is_the_smaller_of_request_and_topic(broker: Broker) -> None:
    small = broker.create(topic_name(), max_message_bytes="5000")
    large = broker.create(topic_name(), max_message_bytes="90000000")
    found = topics(broker, max_request_size=2_000_000)

    assert (5000, 2_000_000) == (found.limit(small), found.limit(large))
    assert 5000 - RECORD_MARGIN == found.record_limit(small)


@pytest.mark.kafka
def test_a_compacted_topic_for_records_without_key_is_refused(apache: Broker) -> None:
    name = apache.create(topic_name(), cleanup_policy="compact")

    with pytest.raises(Misconfigured, match=f"{name} is compacted"):
        topics(apache).ensure([name], keyless=[name])
    topics(apache).ensure([name])


@pytest.mark.kafka
def test_settings_the_broker_refuses_are_named(apache: Broker) -> None:
    group = TopicCreationGroup(partitions=1, settings={"retention.ms": "soon"})

    with pytest.raises(Misconfigured, match="creating topic nonsense"):
        topics(apache, group).ensure(["nonsense"])


def test_a_topic_that_another_creates_meanwhile_is_taken(broker: Broker) -> None:
    name = topic_name()
    first, second = topics(broker), topics(broker)

    first.ensure([name])
    second.ensure([name])

    assert first.limit(name) == second.limit(name)


def test_a_broker_that_is_away_is_named() -> None:
    cluster = Cluster(bootstrap=("127.0.0.1:1",))

    with pytest.raises(Unavailable, match="127.0.0.1:1"):
        Topics(cluster, [TopicCreationGroup()], say=print).ensure(["t"])
