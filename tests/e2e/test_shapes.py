"""Answers of other shapes in a real run: each api as its own documentation answers."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.e2e.rig import Setup
from tests.fakes.misbehaving import Misbehaving, Peer, Say, perform

pytestmark = pytest.mark.slow

Make = Callable[..., Setup]

JSON = [("Content-Type", "application/json")]

#: Name -> what the API answers, keys, the records.
APIS: dict[str, tuple[Say, dict[str, object], list[object]]] = {
    "asteroids": (
        Say(body=b'{"near":{"d1":[{"id":1}],"d2":[{"id":2},{"id":3}]}}'),
        {
            "http.response.data.json.pointer": "near.*",
            "http.response.member.name.field": "date",
        },
        [{"date": "d1", "id": 1}, {"date": "d2", "id": 2}, {"date": "d2", "id": 3}],
    ),
    "sheet": (
        Say(body=b'{"values":[["a","b"],["1","2"],["3"]]}'),
        {
            "http.response.data.json.pointer": "values",
            "http.response.rows": "HEADER",
        },
        [{"a": "1", "b": "2"}, {"a": "3"}],
    ),
    "candles": (
        Say(body=b"[[1,2.50],[2,3.00]]"),
        {
            "http.response.rows": "NAMED",
            "http.response.rows.names": "time,price",
        },
        [{"time": 1, "price": 2.5}, {"time": 2, "price": 3.0}],
    ),
    "open-data": (
        Say(body=b'{"meta":{"columns":[{"name":"x"}]},"data":[[5]]}'),
        {
            "http.response.data.json.pointer": "data",
            "http.response.rows": "NAMED",
            "http.response.rows.names.pointer": "meta.columns",
        },
        [{"x": 5}],
    ),
    "weather": (
        Say(body=b'{"hourly":{"time":["00","01"],"t":[1.5,2.5]}}'),
        {
            "http.response.data.json.pointer": "hourly",
            "http.response.rows": "COLUMNS",
        },
        [{"time": "00", "t": 1.5}, {"time": "01", "t": 2.5}],
    ),
    "orders": (
        Say(body=b'[{"id":1,"lines":[{"n":1},{"n":2}]},{"id":2,"lines":[]}]'),
        {
            "http.response.explode": "lines",
            "http.response.explode.empty": "DROP",
        },
        [{"id": 1, "lines": {"n": 1}}, {"id": 1, "lines": {"n": 2}}],
    ),
    "atom": (
        Say(
            body=b"<feed><entry><id>1</id></entry></feed>",
            headers=[("Content-Type", "application/atom+xml; charset=utf-8")],
        ),
        {
            "http.response.format": "xml",
            "http.response.data.json.pointer": "feed.entry",
            "http.response.xml.lists": "id",
        },
        [{"id": ["1"]}],
    ),
    "soap": (
        Say(
            body=b'<s:a xmlns:s="u"><s:i>1</s:i><s:i>2</s:i></s:a>',
            headers=[("Content-Type", "text/xml")],
        ),
        {
            "http.response.format": "xml",
            "http.response.data.json.pointer": "a.i",
            "http.response.xml.namespaces": "STRIP",
        },
        ["1", "2"],
    ),
    "prefixed": (
        Say(
            body=b'<s:a xmlns:s="u"><s:i><s:n>1</s:n></s:i></s:a>',
            headers=[("Content-Type", "application/xml")],
        ),
        {
            "http.response.format": "xml",
            "http.response.data.json.pointer": "'s:a'.'s:i'",
        },
        [{"s:n": "1"}],
    ),
    "raw-export": (
        Say(
            body=b'id\tsays\r\n1\tan "inch"\r\n2\t\'\r\n',
            headers=[("Content-Type", "text/tab-separated-values")],
        ),
        {
            "http.response.format": "csv",
            "http.response.csv.delimiter": "TAB",
            "http.response.csv.quote": "NONE",
        },
        [{"id": "1", "says": 'an "inch"'}, {"id": "2", "says": "'"}],
    ),
    "export": (
        Say(
            body=b"1;'x;y'\n2;z\n",
            headers=[("Content-Type", "text/csv")],
        ),
        {
            "http.response.format": "csv",
            "http.response.csv.delimiter": ";",
            "http.response.csv.quote": "'",
            "http.response.csv.header": "NONE",
            "http.response.csv.names": "id,name",
        },
        [{"id": "1", "name": "x;y"}, {"id": "2", "name": "z"}],
    ),
    "stream": (
        Say(
            body=b'\x1e{"a":1}\n\x1e{"a":2}\n',
            headers=[("Content-Type", "application/json-seq")],
        ),
        {"http.response.format": "json-seq"},
        [{"a": 1}, {"a": 2}],
    ),
    "guarded": (Say(body=b')]}\'\n[{"a":1}]'), {}, [{"a": 1}]),
}


def test_each_shape_arrives_as_records(make: Make) -> None:
    def act(peer: Peer) -> None:
        perform(APIS[peer.asked.target.split("?")[0].strip("/")][0], peer)

    with Misbehaving(act) as server:
        keys: dict[str, object] = {
            "apis.num": len(APIS),
            "http.response.data.json.pointer": "",
        }
        for number, (name, (_, own, _)) in enumerate(APIS.items(), 1):
            keys[f"api{number}.api.name"] = name
            keys[f"api{number}.http.source.url"] = f"{server.url}/{name}"
            keys[f"api{number}.kafka.headers"] = f"api:{name}"
            keys.update({f"api{number}.{key}": value for key, value in own.items()})
        setup = make(server.url, keys)
        done = setup.once()

    assert 0 == done.code, done.err
    arrived: dict[str, list[object]] = {name: [] for name in APIS}
    for one in setup.seen():
        headers = dict(one.headers)
        arrived[headers["api"].decode()].append(json.loads(one.value))
    for name, (_, _, wanted) in APIS.items():
        assert wanted == arrived[name], name


def test_paging_counts_what_the_api_counts(make: Make) -> None:
    """Two orders a page with three lines each: a page is short by its orders."""
    pages = [
        [{"id": 2 * page + at, "lines": [1, 2, 3]} for at in range(2)]
        for page in range(3)
    ]
    pages[-1].pop()

    def act(peer: Peer) -> None:
        query = dict(
            pair.split("=") for pair in peer.asked.target.split("?")[1].split("&")
        )
        offset = int(query["offset"])
        page = pages[offset // 2] if offset % 2 == 0 and offset < 6 else []
        perform(Say(body=json.dumps(page).encode()), peer)

    with Misbehaving(act) as server:
        setup = make(
            f"{server.url}/orders",
            {
                "pagination.type": "OFFSET",
                "pagination.limit.value": 2,
                "pagination.end": "SHORT_PAGE",
                "http.response.explode": "lines",
                "http.response.data.json.pointer": "",
            },
        )
        done = setup.once()
        asked = [each.target for each in server.asked]

    assert 0 == done.code, done.err
    assert 15 == len(setup.values())
    assert 3 == len(asked), asked
