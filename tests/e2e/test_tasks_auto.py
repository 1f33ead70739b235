"""`tasks.max=auto` in a real run: as many processes as have work, two a core at most."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.rig import Setup, until
from tests.fakes.misbehaving import Misbehaving, Say

pytestmark = pytest.mark.slow

Make = Callable[..., Setup]

CORES = min(2, len(os.sched_getaffinity(0)))

#: What the apis are -> how many tasks that makes.
WANTED: dict[str, tuple[dict[str, object], int]] = {
    "three that cannot be split": (
        {
            "apis.num": 3,
            "api1.http.source.url": "{url}/a",
            "api2.http.source.url": "{url}/b",
            "api3.http.source.url": "{url}/c",
        },
        min(3, 2 * CORES),
    ),
    "one by numbered pages": ({"pagination.type": "page"}, 2 * CORES),
    "one that cannot be split": ({}, 1),
}


@pytest.fixture(autouse=True)
def few_cores() -> Iterator[None]:
    """What is started here sees two cores, however many there are."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:CORES])
    yield
    os.sched_setaffinity(0, cores)


@pytest.mark.parametrize("words", WANTED)
def test_as_many_as_have_work(make: Make, words: str) -> None:
    keys, tasks = WANTED[words]
    with Misbehaving(Say(body=b"[]")) as server:
        made = {
            key: value.format(url=server.url) if isinstance(value, str) else value
            for key, value in keys.items()
        }
        made |= {
            "tasks.max": "auto",
            "http.response.data.json.pointer": "",
            "http.source.poll.interval.ms": 50,
        }
        if "apis.num" in made:
            made["http.source.url"] = None
        setup = make(server.url, made)
        with setup.running() as running:
            until(lambda: len(running.tasks()) == tasks, f"{tasks} tasks")
            asked = len(server.asked)
            until(lambda: len(server.asked) > asked + 20, "they poll")
            assert tasks == len(running.tasks())
            assert 0 == running.end().code
