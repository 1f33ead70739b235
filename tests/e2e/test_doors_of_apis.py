"""Ways in, from the file to what the API sees; `preview` asks as `run` does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from engine.source.auth.digest import Challenge, answer
from tests.e2e.test_source_keys import items, previewed, said
from tests.fakes.api import Answer, Api, Asked

pytestmark = pytest.mark.slow


@pytest.fixture
def api() -> object:
    with Api(pages=1) as found:
        yield found


def test_a_password_grant_whose_answer_says_where_requests_go(
    tmp_path: Path, api: Api
) -> None:
    with Api(pages=1) as instance:
        instance.route("/v9/x", lambda asked: said(items(1)))
        found = {"access_token": "tok", "instance_url": f"{instance.url}/v9"}
        api.route("/token", lambda asked: said(found, status=201))
        host = instance.url.removeprefix("http://")

        done = previewed(
            tmp_path,
            api,
            {
                "auth.type": "OAUTH2",
                "oauth2.grant.type": "password",
                "oauth2.token.url": f"{api.url}/token",
                "oauth2.client.id": "me",
                "oauth2.client.auth.mode": "NONE",
                "oauth2.username": "ann",
                "oauth2.password": "canary",
                "oauth2.token.request.format": "JSON",
                "oauth2.token.type": "Zoho-oauthtoken",
                "oauth2.base.url.property": "instance_url",
                "oauth2.base.url.hosts": host,
            },
        )

        assert 0 == done.code, done.err
        [token] = api.log
        assert {
            "grant_type": "password", "username": "ann", "password": "canary",
            "client_id": "me",
        } == json.loads(token.body)  # fmt: skip
        [page] = instance.log
        assert "Zoho-oauthtoken tok" == page.headers["authorization"]
    assert "canary" not in done.out + done.err


def test_several_credentials_take_turns(tmp_path: Path, api: Api) -> None:
    def page(asked: Asked) -> Answer:
        at = int(asked.query["offset"])
        return said(items(at) if at < 3 else items())

    api.route("/x", page)

    done = previewed(
        tmp_path,
        api,
        {
            "pagination.type": "offset",
            "pagination.limit.value": 1,
            "auth.type": "API_KEY",
            "api.key.location": "QUERY",
            "api.key.name": "k",
            "auth.credentials": "canary-1,canary-2",
        },
    )

    assert 0 == done.code, done.err
    keys = [asked.query["k"] for asked in api.log]
    assert ["canary-1", "canary-2", "canary-1", "canary-2"] == keys
    assert "canary" not in done.out + done.err


def test_digest(tmp_path: Path, api: Api) -> None:
    def page(asked: Asked) -> Answer:
        header = asked.headers.get("authorization", "")
        line = 'Digest realm="r", nonce="n1", qop="auth", algorithm=SHA-256'
        found = dict(re.findall(r'(\w+)="?([^",]*)"?', header.removeprefix("Digest ")))
        if not found:
            return said({}, ("WWW-Authenticate", line), status=401)
        challenge = Challenge(
            realm="r", nonce="n1", opaque=None, algorithm="SHA-256", qop=True,
            userhash=False, utf8=False, count=int(found["nc"], 16),
        )  # fmt: skip
        wanted = answer(
            challenge, user="me", password="canary", method="GET", target="/x",
            cnonce=found["cnonce"],
        )  # fmt: skip
        return said(items(1)) if wanted == header else said({}, status=403)

    api.route("/x", page)

    done = previewed(
        tmp_path,
        api,
        {
            "auth.type": "DIGEST",
            "connection.user": "me",
            "connection.password": "canary",
        },
    )

    assert 0 == done.code, done.err
    assert 2 == len(api.log)
    assert "canary" not in done.out + done.err
