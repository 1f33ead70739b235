"""Cookies: what RFC 6265 takes, where a jar sends it, and never across origins."""

from __future__ import annotations

import pytest

from engine.records import Request
from engine.source.wire.cookies import MOST_COOKIES, CookieJar, parse
from tests.fakes.clock import HandClock
from tests.fakes.misbehaving import Misbehaving, Peer, Say, perform
from tests.source.clients import Client

NOW = 1_700_000_000_000
HTTPS = "https://api.example.com/v1/items"


def jar_of(*lines: str, url: str = HTTPS, across: bool = False) -> CookieJar:
    jar = CookieJar(across=across, clock=HandClock(wall_ms=NOW))
    jar.learn(url, [("set-cookie", line) for line in lines])
    return jar


@pytest.mark.parametrize(
    ("line", "url", "sent"),
    [
        # Where it was set, and below its path.
        ("a=1", "https://api.example.com/v1/items", "a=1"),
        ("a=1", "https://api.example.com/v1/other", "a=1"),
        ("a=1", "https://api.example.com/v2", ""),
        ("a=1; Path=/", "https://api.example.com/v2", "a=1"),
        ("a=1; Path=/v1", "https://api.example.com/v1", "a=1"),
        ("a=1; Path=/v1", "https://api.example.com/v1x", ""),
        ("a=1; Path=/v1/", "https://api.example.com/v1/x?y=/z", "a=1"),
        ("a=1; Path=relative", "https://api.example.com/v1/x", "a=1"),
        # Never to another origin, whatever its domain says.
        ("a=1; Path=/", "http://api.example.com/", ""),
        ("a=1; Path=/", "https://api.example.com:8443/", ""),
        ("a=1; Path=/", "https://www.example.com/", ""),
        ("a=1; Path=/; Domain=example.com", "https://www.example.com/", ""),
        ("a=1; Path=/; Domain=.example.com", "https://api.example.com/", "a=1"),
        # What it may not say.
        ("a=1; Path=/; Domain=other.com", "https://api.example.com/", ""),
        ("a=1; Path=/; Domain=com", "https://api.example.com/", ""),
        ("a=1; Path=/; Domain=ample.com", "https://api.example.com/", ""),
        ("a=1; Path=/; Domain=x.api.example.com", "https://api.example.com/", ""),
        # Its end.
        ("a=1; Path=/; Max-Age=10", "https://api.example.com/", "a=1"),
        ("a=1; Path=/; Max-Age=0", "https://api.example.com/", ""),
        ("a=1; Path=/; Max-Age=-1", "https://api.example.com/", ""),
        ("a=1; Path=/; Max-Age=x", "https://api.example.com/", "a=1"),
        ("a=1; Path=/; Expires=Wed, 09 Jun 2021 10:18:14 GMT", HTTPS, ""),
        ("a=1; Path=/; Expires=Wed, 09-Jun-2021 10:18:14 GMT", HTTPS, ""),
        ("a=1; Path=/; Expires=Fri, 09 Jun 2034 10:18:14 GMT", HTTPS, "a=1"),
        ("a=1; Path=/; Expires=nonsense", HTTPS, "a=1"),
        ("a=1; Path=/; Expires=Wed, 09 Jun 2021 10:18:14 GMT; Max-Age=9", HTTPS, "a=1"),
        # What is taken as it is.
        ('a="x y"; Path=/', HTTPS, 'a="x y"'),
        ("a=; Path=/", HTTPS, "a="),
        ("a=b=c; Path=/; HttpOnly; SameSite=None", HTTPS, "a=b=c"),
        (" a = 1 ;Path=/", HTTPS, "a=1"),
        ("a=1; SECURE; path=/", HTTPS, "a=1"),
        # What is none.
        ("novalue", HTTPS, ""),
        ("=1; Path=/", HTTPS, ""),
        ("", HTTPS, ""),
        ("a=1\r\nX: y; Path=/", HTTPS, ""),
        (f"a={'x' * 5000}; Path=/", HTTPS, ""),
        ("__Secure-a=1; Path=/", HTTPS, ""),
        ("__Secure-a=1; Path=/; Secure", HTTPS, "__Secure-a=1"),
        ("__Host-a=1; Path=/v1; Secure", HTTPS, ""),
        ("__Host-a=1; Path=/; Secure; Domain=example.com", HTTPS, ""),
        ("__Host-a=1; Path=/; Secure", HTTPS, "__Host-a=1"),
    ],
)
def test_where_a_cookie_goes(line: str, url: str, sent: str) -> None:
    assert sent == jar_of(line).header(url)


def test_a_login_s_cookies_go_to_the_hosts_of_their_domain() -> None:
    jar = jar_of(
        "sso=1; Domain=example.com; Path=/",
        "own=2; Path=/",
        url="https://login.example.com/",
        across=True,
    )

    assert "sso=1" == jar.header("https://api.example.com/v1")
    assert "sso=1; own=2" == jar.header("https://login.example.com/")
    assert "" == jar.header("https://api.example.org/")


def test_a_cookie_over_plain_http_is_not_secure() -> None:
    jar = jar_of("a=1; Secure; Path=/", "b=2; Path=/", url="http://api.example.com/")

    assert "b=2" == jar.header("http://api.example.com/")


def test_a_cookie_ends_with_its_time_and_by_the_server_s_word() -> None:
    clock = HandClock(wall_ms=NOW)
    jar = CookieJar(clock=clock)
    jar.learn(HTTPS, [("set-cookie", "a=1; Max-Age=10"), ("set-cookie", "b=2")])
    assert "a=1; b=2" == jar.header(HTTPS)
    clock.move(11)
    assert "b=2" == jar.header(HTTPS)
    jar.learn(HTTPS, [("set-cookie", "b=x; Max-Age=0")])
    assert "" == jar.header(HTTPS)


def test_longer_paths_come_first_and_ours_stay() -> None:
    jar = jar_of("a=1; Path=/", "b=2; Path=/v1")

    assert "b=2; a=1" == jar.header(HTTPS)
    assert "mine=0; b=2; a=1" == jar.header(HTTPS, "mine=0; a=old")


def test_a_jar_has_a_bound() -> None:
    jar = jar_of(*(f"c{n}={n}; Path=/" for n in range(2 * MOST_COOKIES)))

    assert MOST_COOKIES == len(list(jar))
    assert f"c{2 * MOST_COOKIES - 1}=" in jar.header(HTTPS)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_an_address_has_no_hosts_below(host: str) -> None:
    made = parse(f"http://{host}/", f"a=1; Domain={host}", NOW)

    assert made is None or not made.subdomains


class Counting:
    """Numbers its pages by a cookie alone, over a redirect."""

    def __call__(self, peer: Peer) -> None:
        cookie = peer.asked.header("cookie") or ""
        if "session=" not in cookie:
            headers = [("Set-Cookie", "session=1; Path=/"), ("Location", "/first")]
            perform(Say(302, b"", headers), peer)
            return
        number = int(cookie.rpartition("session=")[2].split(";")[0])
        headers = [("Set-Cookie", f"session={number + 1}; Path=/")]
        perform(Say(body=b'{"n":%d}' % number, headers=headers), peer)


def test_a_poll_s_cookies_are_sent_again_over_redirects_too() -> None:
    with Misbehaving(Counting()) as server:
        client = Client(server.url)
        jar = CookieJar()
        bodies = [client.get("/a", jar=jar).body for _ in range(3)]
        with_ours = client.get("/a", headers=[("Cookie", "mine=1")], jar=jar).body

        assert [b'{"n":1}', b'{"n":2}', b'{"n":3}'] == bodies
        assert b'{"n":4}' == with_ours
        assert "mine=1; session=4" == server.asked[-1].header("cookie")


def test_without_a_jar_none_is_kept() -> None:
    with Misbehaving(Say(headers=[("Set-Cookie", "a=1; Path=/")])) as server:
        client = Client(server.url)
        client.get()
        client.get()

        assert server.asked[-1].header("cookie") is None


def test_no_cookie_goes_to_or_comes_from_another_origin() -> None:
    setting = [("Set-Cookie", "theirs=1; Path=/")]
    with Misbehaving(Say(headers=setting)) as two:
        leading = [("Set-Cookie", "ours=1; Path=/"), ("Location", f"{two.url}/x")]
        with Misbehaving(Say(302, b"", leading)) as one:
            client = Client(one.url, allowed=[two.url.removeprefix("http://")])
            jar = CookieJar()
            client.http(Request("GET", f"{one.url}/", jar=jar))
            client.http(Request("GET", f"{one.url}/", jar=jar))

            assert [None, None] == [asked.header("cookie") for asked in two.asked]
            assert "ours=1" == one.asked[-1].header("cookie")
