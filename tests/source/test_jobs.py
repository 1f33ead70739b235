"""A poll that creates a job, waits for it and fetches what it has made."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from msgspec import Raw

from engine.errors import BadPage, Forbidden, StateError, Unexpected, Unreachable
from engine.records import Offset, Page
from engine.source.decode.decoder import compile_decoder
from engine.source.jobs import JobKeys, JobPoll, JobSteps
from engine.source.paging.pager import Paging
from engine.source.paging.paginator import Paginator
from engine.source.paging.request import Shape
from engine.source.paging.windows import Windowed, WindowKeys
from engine.source.wire.origin import AllowedOrigins, origin_of
from tests.fakes.jobs import Jobs
from tests.fakes.walks import bytes_of

URL = "http://jobs.test"
DONE = frozenset({"jobcomplete"})
FAILED = frozenset({"failed"})


class Waits:
    """A stopping flag that only counts what is waited for."""

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.stops_at = 1000

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        self.waited.append(seconds)
        return len(self.waited) > self.stops_at


class Clock:
    def __init__(self, waits: Waits):
        self._waits = waits

    def wall_ms(self) -> int:
        return 1_000_000 + int(1000 * sum(self._waits.waited))

    def monotonic(self) -> float:
        return self.wall_ms() / 1000


#: Kind of API -> the URL of what was made, its type, keys, and where the status is.
KINDS: dict[str, dict[str, Any]] = {
    "salesforce": {
        "pages": "/salesforce/jobs/${job.id}/results?limit=2",
        "paging": {
            "type": "cursor",
            "cursor_field": "header:Sforce-Locator",
            "cursor_param": "locator",
        },
        "status": "/salesforce/jobs/${job.id}",
        "keys": {"state": "state"},
    },
    "shopify": {
        "pages": "/unused",
        "status": "/shopify/graphql",
        "status_body": '{"id": "${job.id}"}',
        "keys": {"state": "state", "files": "url"},
    },
    "several": {
        "pages": "/unused",
        "status": "/several/jobs/${job.id}",
        "keys": {"state": "state", "files": "urls"},
    },
    "amazon": {
        "pages": "/unused",
        "status": "/amazon/jobs/${job.reportId}",
        "result": "/amazon/documents/${status.reportDocumentId}",
        "keys": {"state": "state", "files": "url"},
    },
    "location": {
        "pages": "/unused",
        "keys": {"files": "url"},
    },
}


def poll_of(
    kind: str,
    api: Jobs,
    waits: Waits | None = None,
    notes: list[str] | None = None,
    windows: WindowKeys | None = None,
    **keys: Any,
) -> JobPoll:
    way = KINDS[kind]
    waits = waits or Waits()
    single = Paging(type="none")
    paging = Paging(**way.get("paging", {"type": "none"}))

    def shape(url: str, method: str = "GET", **more: Any) -> Shape:
        return Shape(method=method, url=f"{URL}{url}", paging=single, **more)

    pages = Shape(method="GET", url=f"{URL}{way['pages']}", paging=paging)
    follow = AllowedOrigins((origin_of(URL),)).follow
    made = JobKeys(**{"done": DONE, "failed": FAILED, **way["keys"], **keys})
    wanted = tuple(each for each in (made.state, made.files) if each)
    note = (lambda name: None) if notes is None else notes.append
    status = None
    if "status" in way:
        body = way.get("status_body")
        status = shape(way["status"], "POST" if body else "GET", body=body)
    body = '{"query": "SELECT"}'
    around = None
    if windows is not None:
        body = '{"from": ${window.start}, "to": ${window.end}}'
        around = Windowed(windows, note=note)
    paginator = Paginator(paging, shape=pages, follow=follow, note=note, around=around)
    return JobPoll(
        paginator,
        fetch=api,
        decode=compile_decoder(data_path="items", wanted=paginator.paths),
        stopping=waits,
        clock=Clock(waits),
        keys=made,
        steps=JobSteps(
            create=shape(f"/{kind}/jobs", "POST", body=body),
            status=status,
            result=shape(way["result"]) if "result" in way else None,
            pages=pages,
            ask=api,
            look=api,
            decode=compile_decoder(wanted=wanted, empty_body=True),
            follow=follow,
        ),
        note=note,
    )


def stored(page: Page) -> Offset:
    found: Offset = json.loads(json.dumps(page.offset))
    return found


def ids(pages: list[Page]) -> list[int]:
    return [json.loads(record)["id"] for record in bytes_of(pages)]


def api_with(count: int) -> Jobs:
    api = Jobs(URL)
    api.rows = [{"id": number} for number in range(count)]
    return api


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_is_created_waited_for_and_fetched(kind: str) -> None:
    api = api_with(5)
    pages = list(poll_of(kind, api).pages(None))
    assert ids(pages) == list(range(5))
    assert api.created == ["j1"]
    assert api.bodies == [{"query": "SELECT"}]
    assert pages[-1].last
    assert stored(pages[-1])["done"] is True
    assert "job" not in stored(pages[-1])
    # Once for each poll.
    api.rows.append({"id": 9})
    again = list(poll_of(kind, api).pages(stored(pages[-1])))
    assert ids(again) == [0, 1, 2, 3, 4, 9]
    assert api.created == ["j1", "j2"]
    assert stored(again[-1])["poll"] == 2


@pytest.mark.parametrize("kind", KINDS)
def test_every_saved_position_goes_on_with_the_same_job(kind: str) -> None:
    api = api_with(5)
    pages = list(poll_of(kind, api).pages(None))
    for at, page in enumerate(pages[:-1]):
        rest = list(poll_of(kind, api).pages(stored(page)))
        assert ids([*pages[: at + 1], *rest]) == list(range(5))
    assert api.created == ["j1"]


#: Windows of 10 s from the epoch on; the clock of these tests stands at 1,000 s.
TENS = WindowKeys(
    size=10,
    start=lambda now, scope: "1970-01-01T00:15:00Z",
    end=lambda now, scope: "1970-01-01T00:16:40Z",
    bound=lambda ms: Raw(str(ms // 1000).encode()),
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_for_each_window(kind: str) -> None:
    api = Jobs(URL)
    api.looks = 0
    api.rows = [{"id": number} for number in range(895, 1010, 3)]
    pages = list(poll_of(kind, api, windows=TENS).pages(None))

    expected = [row["id"] for row in api.rows if 900 <= row["id"] < 1000]
    assert expected == ids(pages)
    asked = [(int(body["from"]), int(body["to"])) for body in api.bodies]
    assert [(at, at + 10) for at in range(900, 1000, 10)] == asked
    assert [False] * (len(pages) - 1) + [True] == [page.last for page in pages]
    assert "job" not in stored(pages[-1])
    # The next poll has nothing to ask for until another window is over.
    jobs = len(api.created)
    assert [] == list(poll_of(kind, api, windows=TENS).pages(stored(pages[-1])))
    assert jobs == len(api.created)
    # From every state that was saved: the same job, the same end.
    for at, page in enumerate(pages[:-1]):
        again = copy.deepcopy(api)
        rest = list(poll_of(kind, again, windows=TENS).pages(stored(page)))
        assert expected == ids([*pages[: at + 1], *rest]), stored(page)
        left = (1000 - 900) // 10 - sum(each.index == -1 for each in pages[: at + 1])
        assert jobs + left == len(again.created)


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_of_a_window_that_is_forgotten_is_created_anew(kind: str) -> None:
    api = Jobs(URL)
    api.looks = 0
    api.rows = [{"id": number} for number in range(900, 1000, 3)]
    pages = list(poll_of(kind, api, windows=TENS).pages(None))
    third = [at for at, page in enumerate(pages) if page.index == -1][2]
    api.forgotten = {"j3"}

    rest = list(poll_of(kind, api, windows=TENS).pages(stored(pages[third])))

    assert [row["id"] for row in api.rows] == ids([*pages[: third + 1], *rest])
    assert api.bodies[2] == api.bodies[10]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_an_answer_is_in_the_state_but_what_requests_name(kind: str) -> None:
    api = api_with(5)
    for page in poll_of(kind, api).pages(None):
        assert "secret" not in json.dumps(page.offset)


def test_a_job_that_made_nothing_is_an_empty_poll() -> None:
    pages = list(poll_of("shopify", api_with(0)).pages(None))
    assert ids(pages) == []
    assert stored(pages[-1]) == {"poll": 1, "done": True}


def test_the_pause_is_the_interval_or_what_the_api_asks_for() -> None:
    api, waits = api_with(1), Waits()
    api.looks = 3
    list(poll_of("salesforce", api, waits, interval=7.0).pages(None))
    assert waits.waited == [1.0, 7.0, 7.0, 7.0]
    api, waits = api_with(1), Waits()
    api.retry_after = "30"
    list(poll_of("location", api, waits, interval=7.0).pages(None))
    assert waits.waited == [1.0, 30.0, 30.0]


def test_stopping_ends_the_waiting_and_the_job_is_kept() -> None:
    api, waits = api_with(3), Waits()
    api.looks, waits.stops_at = 10, 3
    pages = list(poll_of("salesforce", api, waits).pages(None))
    assert [page.last for page in pages] == [False]
    rest = list(poll_of("salesforce", api).pages(stored(pages[0])))
    assert ids(rest) == [0, 1, 2]
    assert api.created == ["j1"]


def test_a_job_that_fails_is_a_failure_and_the_next_poll_creates_another() -> None:
    api, notes = api_with(3), list[str]()
    api.ends["j1"] = "Failed"
    walk = poll_of("salesforce", api).pages(None)
    pages = [next(walk)]
    with pytest.raises(Unexpected, match="has failed: its status is failed"):
        next(walk)
    rest = list(poll_of("salesforce", api, notes=notes).pages(stored(pages[0])))
    assert ids(rest) == [0, 1, 2]
    assert api.created == ["j1", "j2"]
    assert notes == ["polls_restarted_total"]
    assert stored(rest[-1])["poll"] == 1


def test_a_job_that_is_not_done_in_time() -> None:
    api = api_with(3)
    api.looks = 100
    walk = poll_of("salesforce", api, timeout=60.0).pages(None)
    pages = [next(walk)]
    with pytest.raises(Unreachable, match=r"http\.job\.timeout\.ms"):
        next(walk)
    api.looks = 0
    late = Waits()
    late.waited = [1000.0]
    rest = list(poll_of("salesforce", api, late, timeout=60.0).pages(stored(pages[0])))
    assert ids(rest) == [0, 1, 2]
    assert api.created == ["j1", "j2"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_the_api_has_forgotten_is_created_anew(kind: str) -> None:
    api = api_with(5)
    pages = list(poll_of(kind, api).pages(None))
    api.forgotten.add("j1")
    for page in pages[:-1]:
        again = list(poll_of(kind, api).pages(stored(page)))
        assert ids(again) == list(range(5))


def test_a_status_that_is_not_where_it_should_be_is_a_bad_page() -> None:
    with pytest.raises(BadPage, match=r"http\.job\.status\.field"):
        list(poll_of("salesforce", api_with(1), state="status.name").pages(None))


def test_files_elsewhere_need_to_be_allowed() -> None:
    api = api_with(1)
    api.url = "http://169.254.169.254"
    with pytest.raises(Forbidden):
        list(poll_of("shopify", api).pages(None))


def test_a_job_that_cannot_be_read_is_an_error() -> None:
    offset: Offset = {"poll": 1, "done": False, "job": "{", "job.from": ""}
    with pytest.raises(StateError):
        list(poll_of("salesforce", api_with(1)).pages(offset))
