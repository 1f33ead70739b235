"""
Names in requests that come to nothing: the key, the name, what is there instead.

Of jobs nothing is asked for without them: a query parameter without a value is left out,
and the answer would be about something else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from msgspec import Raw

from engine.errors import BadPage, SourceError
from engine.records import Request, Response
from engine.source.decode.decoder import compile_decoder
from engine.source.jobs import JobKeys, JobPoll, JobSteps
from engine.source.paging.named import TemplateKeys
from engine.source.paging.pager import Paging
from engine.source.paging.paginator import Paginator
from engine.source.paging.request import Shape
from engine.source.paging.windows import Windowed, WindowKeys
from engine.source.wire.origin import AllowedOrigins, origin_of
from tests.fakes.walks import Never

URL = "http://jobs.test"
SECRET = "not for a log"


class Api:
    """Creates a job, says that it is done, and gives a page; what each asks is kept."""

    def __init__(self, created: Any, status: Any, location: str | None):
        self.created, self.status, self.location = created, status, location
        self.asked: list[str] = []

    def __call__(self, request: Request) -> Response:
        self.asked.append(request.url.removeprefix(URL))
        answer: Any = {"items": []}
        headers = [("content-type", "application/json")]
        if request.method == "POST":
            answer = self.created
            if self.location is not None:
                headers.append(("location", self.location))
        elif "/status" in request.url:
            answer = self.status
        return Response(
            request=request,
            url=request.url,
            status=200,
            headers=headers,
            body=json.dumps(answer).encode(),
            sent_at=0.0,
            received_ms=0,
        )


def shape(url: str, **more: Any) -> Shape:
    return Shape(method="GET", url=f"{URL}{url}", paging=Paging(type="none"), **more)


def step(name: str, url: str) -> Shape:
    keys = TemplateKeys(url=f"http.job.{name}.url", body=f"http.job.{name}.body")
    return shape(url, keys=keys)


CREATED = {"jobId": 7, "secret": SECRET}
DONE = {"state": "done", "url": None}


class Case(NamedTuple):
    """
    Attributes:
        says: Words of the error; None: there is none.
        asked: How many requests were sent.
    """

    says: tuple[str, ...] | None
    asked: int
    status: str = "/status"
    result: str | None = None
    pages: str = "/pages"
    params: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    created: Any = CREATED
    state: Any = DONE
    location: str | None = None


CASES = {
    "in a path": Case(
        ("http.job.status.url", "${job.id}", "jobId, secret", "coalesce"),
        1,
        status="/status/${job.id}",
    ),
    "in a query, where it would be left out": Case(
        ("http.job.status.url", "${job.id}", "jobId"), 1, status="/status?id=${job.id}"
    ),
    "behind a function": Case(
        ("${upper(job.id)}",), 1, status="/status?id=${upper(job.id)}"
    ),
    "one level further down": Case(
        (
            "${job.data.id}",
            "the members are data, message",
            "the API says: no such query",
        ),
        1,
        status="/status?id=${job.data.id}",
        created={"data": {"id": None}, "message": "no such query"},
    ),
    "in the api's own requests, before a status is asked for": Case(
        ("http.source.url", "${job.id}", "jobId"), 1, pages="/pages/${job.id}"
    ),
    "in their parameters": Case(
        ("http.source.query.params", "${job.id}"), 1, params="of=${job.id}"
    ),
    "in their headers": Case(
        ("http.source.header.X-Job", "${job.id}"), 1, headers=(("X-Job", "${job.id}"),)
    ),
    "no Location": Case(
        ("http.source.url", "${job_url}", "Location"), 1, pages="/pages?of=${job_url}"
    ),
    "an answer that is no object": Case(
        ("${job.id}", "a list of 2"), 1, status="/status?id=${job.id}", created=[1, 2]
    ),
    "of the status, in what is asked once it is done": Case(
        ("http.job.result.url", "${status.document}", "the members are state, url"),
        2,
        result="/result?of=${status.document}",
    ),
    "of the status, in the api's own requests": Case(
        ("http.source.url", "${status.url}", "the members are state, url"),
        2,
        pages="/pages?of=${status.url}",
    ),
    "one that may be missing": Case(
        None, 3, status="/status?id=${coalesce(job.id, job.jobId)}"
    ),
    "one that is there": Case(
        None,
        3,
        status="/status/${job.jobId}",
        pages="/pages?at=${job_url}",
        location="/jobs/7",
    ),
    "of the status, beside the job": Case(
        None, 3, pages="/pages?of=${job.jobId}-${status.state}"
    ),
}


def poll_of(case: Case, api: Api) -> JobPoll:
    pages = shape(case.pages, params=case.params, headers=case.headers)
    follow = AllowedOrigins((origin_of(URL),)).follow
    create = Shape(method="POST", url=f"{URL}/jobs", paging=Paging(type="none"))
    paginator = Paginator(Paging(type="none"), shape=pages, follow=follow)
    return JobPoll(
        paginator,
        fetch=api,
        decode=compile_decoder(data_path="items", wanted=paginator.paths),
        stopping=Never(),
        keys=JobKeys(interval=0.0, state="state", done=frozenset({"done"})),
        steps=JobSteps(
            create=create,
            status=step("status", case.status),
            result=None if case.result is None else step("result", case.result),
            pages=pages,
            ask=api,
            look=api,
            decode=compile_decoder(wanted=("state",), empty_body=True),
            follow=follow,
        ),
        note=lambda name: None,
    )


@pytest.mark.parametrize("name", CASES)
def test_a_job_without_what_a_request_names(name: str) -> None:
    case = CASES[name]
    api = Api(case.created, case.state, case.location)
    if case.says is None:
        list(poll_of(case, api).pages(None))
    else:
        with pytest.raises(BadPage) as raised:
            list(poll_of(case, api).pages(None))
        said = str(raised.value)
        assert all(words in said for words in case.says), said
        assert SECRET not in said
    assert case.asked == len(api.asked), api.asked
    assert "None" not in "".join(api.asked)


REGIONLESS = {"parent": Raw(b'{"id": 1}'), "parent_value": 1}

#: A request, and what is said of it below a parent without a region.
OTHERS: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "a parent's field in a path": (
        lambda: shape("/of/${parent.region}/x").begin(0, REGIONLESS)(0),
        ("http.source.url", "${parent.region}", "needs a value", "coalesce"),
    ),
    "a field of a parent's answer in a path": (
        lambda: shape("/of/${parent_response.pit}").begin(0, REGIONLESS)(0),
        ("http.source.url", "${parent_response.pit}"),
    ),
    "the second of two": (
        lambda: shape("/of/${parent_value}/${parent.region}").begin(0, REGIONLESS)(0),
        ("${parent.region}",),
    ),
    "a path that changes with the page": (
        lambda: shape("/of/${page}/${parent.region}").begin(0, REGIONLESS)(0),
        ("http.source.url", "${parent.region}"),
    ),
    "a path of a job's step": (
        lambda: step("create", "/of/${parent.region}").begin(0, REGIONLESS)(0),
        ("http.job.create.url", "${parent.region}"),
    ),
    "a line break in a header": (
        lambda: shape("/x", headers=(("X-Of", "${parent.id}${parent.text}"),)).begin(
            0, {"parent": Raw(b'{"id": 1, "text": "a\\nb"}')}
        )(0),
        ("http.source.header.X-Of", "${parent.text}", "line break"),
    ),
    "what cannot be computed in a query": (
        lambda: shape("/x", params="at=${parent.id + parent.text}").begin(
            0, {"parent": Raw(b'{"id": 1, "text": []}')}
        )(0),
        ("http.source.query.params", "${parent.id + parent.text}"),
    ),
    "what cannot be computed in a body": (
        lambda: Shape(
            method="POST",
            url=f"{URL}/x",
            paging=Paging(type="none"),
            body='{"at": ${floor(parent.text)}}',
        ).begin(0, {"parent": Raw(b'{"text": "a"}')})(0),
        ("http.source.body", "${floor(parent.text)}"),
    ),
    "the first value of an offset": (
        lambda: shape("/x", initial="${floor(parent.text)}").begin(
            0, {"parent": Raw(b'{"text": "a"}')}
        ),
        ("http.initial.offset", "${floor(parent.text)}"),
    ),
    "where the windows of a child begin": (
        lambda: Paginator(
            Paging(type="none"),
            shape=shape("/x"),
            follow=lambda base, to: to,
            around=Windowed(WindowKeys(size=60, start=lambda now, scope: None)),
        ).start(None, 0, REGIONLESS),
        ("http.source.window.start", "no value"),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_request_without_a_value_is_named_by_its_key(name: str) -> None:
    make, words = OTHERS[name]
    with pytest.raises(SourceError) as raised:
        make()
    said = str(raised.value)
    assert all(each in said for each in words), said
