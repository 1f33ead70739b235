"""`topic.creation.*`: the topic that a run leaves behind, as another client sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.brokers import Broker
from tests.e2e.conftest import Make
from tests.fakes.api import Api

pytestmark = pytest.mark.slow

GROUPS = {
    "topic.creation.groups": "big,rest",
    "topic.creation.big.include": "c[0-9]+-[0-9]+-.*",
    "topic.creation.big.partitions": 4,
    "topic.creation.big.replication.factor": 1,
    "topic.creation.big.segment.ms": 600000,
    "topic.creation.rest.include": ".*",
    "topic.creation.rest.partitions": 3,
    "topic.creation.default.partitions": 2,
    "topic.creation.default.replication.factor": 1,
    "topic.creation.default.retention.ms": 7200000,
}


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(pages=1, records=3) as found:
        yield found


@pytest.mark.parametrize(
    ("keys", "partitions", "settings"),
    [
        ({}, 4, {"segment.ms": "600000"}),
        ({"topic.creation.big.exclude": ".*-topic"}, 3, {}),
        # Only the whole name is a match.
        ({"topic.creation.big.include": "c"}, 3, {}),
        ({"topic.creation.groups": ""}, 2, {"retention.ms": "7200000"}),
    ],
)
def test_the_first_group_that_is_for_a_topic_makes_it(
    make: Make,
    apache: Broker,
    api: Api,
    keys: Mapping[str, object],
    partitions: int,
    settings: Mapping[str, str],
) -> None:
    wanted = {**GROUPS, **keys}
    if not wanted["topic.creation.groups"]:
        wanted = {k: v for k, v in wanted.items() if ".default." in k}
    setup = make(f"{api.url}/none/0", {**wanted, "bootstrap.servers": apache.address})

    done = setup.once()

    assert 0 == done.code, done.err
    assert partitions == apache.partitions(setup.topic)
    found = apache.settings(setup.topic)
    assert settings == {key: found[key] for key in settings}


def test_a_topic_that_may_not_be_made_and_is_not_there_is_named(
    make: Make, api: Api
) -> None:
    setup = make(f"{api.url}/none/0", {"topic.creation.enable": "false"})

    done = setup.once()

    assert 78 == done.code, done.err
    assert setup.topic in done.err
    assert "topic.creation.enable" in done.err
    assert [] == api.targets()
