"""Visitors: whatever they send, the answer is theirs and the process goes on."""

from __future__ import annotations

import gc
import http.client
import json
import logging
import random
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from engine.admin.answers import Malformed, RequestLimits, read_json
from engine.admin.guard import ConnectionEnds
from engine.clock import SYSTEM
from engine.language.globs import compile_wildcards
from tests.admin.conftest import Stage
from tests.fakes.view import FakeView, card, serving

LOCAL = ConnectionEnds("127.0.0.1", "127.0.0.1")
OUTSIDE = ConnectionEnds("192.0.2.1", "192.0.2.9")
TOKEN = "sixteen-letters-and-more"


@pytest.fixture
def stage(staged: Callable[..., Stage]) -> Stage:
    return staged(card(jmx=True))


# -- hosts


@pytest.mark.parametrize(
    "path", ["/", "/health", "/metrics", "/connectors", "/jolokia/"]
)
@pytest.mark.parametrize(
    ("listener", "host", "served"),
    [
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "LOCALHOST:8080", True),
        ("127.0.0.1", "localhost.:8080", True),
        ("127.0.0.1", "a.localhost", True),
        ("127.0.0.1", "127.0.0.1:8080", True),
        ("127.0.0.1", "[::1]:8080", True),
        ("127.0.0.1", "[::ffff:127.0.0.1]", True),
        ("127.0.0.1", "connect.example:8080", True),
        ("127.0.0.1", "192.0.2.1", False),
        ("127.0.0.1", "evil.example", False),
        ("192.0.2.1", "192.0.2.1:8080", True),
        ("192.0.2.1", "198.51.100.7", True),
        ("192.0.2.1", "[2001:db8::1]:8080", True),
        ("192.0.2.1", "localhost", True),
        ("192.0.2.1", "connect.example", True),
        ("192.0.2.1", "Connect.Example.:443", True),
        ("192.0.2.1", "pod.svc.example", True),
        ("192.0.2.1", socket.gethostname(), True),
        ("192.0.2.1", "svc.example", False),
        ("192.0.2.1", "evil.example", False),
        ("192.0.2.1", "connect.example.evil.example", False),
        ("192.0.2.1", "evilconnect.example", False),
        ("192.0.2.1", "localhost.evil.example", False),
        ("192.0.2.1", "192.0.2.1.nip.example", False),
        ("192.0.2.1", "0x7f000001", False),
        ("192.0.2.1", "connect.example@evil.example", False),
        ("192.0.2.1", "connect.example/evil.example", False),
        ("192.0.2.1", "connect.example?x", False),
        ("192.0.2.1", "connect.example:0", False),
        ("192.0.2.1", "connect.example:x", False),
        ("192.0.2.1", "[::1", False),
        ("192.0.2.1", "", False),
    ],
)
def test_a_host_is_known_or_refused_on_every_listener(
    stage: Stage, path: str, listener: str, host: str, served: bool
) -> None:
    stage.hosts = ["connect.example", "*.svc.example"]

    answer = stage.ask(path, caller=ConnectionEnds(listener, "192.0.2.9"), host=host)

    assert served == (answer.status != 403)
    if not served:
        assert b"admin.allowed.hosts" in answer.body


def test_any_host_is_served_where_that_is_said(stage: Stage) -> None:
    stage.hosts = ["*"]

    assert 200 == stage.ask("/metrics", caller=OUTSIDE, host="evil.example").status


def test_a_listener_s_own_name_is_known(tmp_path: Path) -> None:
    view = FakeView(str(tmp_path / "m"), started_ms=SYSTEM.wall_ms(), cards=[card()])
    with serving(
        view,
        str(tmp_path / "ports"),
        listeners=("http://0.0.0.0:0",),
        hosts=["named.example"],
    ) as urls:
        port = urlsplit(urls[0]).port
        for host, status in (
            ("named.example", 200),
            ("127.0.0.1", 200),
            ("evil.example", 403),
        ):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/health/live", headers={"Host": host})
            assert status == connection.getresponse().status
            connection.close()


# -- who reads a configuration


CONFIGURATION = [
    ("/connectors/orders", {}),
    ("/connectors/orders/", {}),
    ("//connectors//orders", {}),
    ("/connectors/orders/config", {}),
    ("/connectors/orders/tasks", {}),
    ("/connectors", {"expand": ["info"]}),
    ("/connectors", {"expand": ["status", "info"]}),
]


@pytest.mark.parametrize(("path", "query"), CONFIGURATION)
def test_a_configuration_is_read_off_loopback_with_the_token_only(
    stage: Stage, path: str, query: dict[str, list[str]]
) -> None:
    host = "connect.example"

    def ask(caller: ConnectionEnds, **headers: str) -> int:
        return stage.ask(path, caller=caller, query=query, host=host, **headers).status

    assert 403 == ask(OUTSIDE)
    assert 403 != ask(LOCAL)
    assert 403 == ask(ConnectionEnds("127.0.0.1", "192.0.2.9"))
    stage.token = TOKEN
    assert 401 == ask(OUTSIDE)
    assert 401 == ask(OUTSIDE, authorization="Bearer wrong")
    assert 401 == ask(OUTSIDE, authorization="Bearer \xe9")
    assert ask(OUTSIDE, authorization=f"Bearer {TOKEN}") in (200, 404)
    assert ask(LOCAL) in (200, 404)


@pytest.mark.parametrize(
    "path",
    ["/", "/connectors", "/connectors/orders/status", "/connectors/orders/topics"],
)
def test_what_shows_no_configuration_needs_no_token(stage: Stage, path: str) -> None:
    for token in ("", TOKEN):
        stage.token = token
        assert 200 == stage.ask(path, caller=OUTSIDE, host="connect.example").status


# -- bounds


def test_too_many_parameters_are_a_bad_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    view = FakeView(str(tmp_path / "m"), started_ms=SYSTEM.wall_ms(), cards=[card()])
    with serving(view, str(tmp_path / "ports")) as urls:
        for path in ("/health", "/metrics", "/connectors", "/jolokia/", "/x"):
            for count, wanted in (
                (50, (200, 404, 503)),
                (51, (400,)),
                (2000, (400,)),
                (3500, (431,)),
            ):
                parts = urlsplit(urls[0])
                connection = http.client.HTTPConnection(
                    str(parts.hostname), parts.port, timeout=10
                )
                query = "&".join(f"a{n}" for n in range(count))
                connection.request("GET", f"{path}?{query}")
                answer = connection.getresponse()
                assert answer.status in wanted
                assert b"Traceback" not in answer.read()
                connection.close()

    assert [] == [r for r in caplog.records if r.levelno >= logging.ERROR]


BODIES = [
    b"[" * 60_000,
    b"[" * 400 + b"]" * 400,
    b"[" * 40 + b"]" * 40,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b"9" * 60_000,
    b"-" + b"9" * 6_000,
    b'{"type":"read","mbean":' + b"9" * 5_000 + b"}",
    b"1e999999",
    b"\xff\xfe\x00",
    b'"\xc3\x28"',
    b'"\\ud800"',
    b"\x00",
    b"",
    b"null",
    b"true",
    b'"text"',
    b"1.5",
    b"NaN",
    b"[[]]",
    b'[null,1,"a",[],{}]',
    b'{"type":["read"],"mbean":{}}',
    b'{"type":{"a":1}}',
    b'{"type":"read","mbean":["a"],"attribute":{"b":[1]},"path":7}',
    b'{"type":"read","mbean":"*:*","attribute":[[[1]],{"a":2}]}',
    b'{"type":"list","config":{"maxDepth":1e300},"path":{"a":1}}',
    b'{"type":"list","config":{"maxDepth":' + b"9" * 300 + b"}}",
    b'{"type":"list","config":[1,2],"path":"!"}',
    b'{"type":"search","mbean":"' + b"*?" * 20_000 + b':type=x"}',
    b'{"level":' + b"[" * 500 + b"]" * 500 + b"}",
    b'{"level":["ERROR"]}',
    b'{"level":"' + b"E" * 50_000 + b'"}',
    b'{"level":null}',
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:24]))
def test_a_body_that_is_none_is_told_so(stage: Stage, body: bytes) -> None:
    for method, path in (("POST", "/jolokia/"), ("PUT", "/admin/loggers/engine")):
        answer = stage.ask(path, method=method, body=body)
        assert answer.status in (200, 400, 403, 404, 413)
        assert b"Traceback" not in answer.body
        assert len(answer.body) < 400_000
        if path == "/jolokia/":
            told = json.loads(answer.body)
            for one in told if isinstance(told, list) else [told]:
                assert one["status"] in (200, 400, 403, 404, 413)


def test_json_is_nested_so_far_and_no_further() -> None:
    assert read_json(b"[" * 32 + b"]" * 32)

    for depth in (33, 900, 20_000):
        with pytest.raises(Malformed, match="nested|recursion|Invalid JSON"):
            read_json(b"[" * depth + b"]" * depth)


READ = {"type": "read", "mbean": "*:*"}


def test_a_bulk_request_is_bounded_in_number(stage: Stage) -> None:
    stage.bounds = RequestLimits(requests=3)

    for count, status in ((0, 200), (3, 200), (4, 400), (1500, 400)):
        answer = stage.ask(
            "/jolokia",
            method="POST",
            body=json.dumps([{"type": "version"}] * count).encode(),
        )
        assert status == answer.status
    assert b"admin.jolokia.max.requests" in answer.body


def test_an_answer_is_bounded_in_bytes(stage: Stage) -> None:
    whole = len(
        stage.ask("/jolokia", method="POST", body=json.dumps(READ).encode()).body
    )
    stage.bounds = RequestLimits(answer=whole * 2 + 100)

    answer = stage.ask(
        "/jolokia", method="POST", body=json.dumps([READ] * 100).encode()
    )

    told = json.loads(answer.body)
    assert [200, 200, *[413] * 98] == [one["status"] for one in told]
    assert "admin.jolokia.max.answer.bytes" in told[-1]["error"]
    assert len(answer.body) < whole * 2 + 100 * 300
    stage.bounds = RequestLimits(answer=1024)
    assert 413 == json.loads(stage.ask("/jolokia/list").body)["status"]


def test_no_pattern_of_object_names_backtracks() -> None:
    text = "a" * 3_000
    began = time.thread_time()

    assert not compile_wildcards("*a" * 2_000 + "b")(text)
    assert compile_wildcards("*a" * 2_000 + "*")(text)
    assert not compile_wildcards("*?" * 4_000)(text)
    assert time.thread_time() - began < 3


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("", [""], ["a"]),
        ("a", ["a"], ["", "aa", "A", "b"]),
        ("*", ["", "abc", "a\nb"], []),
        ("?", ["a", "*"], ["", "ab"]),
        ("a*", ["a", "ab"], ["ba", ""]),
        ("*a", ["a", "ba"], ["ab"]),
        ("a*a", ["aa", "aba"], ["a"]),
        ("a?c*", ["abc", "axcd"], ["ac"]),
        ("*b?d*", ["abcd", "bbcde", "bbbdbcd"], ["bd"]),
        ("a.b", ["a.b"], ["axb"]),
        ("**a**", ["a", "bab"], ["b"]),
        ("*ab*ba*", ["abba", "xabybaz"], ["aba"]),
    ],
)
def test_wildcards_of_object_names(pattern: str, yes: list[str], no: list[str]) -> None:
    matches = compile_wildcards(pattern)

    assert yes == [text for text in yes + no if matches(text)]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("engine", 200),
        ("engine.source.wire.http1", 200),
        ("org.apache.kafka.connect.runtime.WorkerSourceTask", 200),
        ("kafka-http_source$1", 200),
        ("a" * 65, 400),
        (".".join("abcdefghijklmnopq"), 400),
        ("a..b", 400),
        (".a", 400),
        ("a b", 400),
        ("a\nb", 400),
        ("\x1b[31mred", 400),
        ("\u202eevil", 400),
        ("%00", 400),
    ],
)
def test_a_logger_has_a_name(stage: Stage, name: str, status: int) -> None:
    answer = stage.ask(
        f"/admin/loggers/{name}", method="PUT", body=b'{"level":"DEBUG"}'
    )

    assert status == answer.status


def test_loggers_are_bounded_in_number(stage: Stage) -> None:
    stage.bounds = RequestLimits(loggers=5)
    statuses = [
        stage.ask(
            f"/admin/loggers/l{n}", method="PUT", body=b'{"level":"DEBUG"}'
        ).status
        for n in range(20)
    ]

    allowed = statuses.count(200)
    assert 0 < allowed <= 5
    assert [200] * allowed + [400] * (20 - allowed) == statuses
    # What has a level of its own is still changed.
    again = stage.ask("/admin/loggers/l0", method="PUT", body=b'{"level":"INFO"}')
    assert 200 == again.status


@pytest.mark.parametrize("number", ["9" * 5_000, "9" * 10, "\u0661", "-1", "1e3", " 1"])
def test_a_task_s_number_is_one(stage: Stage, number: str) -> None:
    assert 404 == stage.ask(f"/connectors/orders/tasks/{number}/status").status


# -- fuzz

SEEDS: list[tuple[str, str, bytes]] = [
    ("GET", "/", b""),
    ("GET", "/health", b""),
    ("GET", "/health/ready", b""),
    ("GET", "/health/metrics", b""),
    ("GET", "/metrics", b""),
    ("GET", "/connectors?expand=status&expand=info", b""),
    ("GET", "/connectors/orders/status", b""),
    ("GET", "/connectors/orders/tasks/0/status", b""),
    ("GET", "/connector-plugins", b""),
    ("GET", "/admin/loggers", b""),
    ("PUT", "/admin/loggers/engine?scope=cluster", b'{"level":"DEBUG"}'),
    ("GET", "/jolokia/list?maxDepth=2&canonicalNaming=false", b""),
    ("GET", "/jolokia/read/kafka.connect:type=*,*/a,b/c?ignoreErrors=true", b""),
    ("GET", "/jolokia/search/*:type=app-info,*", b""),
    ("POST", "/jolokia/", json.dumps([READ, {"type": "list", "path": "a/b"}]).encode()),
    (
        "POST",
        "/jolokia/?mimeType=text/plain",
        json.dumps(
            {
                "type": "read",
                "mbean": 'kafka.*:type=?*,client-id="a",*',
                "attribute": ["x"],
                "path": "*/y",
                "config": {"maxDepth": 3, "ignoreErrors": True},
            }
        ).encode(),
    ),
]
PIECES = [
    *(
        b"\x00",
        b"\xff",
        b"\r",
        b"\n",
        b"\r\n",
        b"\x1b[2J",
        b"\xe2\x80\xae",
        b"%",
        b"%zz",
    ),
    *(
        b"%00",
        b"%2e%2e/",
        b"../",
        b"//",
        b"!",
        b"!/",
        b"*",
        b"**",
        b"?",
        b"&",
        b"=",
        b"&a" * 60,
    ),
    *(b'"', b"\\", b"\\ud800", b"[" * 200, b"{" * 200, b'{"a":' * 100, b"9" * 5_000),
    *(b"1e999", b"NaN", b"null", b"true", b"[]", b"{}", b"," * 50, b":", b"a" * 3_000),
    *(b" ", b"\t", b"HTTP/9.9", b"Host: evil\r\n", b"Content-Length: -1\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Accept: a;q=x,b;q=1e999;;=\r\n"),
]


def mutated(dice: random.Random, raw: bytes, times: int) -> bytes:
    for _ in range(times):
        at = dice.randrange(len(raw) + 1)
        match dice.randrange(5):
            case 0:
                raw = raw[:at] + dice.choice(PIECES) + raw[at:]
            case 1:
                raw = raw[:at] + raw[at + dice.randrange(1, 12) :]
            case 2:
                raw = raw[:at] + bytes([dice.randrange(256)]) + raw[at + 1 :]
            case 3:
                raw = raw[:at] + raw[at : at + 30] * dice.randrange(1, 6) + raw[at:]
            case 4:
                raw = raw[:at] + dice.choice(PIECES)
    return raw[:80_000]


def test_four_thousand_mutated_questions_get_an_answer(stage: Stage) -> None:
    """What the server makes of a request is a path, a query and a body."""
    dice = random.Random(41)
    stage.bounds = RequestLimits(loggers=20, answer=200_000)
    try:
        for round in range(4_000):
            if round == 3_000:
                # Counting what is allocated makes all of it four times as slow.
                gc.collect()
                tracemalloc.start()
                before = tracemalloc.get_traced_memory()[0]
            method, target, body = dice.choice(SEEDS)
            path, _, query = target.partition("?")
            if dice.random() < 0.7:
                path = "/" + mutated(dice, path.encode(), 2).decode("utf-8", "replace")
            if dice.random() < 0.7 and body:
                body = mutated(dice, body, dice.randrange(1, 4))
            if dice.random() < 0.2:
                method = dice.choice(["GET", "HEAD", "PUT", "POST", "DELETE", "X"])
            asked = {
                key: [mutated(dice, value.encode(), 1).decode("utf-8", "replace")]
                for key, _, value in (pair.partition("=") for pair in query.split("&"))
            }
            accept = mutated(dice, b"text/plain;q=0.5", 1).decode("latin-1")

            answer = stage.ask(
                path, method=method, body=body, query=asked, accept=accept
            )

            assert answer.status < 500 or path.startswith("/health"), (path, body)
            assert b"Traceback" not in answer.body
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    view = FakeView(
        str(tmp_path / "m"), started_ms=SYSTEM.wall_ms(), cards=[card(jmx=True)]
    )
    with serving(
        view, str(tmp_path / "ports"), bounds=RequestLimits(loggers=20)
    ) as urls:
        yield urls[0]


def test_a_thousand_mutated_requests_leave_the_server_well(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    dice = random.Random(14)
    parts = urlsplit(url)
    address = (str(parts.hostname), parts.port or 0)
    statuses: dict[bytes, int] = {}
    for _ in range(1_000):
        method, target, body = dice.choice(SEEDS)
        raw = (
            f"{method} {quote(target, safe='/?=&:*,')} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        ).encode() + body
        raw = mutated(dice, raw, dice.randrange(1, 4))
        with socket.create_connection(address, timeout=15) as end:
            end.settimeout(15)
            try:
                end.sendall(raw)
                end.shutdown(socket.SHUT_WR)
                answer = b""
                while piece := end.recv(65536):
                    answer += piece
            except (ConnectionError, TimeoutError):
                continue
        status = answer[9:12]
        statuses[status] = statuses.get(status, 0) + 1
        if status == b"500":
            # FAILED is said so by /health alone; waitress has one for what it cannot do.
            assert b"Traceback" not in answer and b'"status"' in answer
        assert b"Traceback" not in answer

    assert statuses.get(b"200", 0) > 50
    assert statuses.get(b"400", 0) > 50
    errors = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert [] == [r.getMessage() for r in errors]
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request("GET", "/health/live")
    assert 200 == connection.getresponse().status
    connection.close()
