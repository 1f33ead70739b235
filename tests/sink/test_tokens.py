"""OAUTHBEARER's token endpoint: what it answers, and what follows."""

from __future__ import annotations

import json
import ssl
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from engine.errors import Misconfigured, Unavailable
from engine.sink.kafka import Cluster, reachable
from engine.sink.tokens import LONGEST, UNSAID, TokenSource, lifetime, source_of
from tests.fakes.hands import Hands

OPTIONS = {"clientId": "id", "clientSecret": "s3cret", "scope": "kafka"}


class Issuer:
    """
    A token endpoint.

    Attributes:
        status, body, headers: What it answers; a body that is no bytes goes as JSON.
        asked: Authorization and form of each request.
    """

    def __init__(self) -> None:
        self.status = 200
        self.body: Any = {"access_token": "t", "expires_in": 100}
        self.headers: Mapping[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                form = self.rfile.read(length).decode()
                issuer.asked.append((self.headers["Authorization"], form))
                body = issuer.body
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(issuer.status)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *words: object) -> None:
                """Quiet."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"

    def source(self, clock: Hands) -> TokenSource:
        return TokenSource(self.url, OPTIONS, ssl.create_default_context(), clock)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def test_a_token_is_kept_until_near_its_end(issuer: Issuer) -> None:
    clock = Hands()
    source = issuer.source(clock)

    source.token()
    source.token()
    assert 1 == len(issuer.asked)
    clock.turn(90.0)
    source.token()

    assert 2 == len(issuer.asked)
    login, form = issuer.asked[0]
    assert "Basic aWQ6czNjcmV0" == login
    assert "grant_type=client_credentials&scope=kafka" == form


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (3600, 3600.0),
        (3600.5, 3600.5),
        ("3600", 3600.0),
        ("3600.0", 3600.0),
        (1e300, LONGEST),
        ("1" * 500, None),
        (None, None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        (0, None),
        (-1, None),
        (True, None),
        ([3600], None),
        ({}, None),
    ],
)
def test_a_lifetime_is_read_as_servers_send_it(
    said: object, seconds: float | None, issuer: Issuer
) -> None:
    assert seconds == lifetime(said)
    clock = Hands()
    issuer.body = {"access_token": "t", "expires_in": said}
    source = issuer.source(clock)

    assert "t" == source.token()
    lasts = UNSAID if seconds is None else seconds
    clock.turn(lasts * 0.79)
    source.token()
    assert 1 == len(issuer.asked)
    clock.turn(lasts * 0.3)
    source.token()
    assert 2 == len(issuer.asked)


def test_without_a_lifetime_a_jwt_says_when_it_ends(issuer: Issuer) -> None:
    clock = Hands()
    ends = clock.wall_ms() / 1000 + 1000
    claims = urlsafe_b64encode(json.dumps({"exp": ends}).encode()).decode().rstrip("=")
    issuer.body = {"access_token": f"e30.{claims}.x"}
    source = issuer.source(clock)

    source.token()
    clock.turn(900.0)
    source.token()
    assert 1 == len(issuer.asked)
    clock.turn(99.0)
    source.token()
    assert 2 == len(issuer.asked)


#: status, body -> what follows, and what is said of it.
REFUSALS: dict[str, tuple[int, Any, type[Exception], str]] = {
    "400": (
        400,
        {"error": "invalid_scope", "error_description": "no kafka"},
        Misconfigured,
        "answered 400 Bad Request: invalid_scope no kafka",
    ),
    "401": (401, {"error": "invalid_client"}, Misconfigured, "401 .*invalid_client"),
    "401 without words": (401, b"", Misconfigured, "answered 401 Unauthorized"),
    "403": (403, b"<h1>no</h1>", Misconfigured, "answered 403 Forbidden: <h1>no</h1>"),
    "404": (404, b"", Misconfigured, "answered 404"),
    "405": (405, b"", Misconfigured, "answered 405"),
    "408": (408, b"", Unavailable, "answered 408"),
    "429": (429, b"", Unavailable, "answered 429"),
    "500": (500, b"oops", Unavailable, "answered 500 .*oops"),
    "502": (502, b"", Unavailable, "answered 502"),
    "503": (503, b"", Unavailable, "answered 503"),
    "200 with an error": (200, {"error": "bad"}, Misconfigured, "no access_token: bad"),
    "200 with null": (200, {"access_token": None}, Misconfigured, "no access_token"),
    "200 with html": (200, b"<html>", Unavailable, "200 with what is no JSON.*<html>"),
    "200 with a list": (200, [1], Unavailable, "200 with what is no JSON"),
    "200 with nothing": (200, b"", Unavailable, "200 with what is no JSON"),
    "200 deep": (200, b"[" * 100_000, Unavailable, "200 with what is no JSON"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_named_with_its_status(name: str, issuer: Issuer) -> None:
    issuer.status, issuer.body, kind, said = REFUSALS[name]

    with pytest.raises(kind, match=said) as caught:
        issuer.source(Hands()).token()

    assert kind is caught.type
    assert issuer.url in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_redirect_is_not_followed_with_the_secret(issuer: Issuer) -> None:
    issuer.status, issuer.headers = 302, {"Location": "https://other.example/token"}

    with pytest.raises(Misconfigured, match=r"redirects to other\.example"):
        issuer.source(Hands()).token()

    assert 1 == len(issuer.asked)


def test_an_endpoint_that_is_away_is_waited_for() -> None:
    source = TokenSource(
        "http://127.0.0.1:1/token", OPTIONS, ssl.create_default_context(), Hands()
    )

    with pytest.raises(Unavailable, match="does not answer: .*refused"):
        source.token()


def test_a_token_serves_to_its_end_while_no_other_can_be_had(issuer: Issuer) -> None:
    clock = Hands()
    source = issuer.source(clock)
    source.token()
    issuer.status = 503

    clock.turn(90.0)
    assert "t" == source.token()
    clock.turn(20.0)
    with pytest.raises(Unavailable):
        source.token()


def test_one_source_serves_all_clients_of_a_process(issuer: Issuer) -> None:
    context = ssl.create_default_context()

    one = source_of(issuer.url, OPTIONS, context)
    other = source_of(issuer.url, dict(OPTIONS), ssl.create_default_context())
    stranger = source_of(issuer.url, {**OPTIONS, "clientId": "you"}, context)

    assert one is other
    assert one is not stranger


@pytest.mark.parametrize(("status", "kind"), [(401, Misconfigured), (503, Unavailable)])
def test_a_client_says_that_it_got_no_token_and_not_that_kafka_is_away(
    status: int, kind: type[Exception], issuer: Issuer
) -> None:
    issuer.status = status
    cluster = Cluster(
        bootstrap=("127.0.0.1:1",),
        protocol="SASL_PLAINTEXT",
        mechanism="OAUTHBEARER",
        login=OPTIONS,
        token_url=issuer.url,
    )

    with pytest.raises(kind, match=f"token endpoint .* answered {status}"):
        reachable(cluster)
