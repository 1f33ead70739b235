"""Credentials: what arrives at the server, and what is seen of them."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests

from engine.errors import ConfigError, Denied, Unexpected, Unreachable
from engine.records import Request
from engine.shared.lock import FileLock
from engine.source.auth import (
    AwsSigV4,
    HeaderAuth,
    QueryAuth,
    SessionAuth,
    basic,
    bearer,
    load_auth,
)
from engine.source.oauth import OAuth2, OAuthOptions
from tests.fakes.clock import HandClock
from tests.fakes.misbehaving import Misbehaving, Peer, Say, perform
from tests.source.clients import Client

PAGE = b'{"items":[1,2]}'


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        (basic("m\u00fcller", "p:w"), "authorization", "Basic bcO8bGxlcjpwOnc="),
        (bearer("t0ken"), "authorization", "Bearer t0ken"),
        (HeaderAuth("X-API-KEY", "k3y"), "x-api-key", "k3y"),
    ],
)
def test_credentials_in_a_header(auth: Any, header: str, value: str) -> None:
    with Misbehaving(Say(body=PAGE)) as server:
        Client(server.url, auth=auth).get()

        assert value == server.asked[0].header(header)


def test_a_key_in_the_query_is_in_no_url_that_is_handed_on() -> None:
    with Misbehaving(Say(body=PAGE)) as server:
        client = Client(server.url, auth=QueryAuth("api key", "a/b"))
        bare = client.get("/x")
        client.get("/x?page=2")

        assert "/x?api%20key=a%2Fb" == server.asked[0].target
        assert "/x?page=2&api%20key=a%2Fb" == server.asked[1].target
        assert f"{server.url}/x" == bare.url


# -- AWS ---------------------------------------------------------------------


#: The published test suite of Signature Version 4: its one identity and time.
AT = 1_440_938_160_000


def signer(**options: Any) -> AwsSigV4:
    clock = HandClock(wall_ms=AT)
    return AwsSigV4(
        region="us-east-1",
        service="service",
        access_key_id="AKIDEXAMPLE",
        secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        clock=clock,
        **options,
    )


@pytest.mark.parametrize(
    ("name", "method", "target", "signature"),
    [
        ("get-vanilla", "GET", "/",
         "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("get-vanilla-query-order-key-case", "GET", "/?Param2=value2&Param1=value1",
         "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ("get-vanilla-empty-query-key", "GET", "/?Param1=value1",
         "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
        ("get-utf8", "GET", "/%E1%88%B4",
         "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        ("get-unreserved", "GET",
         "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
         "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        ("post-vanilla", "POST", "/",
         "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ],
)  # fmt: skip
def test_aws_published_vectors(
    name: str, method: str, target: str, signature: str
) -> None:
    # The suite encodes paths once, services but S3 once more.
    prepared = requests.Request(method, "https://example.amazonaws.com/").prepare()
    prepared.url = f"https://example.amazonaws.com{target}"
    prepared.headers.clear()
    signer(encode_twice=False)(prepared)
    header = prepared.headers["Authorization"]

    assert f"Signature={signature}" in header
    assert "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request" in header


def test_every_try_is_signed_anew_over_what_is_sent() -> None:
    with Misbehaving(Say(body=PAGE)) as server:
        client = Client(server.url, auth=signer(session_token="sess"))
        client.get("/a%20b?q=x%2Fy&p=1")
        client.post("/a", b'{"q":1}')

        get, post = server.asked
        for asked in (get, post):
            assert "20150830T123600Z" == asked.header("x-amz-date")
            assert "sess" == asked.header("x-amz-security-token")
            signed = re.search(
                "SignedHeaders=([^,]+)", asked.header("authorization") or ""
            )
            assert signed is not None
            assert {"host", "x-amz-date", "x-amz-security-token"} <= set(
                signed[1].split(";")
            )
        assert get.header("authorization") != post.header("authorization")


# -- any auth object of requests ---------------------------------------------


def digest_server(peer: Peer) -> None:
    """RFC 7616 with MD5, checked for real."""
    given = peer.asked.header("authorization")
    challenge = (
        ("WWW-Authenticate", 'Digest realm="r", nonce="n1", qop="auth", algorithm=MD5'),
    )
    if given is None or not given.startswith("Digest "):
        perform(Say(401, b"", challenge), peer)
        return
    fields = dict(re.findall(r'(\w+)="?([^",]+)"?', given))

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    one, two = md5("me:r:pw"), md5(f"{peer.asked.method}:{fields['uri']}")
    expected = md5(f"{one}:n1:{fields['nc']}:{fields['cnonce']}:auth:{two}")
    fits = expected == fields["response"] and fields["uri"] == peer.asked.target
    perform(Say(body=PAGE) if fits else Say(403), peer)


def test_requests_digest_auth_is_carried_by_our_own_verb() -> None:
    with Misbehaving(digest_server) as server:
        client = Client(server.url)
        tries: list[Request] = []

        def counted(request: Request) -> Any:
            tries.append(request)
            return client.http(request)

        auth = load_auth("requests.auth:HTTPDigestAuth", "me", "pw")
        fetch = SessionAuth(counted, auth)
        first = fetch(Request("GET", f"{server.url}/a?x=1", page=3, chained=True))
        second = fetch(Request("GET", f"{server.url}/b?x=2"))

        assert (200, PAGE) == (first.status, first.body)
        assert 200 == second.status
        # The challenge once, then answers straight away; every send was a try.
        assert ["/a?x=1", "/a?x=1", "/b?x=2"] == [a.target for a in server.asked]
        assert 3 == len(tries)
        assert [3, 3, 0] == [request.page for request in tries]
        assert first.request.chained
        assert 1 == server.connections


def test_a_class_beside_the_configuration_is_found(tmp_path: Path) -> None:
    (tmp_path / "my_signing_scheme.py").write_text(
        "class Signed:\n"
        "    def __call__(self, r):\n"
        "        r.headers['X-Sum'] = str(len(r.body or b''))\n"
        "        return r\n"
    )
    with Misbehaving(Say(body=PAGE)) as server:
        client = Client(server.url)
        auth = load_auth("my_signing_scheme:Signed", None, None, tmp_path)
        SessionAuth(client.http, auth)(Request("POST", f"{server.url}/", body=b"12345"))

        assert "5" == server.asked[0].header("x-sum")
        assert b"12345" == server.asked[0].body


@pytest.mark.parametrize(
    "place", ["requests.auth", "no.such:Thing", "requests:Nothing", "os:sep", "a b:c"]
)
def test_a_class_that_is_none_is_a_configuration_error(place: str) -> None:
    with pytest.raises(ConfigError, match=re.escape("http.auth.class")):
        load_auth(place, "me", "pw")


# -- OAuth 2 -----------------------------------------------------------------


class TokenServer:
    """A token endpoint and an API that takes its newest token only."""

    def __init__(self, **answer: Any) -> None:
        self.answer = answer
        self.issued = 0
        self.forms: list[dict[str, list[str]]] = []
        self.logins: list[str | None] = []
        self.good: str | None = None
        self.rotate = False
        self.status = 200

    def __call__(self, peer: Peer) -> None:
        asked = peer.asked
        if asked.target == "/token":
            self.forms.append(parse_qs(asked.body.decode()))
            self.logins.append(asked.header("authorization"))
            if self.status != 200:
                perform(Say(self.status, b'{"error":"invalid_client"}'), peer)
                return
            self.issued += 1
            self.good = f"token-{self.issued}"
            document = {"access_token": self.good, **self.answer}
            if self.rotate:
                document["refresh_token"] = f"refresh-{self.issued}"
            time.sleep(0.02)
            perform(Say(body=json.dumps(document).encode()), peer)
        elif asked.header("authorization") == f"Bearer {self.good}":
            perform(Say(body=PAGE), peer)
        else:
            perform(Say(401, b""), peer)


def oauth(
    server: Misbehaving, path: Path, clock: Any = None, **options: Any
) -> tuple[Client, OAuth2]:
    options = {
        "token_url": f"{server.url}/token",
        "client_id": "me",
        "client_secret": "s3cret/+",
        **options,
    }
    auth = OAuth2(
        OAuthOptions(**options),
        fetch=Client(server.url).http,
        path=path / "token",
        lock=FileLock(path / "token.lock"),
        **({} if clock is None else {"clock": clock}),
    )
    return Client(server.url, auth=auth), auth


def test_one_token_serves_all(tmp_path: Path) -> None:
    tokens = TokenServer(expires_in=3600)
    with Misbehaving(tokens) as server:
        clients = [oauth(server, tmp_path)[0] for _ in range(4)]
        threads = [
            threading.Thread(target=lambda c=c: [c.get() for _ in range(3)])
            for c in clients
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)

        assert 1 == tokens.issued
        assert 13 == len(server.asked)
    assert 0o600 == (tmp_path / "token").stat().st_mode & 0o777


def test_the_token_request_as_rfc_6749_has_it(tmp_path: Path) -> None:
    tokens = TokenServer()
    with Misbehaving(tokens) as server:
        oauth(server, tmp_path, scope="a b", params=(("audience", "x"),))[0].get()
        oauth(server, tmp_path, in_header=False, client_id="other")[0].get()

    assert {
        "grant_type": ["client_credentials"],
        "scope": ["a b"],
        "audience": ["x"],
    } == tokens.forms[0]
    assert "Basic bWU6czNjcmV0JTJGJTJC" == tokens.logins[0]
    assert (["other"], ["s3cret/+"]) == (
        tokens.forms[1]["client_id"],
        tokens.forms[1]["client_secret"],
    )
    assert tokens.logins[1] is None


@pytest.mark.parametrize(
    ("expires", "good_for"), [(3600, 3540), (100, 80), ("100", 80)]
)
def test_a_token_is_renewed_before_it_ends(
    tmp_path: Path, expires: Any, good_for: float
) -> None:
    clock = HandClock()
    tokens = TokenServer(expires_in=expires)
    with Misbehaving(tokens) as server:
        client, _ = oauth(server, tmp_path, clock)
        client.get()
        clock.move(good_for - 1)
        client.get()
        assert 1 == tokens.issued
        clock.move(2)
        client.get()
        assert 2 == tokens.issued


def test_a_401_renews_once_for_all_and_repeats_once(tmp_path: Path) -> None:
    tokens = TokenServer(expires_in=3600)
    with Misbehaving(tokens) as server:
        pairs = [oauth(server, tmp_path) for _ in range(3)]
        for client, _ in pairs:
            client.get()
        tokens.good = "revoked"
        for client, auth in pairs:
            fetch, _ = client.retrying(refresh=auth.refresh, max_retries=0)
            assert 200 == fetch(Request("GET", f"{server.url}/")).status

        assert 2 == tokens.issued


def test_a_second_401_is_final(tmp_path: Path) -> None:
    tokens = TokenServer(expires_in=3600)

    def never(peer: Peer) -> None:
        tokens(peer) if peer.asked.target == "/token" else perform(Say(401), peer)

    with Misbehaving(never) as server:
        client, auth = oauth(server, tmp_path)
        fetch, stopping = client.retrying(refresh=auth.refresh)
        with pytest.raises(Denied):
            fetch(Request("GET", f"{server.url}/"))

        assert 2 == sum(asked.target == "/" for asked in server.asked)
        assert 2 == tokens.issued
        assert not stopping.waits


def test_a_rotated_refresh_token_is_kept_over_a_restart(tmp_path: Path) -> None:
    tokens = TokenServer(expires_in=3600)
    tokens.rotate = True
    with Misbehaving(tokens) as server:
        for _ in range(2):
            client, auth = oauth(server, tmp_path, refresh_token="given")
            client.get()
            tokens.good = "revoked"
            auth.refresh()
        # Another one in the configuration is taken instead.
        client, auth = oauth(server, tmp_path, refresh_token="given-anew")
        auth.refresh()

    assert ["given", "refresh-1", "refresh-2", "given-anew"] == [
        form["refresh_token"][0] for form in tokens.forms
    ]


def test_what_the_token_endpoint_refuses_is_named_without_secrets(
    tmp_path: Path,
) -> None:
    tokens = TokenServer()
    with Misbehaving(tokens) as server:
        client, _ = oauth(server, tmp_path)
        tokens.status = 401
        with pytest.raises(Denied, match="invalid_client") as denied:
            client.get()
        tokens.status = 503
        with pytest.raises(Unreachable) as away:
            client.get()
        tokens.status = 200
        tokens.answer = {"access_token": 7}
        with pytest.raises(Unexpected, match="no token at"):
            client.get()

    assert not away.value.sent
    assert "s3cret" not in str(denied.value)


def test_a_broken_token_file_costs_a_token_and_no_more(tmp_path: Path) -> None:
    tokens = TokenServer(expires_in=3600)
    (tmp_path / "token").write_bytes(b"\0garbage")
    with Misbehaving(tokens) as server:
        client, _ = oauth(server, tmp_path)

        assert PAGE == client.get().body
    assert b"token-1" in (tmp_path / "token").read_bytes()


def test_a_token_of_other_credentials_is_not_used(tmp_path: Path) -> None:
    tokens = TokenServer(expires_in=3600)
    with Misbehaving(tokens) as server:
        oauth(server, tmp_path)[0].get()
        oauth(server, tmp_path, client_secret="another")[0].get()

    assert 2 == tokens.issued


def test_the_token_may_stand_elsewhere_in_the_answer(tmp_path: Path) -> None:
    tokens = TokenServer(data={"jwt": "token-1"})
    with Misbehaving(tokens) as server:
        client, _ = oauth(server, tmp_path, property="data.jwt")

        assert PAGE == client.get().body
