"""Secrets show themselves to nobody, and are cut out of text."""

from __future__ import annotations

import copy
import json
import pickle
from urllib.parse import quote, quote_plus

import msgspec
import pytest

from engine.observe.redact import Redactor, Secret, redact, redact_url, sensitive


def test_a_secret_shows_stars() -> None:
    secret = Secret("canary-x")

    assert "canary-x" == secret.reveal()
    assert ["****"] * 4 == [str(secret), repr(secret), f"{secret}", f"{secret:>9}"]
    assert (
        "canary" not in f"{[secret]} {(secret,)!r} {vars} {secret.__class__.__dict__}"
    )


def test_a_secret_is_never_serialised() -> None:
    secret = Secret("canary-y")

    for serialise in (pickle.dumps, copy.deepcopy, json.dumps, msgspec.json.encode):
        with pytest.raises(TypeError):
            serialise(secret)


def test_secrets_are_equal_by_their_text() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert 1 == len({Secret("a"), Secret("a")})
    assert Secret("a") and not Secret("")


@pytest.mark.parametrize(
    "secret", ["canary pass/word+&=", 'canary"quote\\', "caf\u00e9-canary"]
)
def test_what_was_made_a_secret_is_cut_in_every_writing(secret: str) -> None:
    Secret(secret)

    for text in (
        secret,
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        json.dumps({"a": secret}),
        json.dumps({"a": secret}, ensure_ascii=False),
        f"https://h/{quote(secret, safe='')}/x",
    ):
        assert "canary" not in redact(f"before {text} after")
        assert "canary" not in redact_url(text)


def test_a_very_short_secret_does_not_blank_out_everything() -> None:
    redactor = Redactor()
    redactor.learn("a")
    redactor.learn("")

    assert "a banana" == redactor.redact("a banana")


@pytest.mark.parametrize(
    ("url", "cut"),
    [
        ("https://u:canary@h/x", "https://****@h/x"),
        ("https://canary@h:1/", "https://****@h:1/"),
        ("https://h/?api_key=canary&a=b", "https://h/?api_key=****&a=b"),
        ("https://h/?a=b&access_token=canary", "https://h/?a=b&access_token=****"),
        ("https://h/?X-Amz-Signature=canary#f", "https://h/?X-Amz-Signature=****#f"),
        ("https://h/?PASSWORD=canary", "https://h/?PASSWORD=****"),
        ("https://h/?sig=canary;b=c", "https://h/?sig=****;b=c"),
        ("https://h/?a=b&token=", "https://h/?a=b&token="),
        ("https://h/a?page=2", "https://h/a?page=2"),
        ("/x?secret=canary", "/x?secret=****"),
    ],
)
def test_a_url_loses_login_and_credentials(url: str, cut: str) -> None:
    assert cut == Redactor().redact_url(url)
    assert cut in Redactor().redact(f"asked {url} and")


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer canary-abc",
        "'authorization': 'Basic canary=='",
        '{"Authorization": "Bearer canary"}',
        "Cookie: a=canary; b=canary",
        "set-cookie: canary=1; path=/",
        "Proxy-Authorization: canary",
        "sent bearer canary.abc.def",
        'required username="u" password="canary";',
        '{"client_secret": "canary"}',
        "api_key=canary",
        "token: canary",
        "SASL password=canary next",
    ],
)
def test_what_looks_like_a_credential_is_cut(text: str) -> None:
    cut = Redactor().redact(text)

    assert "canary" not in cut
    assert "****" in cut


@pytest.mark.parametrize(
    "text",
    [
        "fetched 500 records in 0.2 s",
        "https://api.example.com/v1/orders?page=2&limit=100",
        "key is missing",
        "basic idea",
        "{'a': 1}",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert text == Redactor().redact(text)


def test_long_text_takes_no_time() -> None:
    """Linear: a megabyte of what almost fits."""
    redactor = Redactor()

    for piece in ("a" * 64 + ".", "token", "http://", "?a=", "password ", "=;&"):
        redactor.redact(piece * (200_000 // len(piece)))


def test_names_of_credentials() -> None:
    for name in ("Authorization", "X-Api-Key", "access_token", "client-secret", "sig"):
        assert sensitive(name)
    for name in ("Accept", "page", "limit", "Content-Type"):
        assert not sensitive(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("token: the poll failed", "token: the poll failed"),
        ("Connector token: owns 3", "Connector token: owns 3"),
        ("Shard token: FAILED", "Shard token: FAILED"),
        ("token: one\ntoken: two", "token: one\ntoken: two"),
        ("the body says token: abc", "the body says token: ****"),
        ("token=abc", "token=****"),
        ("secret: abc", "secret: ****"),
    ],
)
def test_the_name_of_a_connector_is_no_secret_where_a_line_begins_with_it(
    text: str, shown: str
) -> None:
    redactor = Redactor()
    redactor.names("token", "orders")

    assert shown == redactor.redact(text)
