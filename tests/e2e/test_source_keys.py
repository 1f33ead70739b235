"""
Keys of the source that no other test names: from a file to what the API sees.

`preview` asks as `run` does and needs no broker.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from msgspec import Struct, field

from tests.e2e.rig import Done, Setup
from tests.fakes.api import Answer, Api, Asked

pytestmark = pytest.mark.slow

#: Nothing listens there: `preview` does not ask.
NO_BROKER = "127.0.0.1:1"


def said(content: object, *headers: tuple[str, str], status: int = 200) -> Answer:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return status, [("Content-Type", "application/json"), *headers], body


def items(*ids: int, **more: object) -> dict[str, object]:
    return {"items": [{"id": each} for each in ids], **more}


class Case(Struct):
    """
    One key and what it is seen by.

    Attributes:
        keys: What stands in the file.
        answer: What the API says.
        targets: What it is asked, in order.
        ids: Of the records that are shown.
        code, says: How the command ends, and what it says then.
    """

    keys: Mapping[str, object]
    answer: Callable[[Asked], Answer]
    targets: list[str]
    ids: list[int] = field(default_factory=list)
    code: int = 0
    says: str = ""


def by_target(**answers: Answer) -> Callable[[Asked], Answer]:
    """`a=1` is the answer where the query holds `a=1`; `first` else."""

    def answer(asked: Asked) -> Answer:
        for name, value in answers.items():
            wanted, _, number = name.partition("_")
            if asked.query.get(wanted) == number:
                return value
        return answers["first"]

    return answer


def odata(asked: Asked) -> Answer:
    if "skip" in asked.query:
        return said({"value": [{"id": 2}], "delta": "/x?later=1"})
    return said({"value": [{"id": 1}], "onward": "/x?skip=1"})


def linked(asked: Asked) -> Answer:
    if "at" in asked.query:
        return said(items(2), ("Link", '</x?at=9>; rel="next"'))
    return said(
        items(1), ("X-Pages", '</x?at=1>; rel="later"'), ("Link", "</y>; rel=next")
    )


CASES: dict[str, Case] = {
    "pagination.limit.param": Case(
        {
            "pagination.type": "page",
            "pagination.limit.param": "size",
            "pagination.limit.value": 2,
        },
        by_target(page_2=said(items()), first=said(items(1))),
        ["/x?page=1&size=2", "/x?page=2&size=2"],
        [1],
    ),
    "pagination.offset.param": Case(
        {
            "pagination.type": "offset",
            "pagination.offset.param": "start",
            "pagination.limit.value": 1,
        },
        by_target(start_1=said(items()), first=said(items(1))),
        ["/x?start=0&limit=1", "/x?start=1&limit=1"],
        [1],
    ),
    "pagination.page.param": Case(
        {
            "pagination.type": "page",
            "pagination.page.param": "p",
            "pagination.page.start": 0,
            "pagination.limit.value": 1,
        },
        by_target(p_1=said(items()), first=said(items(1))),
        ["/x?p=0&limit=1", "/x?p=1&limit=1"],
        [1],
    ),
    "pagination.cursor.param": Case(
        {
            "pagination.type": "cursor",
            "pagination.cursor.param": "after",
            "pagination.cursor.field": "next",
        },
        by_target(after_c=said(items(2)), first=said(items(1, next="c"))),
        ["/x", "/x?after=c"],
        [1, 2],
    ),
    "pagination.total.pages.field": Case(
        {
            "pagination.type": "page",
            "pagination.limit.value": 1,
            "pagination.total.pages.field": "meta.pages",
        },
        by_target(
            page_2=said(items(2, meta={"pages": 2})),
            first=said(items(1, meta={"pages": 2})),
        ),
        # It is a hint: the page is full, and what comes behind it is asked for.
        ["/x?page=1&limit=1", "/x?page=2&limit=1", "/x?page=3&limit=1"],
        [1, 2],
    ),
    "pagination.link.header and .rel": Case(
        {
            "pagination.type": "link_header",
            "pagination.link.header": "X-Pages",
            "pagination.link.rel": "later",
        },
        linked,
        ["/x", "/x?at=1"],
        [1, 2],
    ),
    "odata.nextlink.field and .deltalink.field": Case(
        {
            "pagination.type": "odata",
            "http.response.data.json.pointer": "value",
            "odata.nextlink.field": "onward",
            "odata.deltalink.field": "delta",
        },
        odata,
        ["/x", "/x?skip=1"],
        [1, 2],
    ),
    "http.source.header.<Name>": Case(
        {"http.source.header.X-Tenant": "blue"},
        lambda asked: said(items(1 if asked.headers.get("x-tenant") == "blue" else 2)),
        ["/x"],
        [1],
    ),
    "http.response.format=ndjson": Case(
        {"http.response.format": "ndjson", "http.response.data.json.pointer": None},
        by_target(first=said(b'{"id":1}\n\n{"id":2}\r\n')),
        ["/x"],
        [1, 2],
    ),
    "http.response.format=csv": Case(
        {"http.response.format": "csv", "http.response.data.json.pointer": None},
        by_target(first=said(b'id,b\n1,"x, y"\n2,z\n')),
        ["/x"],
        [1, 2],
    ),
    "http.response.data.optional": Case(
        {"http.response.data.optional": "true"},
        by_target(first=said({"other": 1})),
        ["/x"],
    ),
    "http.response.status.process": Case(
        {"http.response.status.process": "200-299,404"},
        by_target(first=said(items(1), status=404)),
        ["/x"],
        [1],
    ),
    "http.response.status.empty": Case(
        {"http.response.status.empty": "204,410"},
        by_target(first=said(b"gone", status=410)),
        ["/x"],
    ),
    "connection.disallow.local.ips": Case(
        {"connection.disallow.local.ips": "true"},
        by_target(first=said(items(1))),
        [],
        code=65,
        says="connection.disallow.local.ips",
    ),
    "connection.disallow.cidr.ranges": Case(
        {"connection.disallow.cidr.ranges": "127.0.0.0/8"},
        by_target(first=said(items(1))),
        [],
        code=65,
        says="connection.disallow.cidr.ranges",
    ),
    "connection.allow.cidr.ranges": Case(
        {
            "connection.disallow.local.ips": "true",
            "connection.allow.cidr.ranges": "127.0.0.1/32",
        },
        by_target(first=said(items(1))),
        ["/x"],
        [1],
    ),
}


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as found:
        yield found


def previewed(folder: Path, api: Api, keys: Mapping[str, object]) -> Done:
    setup = Setup(folder, f"{api.url}/x", NO_BROKER)
    setup.write(**keys)
    return setup.call("preview", "-n", "50")


def ids_of(done: Done) -> list[int]:
    return [int(json.loads(line)["value"]["id"]) for line in done.out.splitlines()]


@pytest.mark.parametrize("key", CASES)
def test_a_key_does_what_it_says(tmp_path: Path, api: Api, key: str) -> None:
    case = CASES[key]
    api.route("/x", case.answer)

    done = previewed(tmp_path, api, case.keys)

    assert case.code == done.code, done.err
    assert case.targets == api.targets()
    assert case.ids == (ids_of(done) if not case.code else [])
    assert case.says in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("keys", "connections"),
    [
        ({}, [1, 1, 1, 1]),
        ({"http.client.connection.keep.alive.enabled": "false"}, [1, 2, 3, 4]),
        ({"http.client.connection.keep.alive.max.requests": 2}, [1, 1, 2, 2]),
        ({"http.client.connection.pool.enabled": "false"}, [1, 2, 3, 4]),
    ],
)
def test_how_long_a_connection_is_used(
    tmp_path: Path, api: Api, keys: Mapping[str, object], connections: list[int]
) -> None:
    def answer(asked: Asked) -> Answer:
        at = int(asked.query["offset"])
        return said(items(at) if at < 3 else items())

    api.route("/x", answer)
    paging = {"pagination.type": "offset", "pagination.limit.value": 1}

    done = previewed(tmp_path, api, {**paging, **keys})

    assert 0 == done.code, done.err
    assert connections == [asked.connection for asked in api.log]


def test_a_token_is_asked_for_with_more_headers_and_found_where_it_stands(
    tmp_path: Path, api: Api
) -> None:
    api.route("/token", lambda _: said({"data": {"key": "t-1", "expires_in": 60}}))
    api.route("/x", lambda _: said(items(1)))

    done = previewed(
        tmp_path,
        api,
        {
            "http.auth.type": "OAUTH2",
            "oauth2.token.url": f"{api.url}/token",
            "oauth2.client.id": "me",
            "oauth2.client.secret": "canary-secret",
            "oauth2.client.auth.mode": "URL",
            "oauth2.client.headers": "X-Tenant:blue; X-Shade:dark",
            "oauth2.token.property": "data.key",
        },
    )

    assert 0 == done.code, done.err
    token, asked = api.log
    assert ("blue", "dark") == (token.headers["x-tenant"], token.headers["x-shade"])
    assert "authorization" not in token.headers
    assert b"client_secret=canary-secret" in token.body
    assert "Bearer t-1" == asked.headers["authorization"]
    assert "canary-secret" not in done.out + done.err


def test_dates_in_templates_are_those_of_the_zone(tmp_path: Path, api: Api) -> None:
    api.route("/x", lambda _: said(items(1)))
    keys = {"http.source.query.params": "hour=${date:HH}"}

    for zone in ("UTC", "Asia/Kolkata"):
        done = previewed(tmp_path, api, {**keys, "schedule.timezone": zone})
        assert 0 == done.code, done.err

    utc, india = (asked.query["hour"] for asked in api.log)
    # Five and a half hours, or a minute over the hour in between.
    assert (int(india) - int(utc)) % 24 in (5, 6)
    assert time.gmtime().tm_hour - int(utc) in (0, 1, -23)
