"""Fixtures and rules of every room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.observe.redact import REDACTOR
from tests.brokers.fixtures import apache, broker, embedded, own_apache

__all__ = ["apache", "broker", "embedded", "own_apache"]

#: Rooms without processes, sockets and clocks: a test that fails once has failed.
PURE = ("config", "language", "transform")

#: Times any other test is tried again before it counts as failed.
AGAIN = 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test of real processes and sockets may lose the processor for a while."""
    root = Path(__file__).parent
    for item in items:
        room = item.path.relative_to(root).parts[0]
        if room not in PURE:
            item.add_marker(pytest.mark.flaky(reruns=AGAIN, reruns_delay=1))


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An engine that is told no `cache.dir` keeps nothing where a user's does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACHE_DIRECTORY", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def forgets_secrets() -> Iterator[None]:
    """What one test taught to be a secret is none in the next."""
    known, pattern = set(REDACTOR._known), REDACTOR._pattern
    yield
    REDACTOR._known, REDACTOR._pattern = known, pattern
