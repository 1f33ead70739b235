"""Credentials: what arrives at the server, and what is seen of them."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pytest
import requests
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError, Denied, Unexpected, Unreachable
from engine.records import Request
from engine.shared.lock import FileLock
from engine.source.auth.aws import UNSIGNED, AwsSigV4
from engine.source.auth.header import HeaderAuth, QueryAuth, basic, bearer
from engine.source.auth.oauth import OAuth2, OAuthOptions
from engine.source.auth.session import SessionAuth, load_auth
from engine.source.auth.shared import REFUSED
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


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LETTERS = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ODD = "/?%40%23%24%25%5E=&%2B=%2F%2C%3F%3E%3C%60%22%3B%3A%5C%7C%5D%5B%7B%7D"


@pytest.mark.parametrize(
    ("name", "method", "target", "headers", "body", "signature"),
    [
        ("get-header-key-duplicate", "GET", "/", {"My-Header1": "value2,value2,value1"},
         b"", "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"),
        ("get-header-value-multiline", "GET", "/", {"My-Header1": "value1,value2,value3"},
         b"", "ba17b383a53190154eb5fa66a1b836cc297cc0a3d70a5d00705980573d8ff790"),
        ("get-header-value-order", "GET", "/",
         {"My-Header1": "value4,value1,value3,value2"}, b"",
         "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"),
        ("get-header-value-trim", "GET", "/",
         {"My-Header1": " value1", "My-Header2": ' "a   b   c"'}, b"",
         "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
        ("get-unreserved", "GET", f"/{LETTERS}", {}, b"",
         "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        ("get-utf8", "GET", "/%E1%88%B4", {}, b"",
         "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        ("get-vanilla", "GET", "/", {}, b"",
         "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("get-vanilla-empty-query-key", "GET", "/?Param1=value1", {}, b"",
         "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
        ("get-vanilla-query-order-key-case", "GET", "/?Param2=value2&Param1=value1", {},
         b"", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ("get-vanilla-query-unreserved", "GET", f"/?{LETTERS}={LETTERS}", {}, b"",
         "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"),
        ("get-vanilla-utf8-query", "GET", "/?%E1%88%B4=bar", {}, b"",
         "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
        ("post-header-key-sort", "POST", "/", {"My-Header1": "value1"}, b"",
         "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
        ("post-header-value-case", "POST", "/", {"My-Header1": "VALUE1"}, b"",
         "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"),
        ("post-vanilla", "POST", "/", {}, b"",
         "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("post-vanilla-query", "POST", "/?Param1=value1", {}, b"",
         "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
        ("post-vanilla-query-nonunreserved", "POST", ODD, {}, b"",
         "66c82657c86e26fb25238d0e69f011edc4c6df5ae71119d7cb98ed9b87393c1e"),
        ("post-vanilla-query-space", "POST", "/?p=", {}, b"",
         "e71688addb58a26418614085fb730ba3faa623b461c17f48f2fbdb9361b94a9b"),
        ("post-x-www-form-urlencoded", "POST", "/", FORM, b"Param1=value1",
         "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
        ("post-x-www-form-urlencoded-parameters", "POST", "/",
         {"Content-Type": "application/x-www-form-urlencoded; charset=utf8"},
         b"Param1=value1",
         "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe"),
    ],
    ids=lambda value: value if isinstance(value, str) and "-v" in value else "",
)  # fmt: skip
def test_aws_published_vectors(
    name: str,
    method: str,
    target: str,
    headers: dict[str, str],
    body: bytes,
    signature: str,
) -> None:
    # The suite encodes paths once, services but S3 once more.
    prepared = request_for(method, target, headers, body)
    signer(encode_twice=False)(prepared)
    header = prepared.headers["Authorization"]

    assert f"Signature={signature}" in header
    assert "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request" in header


def request_for(
    method: str, target: str, headers: dict[str, str], body: bytes
) -> requests.PreparedRequest:
    prepared = requests.Request(method, "https://example.amazonaws.com/").prepare()
    prepared.url = f"https://example.amazonaws.com{target}"
    prepared.headers.clear()
    prepared.headers.update(headers)
    prepared.body = body
    return prepared


@given(
    method=st.sampled_from(["GET", "POST", "PUT"]),
    parts=st.lists(st.text(max_size=6) | st.sampled_from(["", ".", ".."]), max_size=5),
    query=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=4),
    names=st.dictionaries(
        st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,8}", fullmatch=True),
        st.from_regex(r"[ -~]{0,12}", fullmatch=True),
        max_size=3,
    ),
    body=st.binary(max_size=30),
    service=st.sampled_from(["execute-api", "s3"]),
    token=st.none() | st.just("sess"),
)
def test_any_request_is_signed_as_by_awss_own_library(
    method: str,
    parts: list[str],
    query: list[tuple[str, str]],
    names: dict[str, str],
    body: bytes,
    service: str,
    token: str | None,
) -> None:
    encoded = [(quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in query]
    target = "/" + "/".join(quote(part, safe="~") for part in parts)
    if query:
        target += "?" + "&".join(f"{name}={value}" for name, value in encoded)
    names = {k: v for k, v in names.items() if k.lower() not in ("host", *UNSIGNED)}
    prepared = request_for(method, target, names, body)
    ours = AwsSigV4(
        region="eu-west-1",
        service=service,
        access_key_id="AKIDEXAMPLE",
        secret_access_key="secret",
        session_token=token,
    )
    ours(prepared)
    stamp = prepared.headers["X-Amz-Date"]

    theirs = AWSRequest(method=method, url=prepared.url, headers=names, data=body)
    theirs.context["timestamp"] = stamp
    theirs.headers["X-Amz-Date"] = stamp
    kind = S3SigV4Auth if service == "s3" else SigV4Auth
    reference = kind(Credentials("AKIDEXAMPLE", "secret", token), service, "eu-west-1")
    if token is not None:
        theirs.headers["X-Amz-Security-Token"] = token
    if service == "s3":
        theirs.headers["X-Amz-Content-SHA256"] = reference.payload(theirs)
    canonical = reference.canonical_request(theirs)
    signature = reference.signature(reference.string_to_sign(theirs, canonical), theirs)

    assert f"Signature={signature}" in prepared.headers["Authorization"]


def test_a_wrong_clock_costs_one_try_and_then_the_servers_time_is_signed() -> None:
    stamps: list[str] = []

    def by_its_own_time(peer: Peer) -> None:
        stamps.append(peer.asked.header("x-amz-date") or "")
        good = stamps[-1].startswith("20150830T1336")
        date = (("Date", "Sun, 30 Aug 2015 13:36:00 GMT"),)
        perform(Say(200 if good else 403, PAGE, date), peer)

    auth = signer()
    with Misbehaving(by_its_own_time) as server:
        client = Client(server.url, auth=auth, clock=HandClock(wall_ms=AT))
        fetch, _ = client.retrying(refresh=auth.refresh, max_retries=0)
        for _ in range(2):
            assert 200 == fetch(Request("GET", f"{server.url}/")).status

    assert ["20150830T123600Z", "20150830T133600Z", "20150830T133600Z"] == stamps


def test_a_refusal_that_is_not_about_the_time_is_final() -> None:
    auth = signer()
    date = (("Date", "Sun, 30 Aug 2015 12:36:02 GMT"),)
    with Misbehaving(Say(403, b"", date)) as server:
        client = Client(server.url, auth=auth, clock=HandClock(wall_ms=AT))
        fetch, _ = client.retrying(refresh=auth.refresh)
        with pytest.raises(Denied):
            fetch(Request("GET", f"{server.url}/"))

        assert 1 == len(server.asked)


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
    if "refresh_token" in options:
        options["grant"] = "refresh_token"
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
        oauth(server, tmp_path, client_mode="URL", client_id="other")[0].get()

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


def test_threads_that_are_refused_at_once_renew_once(tmp_path: Path) -> None:
    tokens = TokenServer(expires_in=3600)
    refused = threading.Barrier(8)

    def all_at_once(peer: Peer) -> None:
        old = peer.asked.header("authorization") == "Bearer token-1"
        if old and tokens.good == "revoked":
            refused.wait(5)
        tokens(peer)

    with Misbehaving(all_at_once) as server:
        client, auth = oauth(server, tmp_path)
        client.get()
        tokens.good = "revoked"
        fetch, _ = client.retrying(refresh=auth.refresh, max_retries=0)
        threads = [
            threading.Thread(target=fetch, args=(Request("GET", f"{server.url}/"),))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)

        assert 2 == tokens.issued
        # One, its 401 eight times, the token and eight repeats.
        assert 2 + 8 + 1 + 8 == len(server.asked)


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
            assert auth.refresh(client.get())
        # Another one in the configuration is taken instead.
        oauth(server, tmp_path, refresh_token="given-anew")[0].get()

    assert ["given", "refresh-1", "refresh-2", "given-anew"] == [
        form["refresh_token"][0] for form in tokens.forms
    ]


def test_what_the_token_endpoint_refuses_is_named_without_secrets(
    tmp_path: Path,
) -> None:
    tokens = TokenServer()
    with Misbehaving(tokens) as server:
        clock = HandClock()
        client, _ = oauth(server, tmp_path, clock)
        tokens.status = 401
        with pytest.raises(Denied, match="invalid_client") as denied:
            client.get()
        clock.move(REFUSED)
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
