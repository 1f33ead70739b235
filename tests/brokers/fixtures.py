"""Fixtures: one broker of each kind for the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from engine.config.sections.kafka import has_embedded
from tests.brokers import (
    Apache,
    Broker,
    apache_kafka,
    embedded_kafka,
    has_java,
)
from tests.needs import need


@pytest.fixture(scope="session")
def embedded() -> Iterator[Broker]:
    """The embedded broker."""
    need(has_embedded(), "noida-db")
    with embedded_kafka() as found:
        yield found


@pytest.fixture(scope="session")
def apache() -> Iterator[Broker]:
    """Apache Kafka: the one KAFKA_BOOTSTRAP names, or one of our own."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        yield Broker(given)
        return
    need(has_java(), "Java or Maven")
    with apache_kafka() as found:
        yield found


@pytest.fixture
def own_apache(request: pytest.FixtureRequest) -> Iterator[Apache]:
    """
    An Apache Kafka for one test, which may stop, freeze and kill it.

    Its parameter, if it has one, holds lines of server.properties.
    """
    need(has_java(), "Java or Maven")
    lines = getattr(request, "param", {}).items()
    extra = [word for name, value in lines for word in ("--set", f"{name}={value}")]
    with apache_kafka(*extra) as found:
        yield found


@pytest.fixture(
    params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)],
)
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each broker in turn."""
    found: Broker = request.getfixturevalue(request.param)
    return found
