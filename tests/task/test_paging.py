"""The keys of paging made into what the source walks by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.config import Api, load
from engine.records import Request, Response
from engine.task.build.paging import initial_of, paging_of, stop_of

URL = "http://api.test/items"


def api_of(folder: Path, text: str, url: str = URL) -> Api:
    file = folder / "c.properties"
    file.write_text(
        f"http.source.url={url}\nkafka.topic=t\nbootstrap.servers=localhost:1\n{text}\n"
    )
    return load([file]).connectors[0].apis[0]


@pytest.mark.parametrize("most", [1, 2, 3, 10, 1000])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_pages_of_a_poll_are_shared_out_exactly(
    tmp_path: Path, most: int, count: int
) -> None:
    api = api_of(tmp_path, f"pagination.type=page\npagination.max.pages={most}")

    shares = [
        paging_of(api, URL, index=index, count=count).max_pages
        for index in range(count)
    ]

    # Fewer pages than shards are never dealt: see `supervisor.assign`.
    assert max(most, count) == sum(shares)


@pytest.mark.parametrize(
    ("text", "url", "limit", "start", "initial"),
    [
        ("pagination.type=page", URL, 100, 1, "1"),
        ("pagination.type=page", f"{URL}?page=0&limit=5", 5, 0, "0"),
        ("pagination.type=page\npagination.page.start=2", f"{URL}?page=0", 100, 2, "2"),
        ("pagination.type=offset", f"{URL}?offset=1", 100, 1, "1"),
        ("pagination.type=offset\nhttp.initial.offset=7", f"{URL}?offset=1", 100, 1, "7"),
        ("pagination.type=offset\npagination.limit.value=9", f"{URL}?limit=5", 9, 1, "0"),
        ("pagination.type=page\npagination.page.param=page[n]", f"{URL}?page%5Bn%5D=4", 100, 4, "4"),
    ],
)  # fmt: skip
def test_what_stands_in_the_url_counts_where_no_key_says_more(
    tmp_path: Path, text: str, url: str, limit: int, start: int, initial: str
) -> None:
    api = api_of(tmp_path, text, url)
    paging = paging_of(api, url)

    assert (limit, start) == (paging.limit, paging.page_start)
    assert initial == initial_of(api.values, paging, url)


@pytest.mark.parametrize(
    ("rule", "found", "headers", "count", "stops"),
    [
        ({"field": "${count}", "operator": "LESS_THAN", "value": 2}, {}, [], 1, True),
        ({"field": "count", "operator": "LESS_THAN", "value": 2}, {}, [], 2, False),
        (
            {"field": "${response.a.b}", "operator": "EQUALS", "value": 0},
            {"a.b": 0},
            [],
            1,
            True,
        ),
        ({"field": "response.a", "operator": "IS_NULL"}, {"a": None}, [], 1, True),
        ({"field": "response.a", "operator": "NOT_EXISTS"}, {}, [], 1, True),
        (
            {
                "all": [
                    {"field": "${header.X-End}", "operator": "EQUALS", "value": "1"},
                    {"not": {"field": "header:X-Go", "operator": "EXISTS"}},
                ]
            },
            {},
            [("x-end", "1")],
            1,
            True,
        ),
    ],
)
def test_a_condition_over_the_response_ends_a_poll(
    tmp_path: Path,
    rule: dict[str, object],
    found: dict[str, object],
    headers: list[tuple[str, str]],
    count: int,
    stops: bool,
) -> None:
    api = api_of(tmp_path, f"pagination.stop.condition={json.dumps(rule)}")

    stop, _ = stop_of(api.values)

    assert stop is not None
    response = Response(
        request=Request("GET", URL),
        url=URL,
        status=200,
        headers=headers,
        body=b"",
        sent_at=0.0,
        received_ms=0,
    )
    assert stops == stop(found, response, count)


def test_a_condition_over_anything_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="record.x"):
        api_of(
            tmp_path,
            'pagination.stop.condition={"field":"record.x","operator":"EXISTS"}',
        )
