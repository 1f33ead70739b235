"""Positions of an API's own, snapshots and jobs: nothing lost, from every state on."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from engine.config.endpoints import splittable
from engine.config.pagination import TYPES
from engine.records import Offset
from engine.task.contents import contents_of_values
from tests.fakes.jobs import Jobs
from tests.task.configurations import (
    FORMS,
    PAGING,
    PLACES,
    URL,
    Changing,
)
from tests.task.courses import Course, File, Files, of, stored
from tests.task.test_diff import Crash, Kafka, Run
from tests.task.tokens import SYNCHRONISED

JOBS_URL = "http://jobs.test"


@pytest.mark.parametrize("name", SYNCHRONISED)
def test_a_position_of_the_apis_own_leads_to_all_from_every_state_on(
    name: str, tmp_path: Path
) -> None:
    case = SYNCHRONISED[name]
    model = case.feed()
    file = Files(tmp_path, case.keys)(3)
    assert not splittable(file.connector, file.api)
    dice = random.Random(sum(name.encode()))
    for number in range(10):
        model.put(number)
    course = Course(file.poll(model))
    for _ in range(5):
        course()
        # Between polls: a page by its number is another one when something comes.
        for _ in range(dice.randrange(6)):
            model.put(dice.randrange(14))
    calm = len(course.states)
    for _ in range(2):
        course()
    assert model.rows() <= set(course.got), name
    assert 1 == max(Counter(course.got).values()), name

    # Where it was cut, its pages are asked for again at most, with changes in between but
    # for numbered pages: those are other ones then.
    if model.kind != "page":
        for number in range(20, 24):
            model.put(number)
    for state, delivered in course.states[calm if model.kind == "page" else 0 :]:
        again = Course(file.poll(model), dict(state))
        again()
        again()
        assert model.rows() <= {*course.got[:delivered], *again.got}, (name, state)


@pytest.mark.parametrize("kind", [each for each in PAGING if each != "keyset"])
@pytest.mark.parametrize("seed", range(4))
def test_a_snapshot_ends_where_the_api_does_whenever_it_dies(
    kind: str, seed: int, tmp_path: Path
) -> None:
    """What a compacted topic holds in the end is what the API has."""
    data = "/value" if kind == "odata" else "/items"
    keys = {
        "http.source.url": f"{URL}/list",
        "http.response.data.json.pointer": data,
        "http.offset.mode": "SNAPSHOT_DIFF",
        "kafka.key": "${record.id}",
        "pagination.type": kind,
        **PAGING[kind],
    }
    file = File(tmp_path, keys)
    feed = Changing(kind, PLACES["query"], FORMS["iso"], "NONE", 0)
    dice = random.Random(seed)
    kafka = Kafka(dice, transactional=bool(seed % 2))
    for number in range(11):
        feed.put(number)
    for turn in range(6):
        run = Run(
            file.poll(feed),
            kafka,
            shifts=TYPES[kind].addressable,
            contents=contents_of_values,
        )
        kafka.lives = dice.randrange(12) if turn % 2 else -1
        with contextlib.suppress(Crash):
            run.poll()
            run.poll()
        kafka.lives = -1
        for _ in range(dice.randrange(4)):
            number = dice.randrange(14)
            feed.remove(number) if dice.random() < 0.4 else feed.put(number)
    run = Run(file.poll(feed), kafka, shifts=TYPES[kind].addressable)
    run.poll()
    run.poll()

    found = {
        json.loads(each)["id"]: json.loads(each) for each in kafka.compacted().values()
    }
    assert feed.records == found


#: A file's keys for each of the APIs of `tests.fakes.jobs`.
JOBS: dict[str, Mapping[str, str]] = {
    "salesforce": {
        "http.source.url": f"{JOBS_URL}/salesforce/jobs/${{job.id}}/results?limit=2",
        "http.job.create.url": f"{JOBS_URL}/salesforce/jobs",
        "http.job.status.url": f"{JOBS_URL}/salesforce/jobs/${{job.id}}",
        "http.job.status.field": "state",
        "pagination.type": "cursor",
        "pagination.cursor.field": "header:Sforce-Locator",
        "pagination.cursor.param": "locator",
    },
    "shopify": {
        "http.source.url": f"{JOBS_URL}/shopify/graphql",
        "http.job.create.url": f"{JOBS_URL}/shopify/jobs",
        "http.job.status.url": f"{JOBS_URL}/shopify/graphql",
        "http.job.status.method": "POST",
        "http.job.status.body": '{"id": "${job.id}"}',
        "http.job.status.field": "state",
        "http.job.download.field": "url",
    },
    "several": {
        "http.source.url": f"{JOBS_URL}/unused",
        "http.job.create.url": f"{JOBS_URL}/several/jobs",
        "http.job.status.url": f"{JOBS_URL}/several/jobs/${{job.id}}",
        "http.job.status.field": "state",
        "http.job.download.field": "urls",
    },
    "amazon": {
        "http.source.url": f"{JOBS_URL}/unused",
        "http.job.create.url": f"{JOBS_URL}/amazon/jobs",
        "http.job.status.url": f"{JOBS_URL}/amazon/jobs/${{job.reportId}}",
        "http.job.result.url": (
            f"{JOBS_URL}/amazon/documents/${{status.reportDocumentId}}"
        ),
        "http.job.status.field": "state",
        "http.job.download.field": "url",
    },
    "location": {
        "http.source.url": f"{JOBS_URL}/unused",
        "http.job.create.url": f"{JOBS_URL}/location/jobs",
        "http.job.download.field": "url",
    },
}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_of_a_file_is_fetched_whole_from_every_state_on(
    name: str, tmp_path: Path
) -> None:
    keys = {
        "http.response.data.json.pointer": "/items",
        "http.job.create.body": "{}",
        "http.job.status.done.values": "JobComplete",
        **JOBS[name],
    }
    api = Jobs(JOBS_URL)
    api.rows = [{"id": number, "version": 1} for number in range(5)]
    file = File(tmp_path, keys)
    states: list[tuple[Offset, int]] = []
    got: list[tuple[int, int]] = []
    offset: Offset | None = None
    for poll in (1, 2):
        for page in file.jobs(api).pages(offset):
            got += of([page])
            offset = stored(page)
            states.append((offset, len(got)))
        assert 5 * poll == len(got)
        assert poll == len(api.created)

    for state, delivered in states:
        created = len(api.created)
        rest = [each for page in file.jobs(api).pages(state) for each in of([page])]
        if state["done"] is True:
            assert 5 == len(rest)
            assert created + 1 == len(api.created)
            continue
        # It goes on with the job that it had, and with nothing twice.
        assert 0 == (delivered + len(rest)) % 5, state
        assert created == len(api.created)


def test_all_of_them_are_there() -> None:
    assert 21 <= len(SYNCHRONISED)
