"""A disk that is full of state holds the delivery; nothing is delivered again and again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disks import disk_of
from tests.e2e.admin import LISTENING, admin_of
from tests.e2e.conftest import Make
from tests.e2e.rig import Setup, until
from tests.fakes.api import Api

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

#: More than any of these tests waits for.
PAGES = 4000


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(pages=PAGES, records=5, size=120, latency=0.05) as found:
        yield found


def full(place: Path) -> Path:
    """Fill it to the last byte."""
    stuffing = place / "stuffing"
    with stuffing.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            pass
    return stuffing


def paged(make: Make, api: Api, place: Path, **keys: object) -> Setup:
    setup = make(
        f"{api.url}/page/0",
        {
            "pagination.type": "page",
            "pagination.limit.value": 5,
            "offset.storage.file.filename": place / "offsets",
            "task.restart.backoff.ms": 100,
            **LISTENING,
            **keys,
        },
    )
    return setup


def test_a_disk_that_fills_up_holds_the_delivery(
    make: Make, api: Api, tmp_path: Path
) -> None:
    with disk_of(tmp_path / "disk", 256) as place:
        setup = paged(make, api, place)
        with setup.running() as running:
            admin = admin_of(setup, running)
            until(lambda: "first page is delivered" in running.err, "the first page")
            stuffing = full(place)

            until(
                lambda: "state cannot be saved" in admin.health(setup.name)[1],
                "what /health says",
            )
            until(lambda: "The state cannot be saved" in running.err, "the log")
            assert "No space left" in running.err
            held = setup.arrived()
            threading.Event().wait(3.0)
            assert held == setup.arrived()
            assert 0 < held < PAGES * 5

            stuffing.unlink()
            until(lambda: "can be saved again" in running.err, "its end")
            threading.Event().wait(2.0)
            done = running.end()
            assert 0 == done.code, done.err
            # The task, and the process that answers for its health.
            assert 2 == done.err.count("started as process")
        found = Counter(setup.values())
        assert len(found) > held
        assert {1} == set(found.values())


def test_a_start_with_a_full_disk_delivers_nothing_until_it_can_save(
    make: Make, api: Api, tmp_path: Path
) -> None:
    with disk_of(tmp_path / "disk", 256) as place:
        setup = paged(make, api, place)
        (place / "offsets").mkdir(mode=0o700)
        stuffing = full(place)
        for _ in range(2):
            with setup.running() as running:
                admin = admin_of(setup, running)
                until(
                    lambda a=admin: "state cannot be saved" in a.health(setup.name)[1],
                    "what /health says",
                )
                assert 0 == running.end().code
        assert 0 == setup.arrived()

        once = setup.call("run", "--once", within=120.0)
        assert 75 == once.code, once.err
        assert "cannot be saved" in once.err
        assert 0 == setup.arrived()

        stuffing.unlink()
        setup.write(**{"pagination.max.pages": 3})
        assert 75 == setup.call("run", "--once").code
        assert 15 == setup.arrived()


def test_a_stop_does_not_wait_for_the_disk(
    make: Make, api: Api, tmp_path: Path
) -> None:
    with disk_of(tmp_path / "disk", 256) as place:
        setup = paged(make, api, place)
        with setup.running() as running:
            admin = admin_of(setup, running)
            until(lambda: "first page is delivered" in running.err, "the first page")
            full(place)
            until(
                lambda: "state cannot be saved" in admin.health(setup.name)[1],
                "what /health says",
            )
            done = running.end(within=20.0)

        # What was delivered and not saved comes again: it is said, and the code is
        # that of a stop that was not clean.
        assert 75 == done.code, done.err
        assert "cannot be saved" in done.err
