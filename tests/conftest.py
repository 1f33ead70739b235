"""Fixtures and rules of every room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine.observe.redact import REDACTOR
from tests.brokers.fixtures import apache, broker, embedded, own_apache

__all__ = ["apache", "broker", "embedded", "own_apache"]

_DIED = pytest.StashKey[bool]()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """One of the processes that share the tests has ended (pytest-xdist)."""
    if error:
        node.config.stash[_DIED] = True


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tests that nobody has run are no failures that another try makes good."""
    if session.config.stash.get(_DIED, False):
        session.exitstatus = pytest.ExitCode.INTERRUPTED


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
