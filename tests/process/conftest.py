"""Every test gets engines that are gone after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.supervisor.orders import DesiredState
from tests.process.rig import Engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Starts a supervisor; several may be started."""
    started: list[Engine] = []

    def start(plan: Callable[[], DesiredState], **options: object) -> Engine:
        started.append(Engine(tmp_path, plan, **options))
        return started[-1]

    yield start
    for one in started:
        one.clear_up()
