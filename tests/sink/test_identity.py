from __future__ import annotations

import pytest

from engine.errors import Unavailable
from engine.sink.ends import Identified, identify
from engine.sink.identity import LOOK, Identities, KnownTopic
from engine.sink.kafka import Cluster
from tests.brokers import Broker
from tests.fakes.hands import Hands

HERE = Cluster(bootstrap=("127.0.0.1:1",), client_id="x")


class Cloud:
    """Says what it is told to, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.topics: dict[str, Identified] = {}
        self.away = False

    def __call__(self, cluster: Cluster, topic: str) -> Identified | None:
        self.asked += 1
        if self.away:
            raise Unavailable("away")
        return self.topics.get(topic)


def test_it_is_asked_once_in_a_while() -> None:
    clock, cloud = Hands(), Cloud()
    cloud.topics["t"] = Identified("c/1", 60.0, False)
    identities = Identities(HERE, ask=cloud, clock=clock)

    assert {KnownTopic("c/1", 60.0, 0)} == {identities.of("t") for _ in range(5)}
    assert 1 == cloud.asked
    clock.turn(LOOK)
    cloud.topics["t"] = Identified("c/2", None, True)
    assert KnownTopic("c/2", None, clock.wall_ms()) == identities.of("t")


def test_a_broker_that_is_away_changes_nothing_and_a_topic_that_is_gone_does() -> None:
    clock, cloud = Hands(), Cloud()
    cloud.away = True
    identities = Identities(HERE, ask=cloud, clock=clock)
    assert identities.of("t") is None
    cloud.away = False
    cloud.topics["t"] = Identified("c/1", None, False)
    clock.turn(LOOK)
    assert KnownTopic("c/1", None, 0) == identities.of("t")
    cloud.away = True
    clock.turn(LOOK)
    assert KnownTopic("c/1", None, 0) == identities.of("t")
    cloud.away = False
    del cloud.topics["t"]
    clock.turn(LOOK)
    assert identities.of("t") is None


def test_a_topic_that_is_not_there_yet_is_made_first() -> None:
    cloud = Cloud()

    def ensure(topic: str) -> None:
        cloud.topics[topic] = Identified("c/1", None, True)

    identities = Identities(HERE, ensure=ensure, ask=cloud, clock=Hands())
    found = identities.of("t")
    assert found is not None
    assert "c/1" == found.id


@pytest.mark.parametrize("kept", ["-1", "3600000"])
def test_a_topic_that_was_made_anew_is_another_one(broker: Broker, kept: str) -> None:
    here = Cluster(bootstrap=(broker.address,), client_id="x")
    name = f"identity-{kept}"
    broker.create(name, 2, retention_ms=kept)
    first = identify(here, name)

    assert first is not None
    assert first.empty
    assert (None if kept == "-1" else 3600.0) == first.retention
    assert identify(here, f"{name}-not-there") is None
