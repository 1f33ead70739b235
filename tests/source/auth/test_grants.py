"""OAuth 2: each grant as its RFC has it, and the answers that token endpoints give."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from engine.errors import ConfigError, Denied, Forbidden, SourceError, Unexpected
from engine.observe.redact import REDACTOR
from engine.records import Request
from engine.shared.lock import FileLock
from engine.source.auth.base import Rebased
from engine.source.auth.jwt import Assertions, JwtOptions
from engine.source.auth.oauth import OAuth2, OAuthOptions, require_base
from engine.source.auth.shared import renewal
from engine.source.wire.origin import AllowedOrigins, origin_of
from tests.fakes.clock import HandClock
from tests.fakes.misbehaving import Misbehaving, Peer, Say, perform
from tests.source.clients import Client

PAGE = b'{"items":[1,2]}'

_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_EC = ec.generate_private_key(ec.SECP256R1())


def pem(key: Any, password: bytes | None = None) -> str:
    hidden: Any = serialization.NoEncryption()
    if password is not None:
        hidden = serialization.BestAvailableEncryption(password)
    text: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden
    )
    return text.decode()


class Endpoint:
    """A token endpoint that notes what it is asked, and an API beside it."""

    def __init__(self, answer: Any = None, status: int = 200) -> None:
        self.answer = {"access_token": "t0ken"} if answer is None else answer
        self.status = status
        self.asked: list[Any] = []
        self.api: list[Any] = []

    def __call__(self, peer: Peer) -> None:
        if peer.asked.target.startswith("/token"):
            self.asked.append(peer.asked)
            body = self.answer
            if not isinstance(body, bytes):
                body = json.dumps(body).encode()
            perform(Say(self.status, body), peer)
        else:
            self.api.append(peer.asked)
            perform(Say(body=PAGE), peer)


def asked_with(
    tmp_path: Path, endpoint: Endpoint | None = None, **options: Any
) -> Endpoint:
    """What arrives for one page with these options."""
    endpoint = endpoint or Endpoint()
    with Misbehaving(endpoint) as server:
        client(server, tmp_path, **options).get("/x")
    return endpoint


def client(
    server: Misbehaving, tmp_path: Path, clock: Any = None, **options: Any
) -> Client:
    auth = auth_of(server, tmp_path, clock, **options)
    return Client(server.url, auth=auth)


def auth_of(
    server: Misbehaving, tmp_path: Path, clock: Any = None, **options: Any
) -> OAuth2:
    return OAuth2(
        OAuthOptions(**{"token_url": f"{server.url}/token", **options}),
        fetch=Client(server.url).http,
        path=tmp_path / "token",
        lock=FileLock(tmp_path / "lock"),
        **({} if clock is None else {"clock": clock}),
    )


def form_of(endpoint: Endpoint) -> dict[str, list[str]]:
    return parse_qs(endpoint.asked[0].body.decode(), keep_blank_values=True)


BASIC = {"client_id": "me", "client_secret": "s3cret"}


@pytest.mark.parametrize(
    ("options", "form"),
    [
        (BASIC, {"grant_type": ["client_credentials"]}),
        (
            {**BASIC, "grant": "password", "user": "ann", "password": "p&w"},
            {"grant_type": ["password"], "username": ["ann"], "password": ["p&w"]},
        ),
        (
            {"client_id": "pub", "grant": "password", "user": "ann", "password": "pw",
             "client_mode": "NONE"},
            {"grant_type": ["password"], "username": ["ann"], "password": ["pw"],
             "client_id": ["pub"]},
        ),
        (
            {**BASIC, "grant": "refresh_token", "refresh_token": "r0"},
            {"grant_type": ["refresh_token"], "refresh_token": ["r0"]},
        ),
        (
            {**BASIC, "client_mode": "URL"},
            {"grant_type": ["client_credentials"], "client_id": ["me"],
             "client_secret": ["s3cret"]},
        ),
        # Zoom: a grant of its own.
        (
            {**BASIC, "params": (("grant_type", "account_credentials"),
                                 ("account_id", "7"))},
            {"grant_type": ["account_credentials"], "account_id": ["7"]},
        ),
        # RFC 8707: one name, several values.
        (
            {**BASIC, "scope": "a b", "params": (("resource", "x"), ("resource", "y"))},
            {"grant_type": ["client_credentials"], "scope": ["a b"],
             "resource": ["x", "y"]},
        ),
    ],
)  # fmt: skip
def test_what_a_grant_asks(
    tmp_path: Path, options: dict[str, Any], form: dict[str, list[str]]
) -> None:
    endpoint = asked_with(tmp_path, **options)

    assert form == form_of(endpoint)
    assert "Bearer t0ken" == endpoint.api[0].header("authorization")


def test_a_json_token_request(tmp_path: Path) -> None:
    endpoint = asked_with(
        tmp_path,
        **BASIC,
        client_mode="URL",
        as_json=True,
        params=(("resource", "x"), ("resource", "y"), ("audience", "z")),
    )

    [asked] = endpoint.asked
    assert "application/json" == asked.header("content-type")
    assert {
        "grant_type": "client_credentials",
        "client_id": "me",
        "client_secret": "s3cret",
        "resource": ["x", "y"],
        "audience": "z",
    } == json.loads(asked.body)


def test_a_header_of_the_configuration_takes_the_place_of_ours(tmp_path: Path) -> None:
    headers = (("authorization", "Basic other"), ("X-Tenant", "blue"))
    [asked] = asked_with(tmp_path, **BASIC, headers=headers).asked

    assert "Basic other" == asked.header("authorization")
    assert "blue" == asked.header("x-tenant")


@pytest.mark.parametrize(
    ("options", "answer", "header", "value"),
    [
        ({}, {"token_type": "mac"}, "authorization", "Bearer t0ken"),
        ({"kind": "RESPONSE"}, {"token_type": "Zoho-oauthtoken"}, "authorization",
         "Zoho-oauthtoken t0ken"),
        ({"kind": "RESPONSE"}, {"token_type": "bearer"}, "authorization", "Bearer t0ken"),
        ({"kind": "RESPONSE"}, {}, "authorization", "Bearer t0ken"),
        ({"kind": "Zoho-oauthtoken"}, {}, "authorization", "Zoho-oauthtoken t0ken"),
        ({"kind": "", "header": "X-Shopify-Access-Token"}, {}, "x-shopify-access-token",
         "t0ken"),
    ],
)  # fmt: skip
def test_how_the_token_is_sent(
    tmp_path: Path, options: Any, answer: Any, header: str, value: str
) -> None:
    endpoint = Endpoint({"access_token": "t0ken", **answer})
    asked_with(tmp_path, endpoint, **BASIC, **options)

    assert value == endpoint.api[0].header(header)


@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_created_token_is_one(tmp_path: Path, status: int) -> None:
    assert asked_with(tmp_path, Endpoint(status=status), **BASIC).api


@pytest.mark.parametrize(
    ("answer", "status", "error", "says"),
    [
        ({"error": "invalid_client"}, 400, Denied, "answers 400: invalid_client"),
        ({"error": "invalid_grant"}, 200, Denied, "answers 200: invalid_grant"),
        ({"error": {"status": "UNAUTHENTICATED"}}, 401, Denied, "UNAUTHENTICATED"),
        ({"error": "x" * 500}, 400, Denied, "x" * 80),
        ({"error": "s3cret is wrong"}, 400, Denied, r"\*\*\*\* is wrong"),
        ({}, 200, Unexpected, "no token at 'access_token'"),
        ({"access_token": None}, 200, Unexpected, "no token"),
        ({"access_token": ["t"]}, 200, Unexpected, "no token"),
        ({"access_token": ""}, 200, Unexpected, "no token"),
        ({"access_token": "a\r\nX: y"}, 200, Unexpected, "fits no header"),
        ({"access_token": "\u20ac"}, 200, Unexpected, "fits no header"),
        ([1], 200, Unexpected, "no token"),
        (b"<html>", 200, Unexpected, "answers no JSON"),
        (b"", 204, Unexpected, "answers no JSON"),
        (b"\xff\xfe", 403, Denied, "no reason given"),
    ],
)  # fmt: skip
def test_hostile_answers(
    tmp_path: Path, answer: Any, status: int, error: type[SourceError], says: str
) -> None:
    with pytest.raises(error, match=says) as failure:
        asked_with(tmp_path, Endpoint(answer, status), **BASIC)

    assert "s3cret" not in str(failure.value)


def test_a_redirect_of_the_token_endpoint_is_named(tmp_path: Path) -> None:
    moved = Say(301, b"", [("Location", "https://other.example.com/token?key=abcd")])
    with Misbehaving(moved) as server:
        auth = OAuth2(
            OAuthOptions(token_url=f"{server.url}/token", **BASIC),
            fetch=Client(server.url, redirects=0).http,
            path=tmp_path / "token",
            lock=FileLock(tmp_path / "lock"),
        )
        with pytest.raises(Denied, match="leads to https://other") as denied:
            auth.stamp()
    assert "abcd" not in str(denied.value)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (3600, 3540), ("3600", 3540), (100, 80), (3600.5, 3540), (0, None), (-5, None),
        (None, None), (True, None), ("soon", None), ([1], None), ("1e400", None),
        (10**18, None), ("NaN", None),
        (1_700_003_600, 3540), (1_700_003_600_000, 3540), ("1700003600", 3540),
        ("2023-11-14T23:13:20Z", 3540), ("2023-11-14T23:13:20+00:00", 3540),
        ("Tue, 14 Nov 2023 23:13:20 GMT", 3540), ("2020-01-01T00:00:00Z", None),
    ],
)  # fmt: skip
def test_when_a_token_is_renewed(said: Any, seconds: int | None) -> None:
    asked_ms = 1_700_000_000_000
    found = renewal(said, asked_ms, 60.0)

    assert (0 if seconds is None else asked_ms + seconds * 1000) == found // 1000 * 1000


def test_its_life_may_stand_elsewhere(tmp_path: Path) -> None:
    endpoint = Endpoint({"access_token": "t", "data": {"ttl": 100}})
    clock = HandClock()
    with Misbehaving(endpoint) as server:
        api = client(server, tmp_path, clock, **BASIC, expires="data.ttl")
        api.get("/x")
        clock.move(79)
        api.get("/x")
        assert 1 == len(endpoint.asked)
        clock.move(2)
        api.get("/x")
        assert 2 == len(endpoint.asked)


# -- JWT ---------------------------------------------------------------------


def parts_of(jwt: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    head, claims, signature = jwt.split(".")

    def plain(text: str) -> bytes:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    return (
        json.loads(plain(head)),
        json.loads(plain(claims)),
        f"{head}.{claims}".encode(),
        plain(signature),
    )


@pytest.mark.parametrize("bits", ["256", "384", "512"])
@pytest.mark.parametrize("kind", ["RS", "PS"])
def test_a_signature_by_rsa(kind: str, bits: str) -> None:
    options = JwtOptions(key=pem(_RSA), algorithm=f"{kind}{bits}", issuer="me")
    head, claims, text, signature = parts_of(
        Assertions(options).make(1000.9, "https://t")
    )

    digest = getattr(hashes, f"SHA{bits}")()
    how: Any = padding.PKCS1v15()
    if kind == "PS":
        how = padding.PSS(padding.MGF1(digest), digest.digest_size)
    _RSA.public_key().verify(signature, text, how, digest)
    assert {"alg": f"{kind}{bits}", "typ": "JWT"} == head
    jti = claims.pop("jti")
    assert len(jti) >= 16
    assert {
        "iss": "me", "sub": "me", "aud": "https://t", "iat": 1000, "exp": 1300
    } == claims  # fmt: skip


@pytest.mark.parametrize(
    ("bits", "curve"),
    [("256", ec.SECP256R1()), ("384", ec.SECP384R1()), ("512", ec.SECP521R1())],
)
def test_a_signature_by_a_curve_is_two_numbers(bits: str, curve: Any) -> None:
    key = ec.generate_private_key(curve)
    options = JwtOptions(key=pem(key), algorithm=f"ES{bits}", issuer="me")
    _, _, text, signature = parts_of(Assertions(options).make(0, "t"))

    half = len(signature) // 2
    assert (curve.key_size + 7) // 8 == half
    der = utils.encode_dss_signature(
        int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    )
    key.public_key().verify(der, text, ec.ECDSA(getattr(hashes, f"SHA{bits}")()))


def test_the_vector_of_rfc_7515_for_hmac() -> None:
    # A.1's way with our claims: what is signed is what stands before the signature.
    options = JwtOptions(key="k" * 32, algorithm="HS256", issuer="joe")
    _, _, text, signature = parts_of(Assertions(options).make(0, "t"))

    import hashlib
    import hmac

    assert hmac.new(b"k" * 32, text, hashlib.sha256).digest() == signature


def test_a_service_account_of_google() -> None:
    account = {
        "type": "service_account",
        "private_key": pem(_RSA),
        "private_key_id": "kid-1",
        "client_email": "me@project.iam.gserviceaccount.com",
    }
    claims = {"scope": "https://www.googleapis.com/auth/x", "sub": None}
    options = JwtOptions(key=json.dumps(account), claims=claims)
    head, said, _, _ = parts_of(Assertions(options).make(0, "https://t"))

    assert "kid-1" == head["kid"]
    assert "me@project.iam.gserviceaccount.com" == said["iss"]
    assert "sub" not in said
    assert claims["scope"] == said["scope"]


def test_an_encrypted_key_and_one_out_of_a_variable() -> None:
    Assertions(JwtOptions(key=pem(_RSA, b"pw"), password="pw"))
    Assertions(JwtOptions(key=pem(_RSA).replace("\n", "\\n")))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"key": "no key"}, "no private key in PEM"),
        ({"key": "{not json"}, "neither PEM nor JSON"),
        ({"key": "{}"}, "JSON without private_key"),
        ({"key": pem(_EC)}, "not a key for RS256"),
        ({"key": pem(_RSA), "algorithm": "ES256"}, "not a key for ES256"),
        ({"key": pem(_EC), "algorithm": "ES384"}, "not a key for ES384"),
        ({"key": pem(_RSA, b"pw")}, "password is missing or wrong"),
        (
            {"key": pem(_RSA, b"pw"), "password": "other"},
            "password is missing or wrong",
        ),
    ],
)
def test_a_key_that_cannot_be_used_is_named_and_not_shown(
    options: Any, why: str
) -> None:
    with pytest.raises(ConfigError, match=why) as wrong:
        Assertions(JwtOptions(**options))

    assert "oauth2.jwt.key" in str(wrong.value)
    assert "MII" not in str(wrong.value)


def test_the_grant_of_rfc_7523(tmp_path: Path) -> None:
    jwt = JwtOptions(key=pem(_RSA), issuer="me", subject="ann", audience="https://aud")
    endpoint = asked_with(tmp_path, grant="jwt_bearer", jwt=jwt)

    form = form_of(endpoint)
    assert ["urn:ietf:params:oauth:grant-type:jwt-bearer"] == form["grant_type"]
    _, claims, _, _ = parts_of(form["assertion"][0])
    assert ("me", "ann", "https://aud") == (claims["iss"], claims["sub"], claims["aud"])
    assert endpoint.asked[0].header("authorization") is None
    assert form["assertion"][0] not in REDACTOR.redact(f"x {form['assertion'][0]}")


def test_a_client_that_proves_itself_by_an_assertion(tmp_path: Path) -> None:
    jwt = JwtOptions(key=pem(_EC), algorithm="ES256", issuer="me")
    endpoint = asked_with(tmp_path, client_id="me", client_mode="JWT", jwt=jwt)

    form = form_of(endpoint)
    assert ["client_credentials"] == form["grant_type"]
    assert ["me"] == form["client_id"]
    assert [
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    ] == form["client_assertion_type"]  # fmt: skip
    assert "/token" in parts_of(form["client_assertion"][0])[1]["aud"]


def test_each_request_has_an_assertion_of_its_own() -> None:
    made = Assertions(JwtOptions(key=pem(_RSA), issuer="me"))

    assert made.make(0, "t") != made.make(0, "t")


# -- the base of requests ----------------------------------------------------


HOME = AllowedOrigins(
    (origin_of("https://login.salesforce.com"),), (), ("*.my.salesforce.com",)
)


@pytest.mark.parametrize(
    ("said", "base"),
    [
        ("https://acme.my.salesforce.com", "https://acme.my.salesforce.com"),
        ("https://ACME.my.salesforce.com/", "https://acme.my.salesforce.com"),
        ("https://login.salesforce.com/x/", "https://login.salesforce.com/x"),
    ],
)
def test_a_base_that_is_allowed(said: str, base: str) -> None:
    options = OAuthOptions(token_url="https://t", base="instance_url", borders=HOME)

    assert base == require_base(said, options)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("https://evil.example.com", "not among oauth2.base.url.hosts"),
        ("https://my.salesforce.com.evil.com", "not among oauth2.base.url.hosts"),
        ("https://evilmy.salesforce.com", "not among oauth2.base.url.hosts"),
        ("http://acme.my.salesforce.com", "not among oauth2.base.url.hosts"),
        ("https://acme.my.salesforce.com:8443", "not among oauth2.base.url.hosts"),
        ("https://u:p@acme.my.salesforce.com", "userinfo"),
        ("ftp://acme.my.salesforce.com", "not an http"),
        ("acme.my.salesforce.com", "not an http"),
        ("https://acme.my.salesforce.com?x=1", "no base of URLs"),
        ("https://acme.my.salesforce.com/#x", "no base of URLs"),
        ("https://acme.my.salesforce.com\r\n", "control"),
    ],
)
def test_a_base_that_is_refused(said: str, why: str) -> None:
    options = OAuthOptions(token_url="https://t", base="instance_url", borders=HOME)

    with pytest.raises((Unexpected, Forbidden), match=why):
        require_base(said, options)


def test_requests_go_where_the_answer_says(tmp_path: Path) -> None:
    with Misbehaving(Say(body=PAGE)) as instance:
        endpoint = Endpoint({"access_token": "t", "instance_url": f"{instance.url}/v9"})
        with Misbehaving(endpoint) as server:
            hosts = (instance.url.removeprefix("http://"),)
            borders = AllowedOrigins((origin_of(server.url),), (), hosts)
            auth = auth_of(
                server, tmp_path, **BASIC, base="instance_url", borders=borders
            )
            api = Client(server.url, auth=auth, borders=borders)
            fetch = Rebased(api.http, auth.base, server.url)
            response = fetch(Request("GET", f"{server.url}/query?q=1"))
            own = fetch(Request("GET", f"{instance.url}/next"))

            assert ["/v9/query?q=1", "/next"] == [a.target for a in instance.asked]
            assert {"Bearer t"} == {a.header("authorization") for a in instance.asked}
            assert f"{server.url}/query?q=1" == response.url == response.request.url
            assert f"{instance.url}/next" == own.url
            assert not endpoint.api


# -- shared -------------------------------------------------------------------


def test_a_wrong_secret_is_asked_with_once_for_all_tasks(tmp_path: Path) -> None:
    endpoint = Endpoint({"error": "invalid_client"}, 401)
    clock = HandClock()
    with Misbehaving(endpoint) as server:
        auths = [auth_of(server, tmp_path, clock, **BASIC) for _ in range(8)]
        failures: list[Denied] = []

        def ask(auth: OAuth2) -> None:
            try:
                auth.stamp()
            except Denied as denied:
                failures.append(denied)

        threads = [threading.Thread(target=ask, args=(auth,)) for auth in auths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)

        assert 8 == len(failures)
        assert all("invalid_client" in str(each) for each in failures)
        assert 1 == len(endpoint.asked)
        # Others' refusals are not ours.
        endpoint.answer, endpoint.status = {"access_token": "t"}, 200
        assert "t" == auth_of(
            server, tmp_path, clock, client_id="me", client_secret="right"
        ).stamp()  # fmt: skip
    kept = (tmp_path / "token").read_text()
    assert "s3cret" not in kept


def test_a_refusal_keeps_the_rotated_refresh_token(tmp_path: Path) -> None:
    endpoint = Endpoint({"access_token": "a1", "refresh_token": "r1"})
    clock = HandClock()
    options = {**BASIC, "grant": "refresh_token", "refresh_token": "r0"}
    with Misbehaving(endpoint) as server:
        api = client(server, tmp_path, clock, **options)
        auth = auth_of(server, tmp_path, clock, **options)
        first = api.get("/x")
        endpoint.answer, endpoint.status = {"error": "temporarily_unavailable"}, 400
        with pytest.raises(Denied):
            auth.stamp()
            auth.refresh(Client(server.url).get("/x"), stale=True)
        endpoint.answer, endpoint.status = {"access_token": "a2"}, 200
        clock.move(60)
        assert auth_of(server, tmp_path, clock, **options).stamp()

    tokens = [parse_qs(a.body.decode())["refresh_token"][0] for a in endpoint.asked]
    assert ["r0", "r1", "r1"] == tokens
    assert 200 == first.status
    assert 0o600 == (tmp_path / "token").stat().st_mode & 0o777
