"""LOGIN: what is asked, where the token stands, how it is sent, when it is renewed."""

from __future__ import annotations

import base64
import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Denied, SourceError, Unexpected, Unreachable
from engine.observe.redact import REDACTOR
from engine.records import Request
from engine.shared.lock import FileLock
from engine.source.auth.login import LoginAuth, LoginOptions
from engine.source.auth.renewal import RenewableAuth
from engine.source.wire.cookies import CookieJar
from tests.fakes.clock import HandClock
from tests.fakes.misbehaving import Misbehaving, Peer, Say, perform
from tests.source.clients import Client

PAGE = b'{"items":[1,2]}'


class Site:
    """A site with a login at /login; what lies elsewhere wants its newest session."""

    def __init__(
        self,
        *,
        body: Any = None,
        headers: Any = (),
        status: int = 200,
        refusal: Say | None = None,
    ) -> None:
        self.body = {"token": "T"} if body is None else body
        self.headers = headers
        self.status = status
        self.refusal = refusal or Say(401, b"")
        self.logins: list[Any] = []
        self.pages: list[Any] = []
        self.good = re.compile("T1")
        self.closed = False
        self.lock = threading.Lock()

    def __call__(self, peer: Peer) -> None:
        asked = peer.asked
        if asked.target.startswith("/login"):
            with self.lock:
                self.logins.append(asked)
                self.good = re.compile(rf"T{len(self.logins)}(?!\d)")
                number = str(len(self.logins))
            body = self.body
            if not isinstance(body, bytes):
                body = json.dumps(body).encode()
            body = body.replace(b'"T', b'"T' + number.encode())
            headers = [(n, v.replace("=T", f"=T{number}")) for n, v in self.headers]
            headers = [(n, f"T{number}" if v == "T" else v) for n, v in headers]
            perform(Say(self.status, body, headers), peer)
            return
        self.pages.append(asked)
        carried = " ".join([asked.target, *(f"{n}:{v}" for n, v in asked.headers)])
        taken = self.good.search(carried) and not self.closed
        perform(Say(body=PAGE) if taken else self.refusal, peer)


def auth_of(
    server: Misbehaving, tmp_path: Path, clock: Any = None, **options: Any
) -> LoginAuth:
    return LoginAuth(
        LoginOptions(**{"url": f"{server.url}/login", **options}),
        fetch=Client(server.url, redirects=0).http,
        path=tmp_path / "token",
        lock=FileLock(tmp_path / "lock"),
        **({} if clock is None else {"clock": clock}),
    )


def page(server: Misbehaving, auth: Any, target: str = "/x", **fields: Any) -> Any:
    fetch, _ = Client(server.url, auth=auth).retrying(
        refresh=auth.refresh, max_retries=0, stale=fields.pop("stale", ())
    )
    return fetch(Request("GET", f"{server.url}{target}", **fields))


@pytest.mark.parametrize(
    ("options", "kind", "body"),
    [
        ({"body": '{"u": "${user}", "p": "${password}"}'}, "application/json",
         '{"u": "a\\"b", "p": "p&w"}'),
        ({"body": '{"u": ${user}}'}, "application/json", '{"u": "a\\"b"}'),
        ({"body": "u=${user}&p=${password}"}, "application/x-www-form-urlencoded",
         "u=a%22b&p=p%26w"),
        ({"body": "<login>1</login>"}, "text/xml", "<login>1</login>"),
        ({"body": "u=${user}", "headers": (("Content-Type", "text/plain"),)},
         "text/plain", 'u=a"b'),
        ({"method": "PUT", "body": "{}"}, "application/json", "{}"),
        ({"method": "GET"}, None, ""),
    ],
)  # fmt: skip
def test_what_a_login_says(tmp_path: Path, options: Any, kind: Any, body: str) -> None:
    site = Site()
    with Misbehaving(site) as server:
        auth = auth_of(
            server, tmp_path, user='a"b', password="p&w", path="token", **options
        )
        assert 200 == page(server, auth).status

    [asked] = site.logins
    assert options.get("method", "POST") == asked.method
    assert (kind, body) == (asked.header("content-type"), asked.body.decode())
    assert asked.header("authorization") is None


@pytest.mark.parametrize(
    ("site", "options"),
    [
        ({}, {"path": "token"}),
        ({"body": {"data": {"jwt": "T"}}}, {"path": "data.jwt"}),
        ({"body": {"data": {"jwt": "T"}}}, {"path": "/data/jwt"}),
        ({"body": b'"T"'}, {"path": "$"}),
        ({"headers": [("X-Auth-Token", "T")], "body": b""}, {"header": "X-Auth-Token"}),
        ({"headers": [("x-auth-token", "T")], "status": 201}, {"header": "X-Auth-Token"}),
        ({"headers": [("Set-Cookie", "sid=T; Path=/")]}, {"cookie": "sid"}),
        ({"headers": [("Set-Cookie", "sid=T; Path=/"), ("Location", "/home")],
          "status": 302, "body": b""}, {"cookie": "sid"}),
    ],
)  # fmt: skip
def test_where_the_token_stands(tmp_path: Path, site: Any, options: Any) -> None:
    served = Site(**site)
    with Misbehaving(served) as server:
        page(server, auth_of(server, tmp_path, **options))

    assert "Bearer T1" == served.pages[0].header("authorization")
    # Nobody follows where a login leads.
    assert 1 == len(served.pages)


def test_a_body_that_is_the_token_as_it_is(tmp_path: Path) -> None:
    with Misbehaving(Say(body=b"T1\n")) as server:
        auth = auth_of(server, tmp_path, path="$")
        assert "T1" == auth.stamp()


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, "authorization:Bearer T1"),
        ({"name": "X-Auth", "template": "${token}"}, "x-auth:T1"),
        ({"template": "Token token=${token}, v=1"}, "authorization:Token token=T1, v=1"),
        ({"place": "COOKIE", "name": "SID", "template": "${token}"}, "cookie:SID=T1"),
        ({"place": "QUERY", "name": "access token", "template": "${token}"},
         "/x?a=1&access%20token=T1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("wrapped", [False, True])
def test_how_it_is_sent(tmp_path: Path, options: Any, sent: str, wrapped: bool) -> None:
    site = Site()
    with Misbehaving(site) as server:
        made = auth_of(server, tmp_path, path="token", **options)
        auth: Any = RenewableAuth(made) if wrapped else made
        client = Client(server.url, auth=auth)
        url = client.get("/x?a=1").url

    [asked] = site.pages
    assert sent in [asked.target, *(f"{n.lower()}:{v}" for n, v in asked.headers)]
    assert "T1" not in url


@pytest.mark.parametrize(
    ("statuses", "refusal"),
    [
        ((), Say(401)),
        ((403,), Say(403)),
        ((419,), Say(419)),
        ((440, 400), Say(400, b'{"error":"session expired"}')),
        ((302,), Say(302, headers=[("X", "no location")])),
    ],
)
def test_the_statuses_that_renew(tmp_path: Path, statuses: Any, refusal: Say) -> None:
    site = Site(refusal=refusal)
    with Misbehaving(site) as server:
        auth = auth_of(server, tmp_path, path="token")
        assert 200 == page(server, auth, stale=statuses).status
        site.good = re.compile("T2")
        assert 200 == page(server, auth, stale=statuses).status
        assert 2 == len(site.logins)
        # A login that does not help is not done again and again.
        site.closed = True
        with pytest.raises(SourceError):
            page(server, auth, stale=statuses)
        assert 3 == len(site.logins)


@pytest.mark.parametrize("status", [403, 404, 419])
def test_another_status_renews_nothing(tmp_path: Path, status: int) -> None:
    site = Site(refusal=Say(status))
    with Misbehaving(site) as server:
        auth = auth_of(server, tmp_path, path="token")
        auth.stamp()
        site.closed = True
        with pytest.raises(SourceError):
            page(server, auth)
        assert 1 == len(site.logins)


def jwt_ending(seconds: int) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": seconds}).encode())
    return f"T.{claims.decode().rstrip('=')}.sig"


@pytest.mark.parametrize(
    ("body", "options", "seconds"),
    [
        ({"token": "T"}, {"after": 100.0}, 100),
        ({"token": "T", "ttl": 200}, {"expires": "ttl"}, 160),
        ({"token": "T", "ttl": 200}, {"expires": "ttl", "after": 50.0}, 50),
        ({"token": "T", "ends": "2001-09-09T01:50:00Z"}, {"expires": "ends"}, 160),
        ({"token": jwt_ending(1_000_000_200)}, {}, 160),
        ({"token": jwt_ending(1_000_000_200)}, {"after": 300.0}, 300),
        ({"token": "T"}, {}, None),
        ({"token": "T", "ttl": 0}, {"expires": "ttl"}, None),
        ({"token": "T.e30.x"}, {}, None),
        ({"token": "T.!!.x"}, {}, None),
    ],
)
def test_when_it_is_renewed_by_itself(
    tmp_path: Path, body: Any, options: Any, seconds: int | None
) -> None:
    clock = HandClock(wall_ms=1_000_000_000_000)
    site = Site(body=body)
    with Misbehaving(site) as server:
        auth = auth_of(server, tmp_path, clock, path="token", **options)
        auth.stamp()
        clock.move((seconds or 1_000_000) - 1)
        auth.stamp()
        assert 1 == len(site.logins)
        clock.move(2)
        auth.stamp()
        assert (1 if seconds is None else 2) == len(site.logins)


def test_all_cookies_go_where_they_belong(tmp_path: Path) -> None:
    headers = [
        ("Set-Cookie", "sid=T; Path=/; HttpOnly"),
        ("Set-Cookie", "csrf=c; Path=/app"),
        ("Set-Cookie", "gone=x; Max-Age=0"),
        ("Set-Cookie", "secure=s; Secure; Path=/"),
    ]
    site = Site(headers=headers, status=302, body=b"")
    with Misbehaving(site) as server:
        auth = auth_of(server, tmp_path, body="u=a")
        page(server, auth, "/x")
        page(server, auth, "/app/y")
        page(server, auth, "/app/y", headers=(("Cookie", "mine=1"),))

    assert ["sid=T1", "csrf=c; sid=T1", "csrf=c; sid=T1; mine=1"] == [
        asked.header("cookie") for asked in site.pages
    ]


def test_what_a_poll_s_jar_has_wins_until_the_next_login(tmp_path: Path) -> None:
    site = Site(headers=[("Set-Cookie", "sid=T; Path=/")])
    with Misbehaving(site) as server:
        auth = auth_of(server, tmp_path)
        jar = CookieJar()
        jar.learn(server.url, [("set-cookie", "sid=rolled; Path=/")])
        page(server, auth, jar=jar)

    # Refused with what the server itself had set, then the session is a new one.
    assert ["sid=rolled", "sid=T2"] == [a.header("cookie") for a in site.pages]
    assert not list(jar)


def test_no_credentials_go_to_another_host(tmp_path: Path) -> None:
    site = Site(headers=[("Set-Cookie", "sid=T; Path=/")])
    with Misbehaving(site) as server, Misbehaving(Say(body=PAGE)) as other:
        for n, options in enumerate(({}, {"path": "token"}, {"cookie": "sid",
                                         "place": "COOKIE", "name": "sid",
                                         "template": "${token}"})):  # fmt: skip
            (tmp_path / str(n)).mkdir()
            auth = auth_of(server, tmp_path / str(n), **options)
            client = Client(
                server.url, auth=auth, allowed=[other.url.removeprefix("http://")]
            )
            client.http(Request("GET", f"{other.url}/"))

        for asked in other.asked:
            assert asked.header("cookie") is None
            assert asked.header("authorization") is None


def test_one_login_for_all_and_one_renewal(tmp_path: Path) -> None:
    site = Site()
    with Misbehaving(site) as server:
        auths = [auth_of(server, tmp_path, path="token") for _ in range(6)]

        def all_of_them() -> None:
            threads = [
                threading.Thread(target=page, args=(server, auth)) for auth in auths
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)

        all_of_them()
        assert 1 == len(site.logins)
        site.good = re.compile("T2")
        all_of_them()
        assert 2 == len(site.logins)
    assert 0o600 == (tmp_path / "token").stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("answer", "options", "error", "says"),
    [
        (Say(401, b'{"error":"bad password"}'), {"path": "token"}, Denied,
         "answers 401: bad password"),
        (Say(200, b'{"error":"bad password"}'), {"path": "token"}, Denied,
         "no token in its field 'token': bad password"),
        (Say(200, b'{"token":null}'), {"path": "token"}, Denied, "no token"),
        (Say(200, b'{"token":{"a":1}}'), {"path": "token"}, Denied, "no token"),
        (Say(200, b'{"token":true}'), {"path": "token"}, Denied, "no token"),
        (Say(200, b"<html>"), {"path": "token"}, Unexpected, "answers no JSON"),
        (Say(200, b""), {"path": "$"}, Denied, "no token in its body"),
        (Say(200, b'{"token":"a\\r\\nX: y"}'), {"path": "token"}, Unexpected,
         "no token that can be sent"),
        (Say(200, b'"' + b"x" * 20_000 + b'"'), {"path": "$"}, Unexpected,
         "no token that can be sent"),
        (Say(200), {"header": "X-T"}, Denied, "no token in its header X-T"),
        (Say(200), {"cookie": "sid"}, Denied, "no token in its cookie sid"),
        (Say(200), {}, Denied, "sets no cookie"),
        (Say(302, headers=[("Location", "/home?token=abcd")]), {"path": "token"}, Denied,
         "answers 302: it leads to .*/home\\?token=\\*\\*\\*\\*|answers 302: it leads to /home"),
        (Say(404), {"path": "token"}, Denied, "answers 404"),
        (Say(429), {"path": "token"}, Unreachable, "answers 429"),
        (Say(503), {}, Unreachable, "answers 503"),
    ],
)  # fmt: skip
def test_logins_that_fail(
    tmp_path: Path, answer: Say, options: Any, error: type[SourceError], says: str
) -> None:
    with Misbehaving(answer) as server:
        auth = auth_of(
            server, tmp_path, user="a", password="p4ssword",
            body="u=${user}&p=${password}", **options,
        )  # fmt: skip
        with pytest.raises(error, match=says) as failure:
            auth.stamp()

    assert "p4ssword" not in str(failure.value)
    assert "abcd" not in str(failure.value)


def test_a_token_that_is_a_number(tmp_path: Path) -> None:
    with Misbehaving(Say(body=b'{"token": 12345678901234567890}')) as server:
        assert "12345678901234567890" == auth_of(server, tmp_path, path="token").stamp()


def test_what_was_had_is_cut_out_of_texts(tmp_path: Path) -> None:
    site = Site(body={"token": "T-very-secret"})
    with Misbehaving(site) as server:
        auth_of(server, tmp_path, path="token", password="p4ssword").stamp()

    assert "very-secret" not in REDACTOR.redact("a T1-very-secret b p4ssword")
    assert "p4ssword" not in REDACTOR.redact("p4ssword")
    assert "p4ssword" not in (tmp_path / "token").read_text()
