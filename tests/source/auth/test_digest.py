"""Digest: the vectors of RFC 7616 and 2069, what servers ask, and what arrives."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest

from engine.errors import Denied
from engine.records import Request
from engine.source.auth.digest import Challenge, DigestAuth, answer, challenges
from tests.fakes.misbehaving import Misbehaving, Peer, Say, perform
from tests.source.clients import Client

PAGE = b'{"items":[1,2]}'
NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
OPAQUE = "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


def challenge(**other: Any) -> Challenge:
    said: dict[str, Any] = {
        "realm": "http-auth@example.org",
        "nonce": NONCE,
        "opaque": OPAQUE,
        "algorithm": "",
        "qop": True,
        "userhash": False,
        "utf8": False,
        "count": 1,
    }
    return Challenge(**{**said, **other})


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_vectors_of_rfc_7616(algorithm: str, response: str) -> None:
    # 3.9.1
    header = answer(
        challenge(algorithm=algorithm),
        user="Mufasa",
        password="Circle of Life",
        method="GET",
        target="/dir/index.html",
        cnonce=CNONCE,
    )

    assert f'response="{response}"' in header
    assert 'username="Mufasa"' in header
    assert "nc=00000001" in header
    assert ", qop=auth," in header
    assert f'opaque="{OPAQUE}"' in header
    assert (f"algorithm={algorithm}" in header) == bool(algorithm)


def test_the_vector_of_rfc_7616_with_a_hashed_user() -> None:
    # 3.9.2
    header = answer(
        challenge(
            realm="api@example.org",
            nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
            opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS",
            algorithm="SHA-512-256",
            userhash=True,
            utf8=True,
        ),
        user="J\u00e4s\u00f8n Doe",
        password="Secret, or not?",
        method="GET",
        target="/doe.json",
        cnonce="NTg6RKcb9boFIAS3KrFK9BGeh+niz/sm",
    )

    # The RFC's own figures for SHA-512/256 are wrong (erratum 4897); these are FIPS 180-4's.
    user = hashlib.new(
        "sha512_256", "J\u00e4s\u00f8n Doe:api@example.org".encode()
    ).hexdigest()
    assert f'username="{user}"' in header
    assert "userhash=true" in header
    assert "Doe" not in header


def test_the_vector_of_rfc_2069() -> None:
    # Erratum 749 has the right response.
    header = answer(
        challenge(
            realm="testrealm@host.com",
            nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
            opaque="5ccc069c403ebaf9f0171e9517f40e41",
            qop=False,
        ),
        user="Mufasa",
        password="CircleOfLife",
        method="GET",
        target="/dir/index.html",
        cnonce="unused",
    )

    assert 'response="1949323746fe6a43ef61f9606e7febea"' in header
    assert "nc=" not in header
    assert "cnonce" not in header


def test_a_session_algorithm_hashes_nonce_and_cnonce_in() -> None:
    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    header = answer(
        challenge(algorithm="MD5-sess"),
        user="Mufasa",
        password="Circle of Life",
        method="GET",
        target="/dir/index.html",
        cnonce=CNONCE,
    )

    secret = md5(
        f"{md5('Mufasa:http-auth@example.org:Circle of Life')}:{NONCE}:{CNONCE}"
    )
    wanted = md5(
        f"{secret}:{NONCE}:00000001:{CNONCE}:auth:{md5('GET:/dir/index.html')}"
    )
    assert f'response="{wanted}"' in header
    assert "algorithm=MD5-sess" in header


def test_a_name_beyond_ascii_is_spelt_as_the_server_reads_it() -> None:
    plain: dict[str, Any] = {
        "user": 'm\u00fc"ller',
        "password": "p",
        "method": "GET",
        "target": "/",
        "cnonce": "c",
    }

    assert "username*=UTF-8''m%C3%BC%22ller" in answer(challenge(utf8=True), **plain)
    assert 'username="m\u00c3\u00bc\\"ller"' in answer(challenge(), **plain)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (
            ['Digest realm="a, b", nonce=abc'],
            [("digest", {"realm": "a, b", "nonce": "abc"})],
        ),
        (
            ['Basic realm="x", Digest nonce="n", qop="auth,auth-int"'],
            [
                ("basic", {"realm": "x"}),
                ("digest", {"nonce": "n", "qop": "auth,auth-int"}),
            ],
        ),
        (
            ["Negotiate", 'DIGEST NONCE = "n"'],
            [("negotiate", {}), ("digest", {"nonce": "n"})],
        ),
        (["NTLM TlRMTVNTUAACAAAA=="], [("ntlm", {})]),
        (
            ['Digest realm="a\\"b", nonce="n"'],
            [("digest", {"realm": 'a"b', "nonce": "n"})],
        ),
        ([", ,Digest nonce=n,,"], [("digest", {"nonce": "n"})]),
        (['Digest nonce="open'], [("digest", {})]),
        (['Digest nonce="1", nonce="2"'], [("digest", {"nonce": "1"})]),
        (["", "=", '"', "Digest ="], []),
    ],
)
def test_challenges_are_read(
    values: list[str], found: list[tuple[str, dict[str, str]]]
) -> None:
    assert found == challenges(values)


class DigestServer:
    """A server that takes each count of a nonce once, and a nonce so many times."""

    def __init__(self, uses: int = 10_000, algorithm: str = "SHA-256") -> None:
        self.uses = uses
        self.algorithm = algorithm
        self.nonces = 0
        self.seen: set[tuple[str, int]] = set()
        self.headers: list[str] = []

    def __call__(self, peer: Peer) -> None:
        header = peer.asked.header("authorization")
        stale = "false"
        if header is not None:
            self.headers.append(header)
            said = dict(
                re.findall(r'(\w+)="?([^",]*)"?', header.removeprefix("Digest "))
            )
            key = said["nonce"], int(said["nc"], 16)
            stale = "true"
            new = key not in self.seen and said["nonce"] == f"n{self.nonces}"
            if new and key[1] <= self.uses:
                self.seen.add(key)
                wanted = answer(
                    challenge(
                        realm="r", nonce=key[0], opaque=None,
                        algorithm=self.algorithm, count=key[1],
                    ),
                    user="me", password="s3cret", method=peer.asked.method,
                    target=peer.asked.target, cnonce=said["cnonce"],
                )  # fmt: skip
                perform(Say(200 if wanted == header else 403, PAGE), peer)
                return
        self.nonces += 1
        line = (
            f'Digest realm="r", nonce="n{self.nonces}", qop="auth", stale={stale}, '
            f"algorithm={self.algorithm}"
        )
        perform(Say(401, headers=[("WWW-Authenticate", line)]), peer)


def test_each_try_counts_on_and_a_stale_nonce_is_taken_up() -> None:
    digest = DigestServer(uses=3)
    with Misbehaving(digest) as server:
        auth = DigestAuth("me", "s3cret")
        client = Client(server.url, auth=auth)
        fetch, stopping = client.retrying(refresh=auth.refresh, max_retries=0)
        for page in range(8):
            url = f"{server.url}/a?page={page}"
            assert 200 == fetch(Request("GET", url)).status

    # Without a nonce once, and each further one by a proof that was used up.
    assert [f"nc={n:08x}" for n in (1, 2, 3, 4, 1, 2, 3, 4, 1, 2)] == [
        found[0] for h in digest.headers if (found := re.findall(r"nc=\w+", h))
    ]
    assert not stopping.waits
    assert not any("s3cret" in h for h in digest.headers)


def test_a_wrong_password_is_refused_after_one_proof() -> None:
    def never(peer: Peer) -> None:
        line = 'Digest realm="r", nonce="same", qop="auth"'
        perform(Say(401, headers=[("WWW-Authenticate", line)]), peer)

    with Misbehaving(never) as server:
        auth = DigestAuth("me", "s3cret")
        fetch, stopping = Client(server.url, auth=auth).retrying(refresh=auth.refresh)
        with pytest.raises(Denied, match="these credentials are refused"):
            fetch(Request("GET", f"{server.url}/"))

        assert 2 == len(server.asked)
    assert not stopping.waits


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('Digest realm="r", nonce="n", qop="auth-int"', "qop=auth-int"),
        ('Digest realm="r", nonce="n", algorithm=TIGER', "algorithm=TIGER"),
        ('Digest realm="r"', "no nonce"),
    ],
)
def test_what_cannot_be_answered_is_named(line: str, why: str) -> None:
    with Misbehaving(Say(401, headers=[("WWW-Authenticate", line)])) as server:
        auth = DigestAuth("me", "s3cret")
        fetch, _ = Client(server.url, auth=auth).retrying(refresh=auth.refresh)
        with pytest.raises(Denied, match=re.escape(why)):
            fetch(Request("GET", f"{server.url}/"))


def test_the_strongest_offer_is_taken() -> None:
    lines = [
        ("WWW-Authenticate", 'Digest realm="r", nonce="m", algorithm=MD5, qop="auth"'),
        (
            "WWW-Authenticate",
            'Digest realm="r", nonce="s", algorithm=SHA-256, qop="auth"',
        ),
    ]
    with Misbehaving(Say(401, headers=lines)) as server:
        auth = DigestAuth("me", "s3cret")
        client = Client(server.url, auth=auth)
        assert auth.refresh(client.get())
        client.get()

        assert "SHA-256" in (server.asked[-1].header("authorization") or "")


def test_no_proof_goes_to_another_host() -> None:
    digest = DigestServer()
    with Misbehaving(digest) as one, Misbehaving(Say(body=PAGE)) as two:
        host = two.url.removeprefix("http://")
        auth = DigestAuth("me", "s3cret")
        client = Client(one.url, auth=auth, allowed=[host])
        auth.refresh(client.get())
        client.http(Request("GET", f"{two.url}/"))

        assert two.asked[-1].header("authorization") is None
