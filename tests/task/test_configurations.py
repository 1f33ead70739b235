"""
Every configuration of a mode: nothing lost, nothing twice, from every state on.

Each is a file's keys, made into polls as a run makes them, against a model of an API
whose rows are inserted, changed and deleted between any two requests.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from engine.config import Api, Connector, load
from engine.config.endpoints import splittable
from engine.config.pagination import TYPES
from engine.records import Offset, Page, Shard
from engine.seams import Fetch
from engine.source.decode.decoder import compile_decoder
from engine.source.jobs import JobPoll
from engine.source.poll import Poll
from engine.task.build.jobs import job_decoder, keys_of, steps_of
from engine.task.build.polling import paginator_of
from engine.task.contents import contents_of_values
from tests.fakes.jobs import Jobs
from tests.fakes.walks import Never, bytes_of
from tests.task.configurations import (
    CONFIGURATIONS,
    FORMS,
    PAGING,
    PLACES,
    URL,
    WINDOWS,
    Changes,
    Changing,
    Sliced,
)
from tests.task.test_diff import Crash, Kafka, Run
from tests.task.tokens import SYNCHRONISED, Synced

JOBS_URL = "http://jobs.test"


class At:
    """The clock of a model."""

    def __init__(self, model: Changing | Sliced | Synced):
        self._model = model

    def wall_ms(self) -> int:
        return int(self._model.now * 1000)

    def monotonic(self) -> float:
        return 0.0


class File:
    """A file of these keys, and polls made of it."""

    def __init__(self, folder: Path, keys: Mapping[str, str], limit: int = 4):
        file = folder / f"c{limit}.properties"
        lines = [f"{k}={v.replace('LIMIT', str(limit))}" for k, v in keys.items()]
        file.write_text(
            "\n".join(["bootstrap.servers=h:1", "kafka.topic=t", *lines]) + "\n"
        )
        loaded = load([file])
        assert not [f for f in loaded.findings if f.severity != "notice"]
        self.connector: Connector = loaded.connectors[0]
        self.api: Api = self.connector.apis[0]

    def jobs(self, api: Jobs) -> JobPoll:
        """A poll of the jobs of an API."""
        shard = Shard("c", self.api.name)
        paginator = paginator_of(self.connector, self.api, shard, zone=UTC, task=0)
        keys = keys_of(self.api)
        assert keys is not None
        data = str(self.api.values["http.response.data.json.pointer"])
        return JobPoll(
            paginator,
            fetch=api,
            decode=compile_decoder(data_path=data, wanted=paginator.paths),
            stopping=Never(),
            keys=replace(keys, interval=0.0),
            steps=steps_of(
                self.connector,
                self.api,
                shard,
                pages=paginator.shape,
                ask=api,
                look=api,
                decode=job_decoder(self.api),
                zone=UTC,
                task=0,
            ),
            note=lambda name: None,
        )

    def poll(
        self,
        model: Changing | Sliced | Synced,
        index: int = 0,
        count: int = 1,
        others: Sequence[tuple[int, int, Offset]] = (),
    ) -> Poll:
        paginator = paginator_of(
            self.connector,
            self.api,
            Shard("c", self.api.name, index=index, count=count),
            zone=UTC,
            task=0,
            others=others,
        )
        fetch: Fetch = model
        data = str(self.api.values["http.response.data.json.pointer"])
        return Poll(
            paginator,
            fetch=fetch,
            decode=compile_decoder(data_path=data, wanted=paginator.paths),
            stopping=Never(),
            clock=At(model),
        )


def stored(page: Page) -> Offset:
    found: Offset = json.loads(json.dumps(page.offset))
    return found


def of(pages: Sequence[Page]) -> list[tuple[int, int]]:
    found = [json.loads(record) for record in bytes_of(pages)]
    return [(record["id"], record["version"]) for record in found]


class Files:
    """The file of some keys with pages of any size."""

    def __init__(self, folder: Path, keys: Mapping[str, str]):
        self._folder, self._keys = folder, keys
        self._made: dict[int, File] = {}

    def __call__(self, limit: int) -> File:
        if limit not in self._made:
            self._made[limit] = File(self._folder, self._keys, limit)
        return self._made[limit]


class Course:
    """Polls in turn from a position, and what they brought."""

    def __init__(self, poll: Poll, offset: Offset | None = None):
        self.poll, self.offset = poll, offset
        self.got: list[tuple[int, int]] = []
        self.states: list[tuple[Offset, int]] = []

    def __call__(self, pages: int = 1 << 30) -> None:
        """A poll, or so many pages of it, and then a kill."""
        walk = self.poll.pages(self.offset)
        for page in walk:
            self.got += of([page])
            self.offset = stored(page)
            self.states.append((self.offset, len(self.got)))
            pages -= 1
            if not pages:
                break
        walk.close()


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_nothing_is_lost_and_nothing_comes_twice(name: str, tmp_path: Path) -> None:
    case = CONFIGURATIONS[name]
    feed = case.feed()
    files = Files(tmp_path, case.keys)
    file = files(4)
    # A mode that is no FULL one is one shard, whatever tasks.max says.
    assert not splittable(file.connector, file.api)
    for number in range(11):
        feed.put(number)
        feed.now += number % 3 * 7
    changes = Changes(feed, sum(name.encode()), late=case.late)
    course = Course(file.poll(feed))
    for turn in range(6):
        feed.between = changes if case.within else lambda: None
        # In the middle of a poll, or behind one.
        course((1, 2, 1 << 30, 3, 1 << 30, 1 << 30)[turn])
        if not case.within and (course.offset or {})["done"]:
            # A page by its number is another page when something moved in between.
            changes()
    feed.between = lambda: None
    for _ in range(3):
        feed.now += 40
        course()

    assert feed.rows() <= set(course.got), name
    twice = {each: n for each, n in Counter(course.got).items() if n > 1}
    assert case.repeats or not twice, name

    # From every state on, with pages of any size, to the same end.
    end = course.offset or {}
    for at, (state, delivered) in enumerate(course.states):
        for size in {4, (1, 4, 2, 4, 7, 4, 50, 4)[at % 8]}:
            other = feed.size
            feed.size = other if feed.kind == "none" else size
            again = Course(files(size).poll(feed), dict(state))
            again()
            again()
            feed.size = other
            brought = [*course.got[:delivered], *again.got]
            assert feed.rows() <= set(brought), (name, at, size, state)
            found = again.offset or {}
            for field in ("bookmark", "kind"):
                assert end.get(field) == found.get(field), (name, at, state)


@pytest.mark.parametrize("name", WINDOWS)
def test_each_window_is_walked_once_from_every_state_on(
    name: str, tmp_path: Path
) -> None:
    case = WINDOWS[name]
    model = case.feed()
    start = 1_699_963_200.0 if "days" not in name else 1_699_570_800.0
    model.now = start + (3 * 3600 if "days" not in name else 86_400 * 6)
    span = model.now - start
    for number in range(32):
        # Thick in places, so that some windows are too large.
        model.put(number, int(start + span * (number / 32) ** 3))
    files = Files(tmp_path, case.keys)
    file = files(3)
    rows: dict[int, Any] = dict(model.rows)

    def numbers(pages: Sequence[Page]) -> list[int]:
        return [json.loads(record)["id"] for record in bytes_of(pages)]

    first = list(file.poll(model).pages(None))
    model.now += 90_000 if "days" in name else 1300
    for number in range(32, 40):
        model.put(number, int(model.now - 700 - (number % 5)))
    rest = list(file.poll(model).pages(stored(first[-1])))
    model.now += 90_000 if "days" in name else 1300
    pages = [*first, *rest, *list(file.poll(model).pages(stored(rest[-1])))]

    assert set(model.rows) == set(numbers(pages)), name
    assert 1 == max(Counter(numbers(pages)).values()), name
    assert rows.items() <= model.rows.items()
    for at, page in enumerate(pages):
        for size in {3, (1, 3, 3, 2, 3, 3, 50, 3)[at % 8]}:
            kept = model.size
            model.size = kept if model.kind == "none" else size
            course: list[int] = numbers(pages[: at + 1])
            again = files(size).poll(model)
            course += numbers(list(again.pages(stored(page))))
            model.size = kept
            assert set(model.rows) == set(course), (name, at, size)
            if size == 3:
                assert 1 == max(Counter(course).values()), (name, at)


@pytest.mark.parametrize("name", [n for n in WINDOWS if "overlap" not in n])
def test_windows_go_on_with_any_number_of_tasks(name: str, tmp_path: Path) -> None:
    case = WINDOWS[name]
    days = "days" in name
    file = File(tmp_path, case.keys, 3)
    assert splittable(file.connector, file.api)
    start = 1_699_570_800.0 if days else 1_699_963_200.0
    for before, after, cut in ((1, 3, 4), (3, 2, 2), (2, 1, 3), (4, 4, 1)):
        model = case.feed()
        model.now = start + (86_400 * 6 if days else 3 * 3600)
        for number in range(60):
            model.put(number, int(start + (model.now - start) * (number / 60) ** 2))
        got: list[int] = []
        family: list[tuple[int, int, Offset]] = []
        for index in range(before):
            poll = file.poll(model, index, before)
            last: Offset | None = None
            for number, page in enumerate(poll.pages(None)):
                got += [json.loads(record)["id"] for record in bytes_of([page])]
                last = stored(page)
                if number + 1 >= cut * (index + 1):
                    break
            last = last or poll.idle
            if last is not None:
                family.append((index, before, last))
        model.now += 90_000 if days else 1300
        for index in range(after):
            own = next((o for i, c, o in family if (i, c) == (index, after)), None)
            others = [each for each in family if each[1] != after]
            poll = file.poll(model, index, after, others)
            got += [
                json.loads(record)["id"] for record in bytes_of(list(poll.pages(own)))
            ]
        assert set(model.rows) == set(got), (name, before, after)
        twice = [n for n, count in Counter(got).items() if count > 1]
        assert not twice, (name, before, after, twice)


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
    assert 66 <= len(CONFIGURATIONS)
    assert 30 <= len(WINDOWS)
