"""Fixtures of the tests that run the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.e2e.rig import Setup

#: Makes a connector: its URL, then keys.
Make = Callable[..., Setup]


@pytest.fixture
def make(tmp_path: Path, embedded: Broker) -> Make:
    """A connector of its own on the embedded broker."""

    def setup(url: str, keys: Mapping[str, object] | None = None) -> Setup:
        return Setup(tmp_path, url, embedded, keys)

    return setup
