"""Fixtures and rules of every room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.observe.redact import REDACTOR
from tests.brokers.fixtures import apache, broker, embedded, own_apache

__all__ = ["apache", "broker", "embedded", "own_apache"]

#: Rooms whose tests time real processes on a machine that others share.
TIMED = ("process", "e2e", "faults", "brokers", "scripts", "guide")

#: Times such a test is tried again before it counts as failed.
AGAIN = 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test of real processes may lose a race for the processor twice."""
    root = Path(__file__).parent
    for item in items:
        room = item.path.relative_to(root).parts[0]
        timed = room in TIMED or any(
            item.get_closest_marker(name) for name in ("slow", "kafka")
        )
        if timed:
            item.add_marker(pytest.mark.flaky(reruns=AGAIN, reruns_delay=1))


@pytest.fixture(autouse=True)
def forgets_secrets() -> Iterator[None]:
    """What one test taught to be a secret is none in the next."""
    known, pattern = set(REDACTOR._known), REDACTOR._pattern
    yield
    REDACTOR._known, REDACTOR._pattern = known, pattern
