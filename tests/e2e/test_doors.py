"""Behind any door, from the command line; and no secret in anything that is written."""

from __future__ import annotations

import base64
import itertools
import json
import re
from pathlib import Path

import psutil
import pytest

from tests.brokers import Broker
from tests.e2e.admin import LISTENING, Admin, admin_of
from tests.e2e.conftest import Make
from tests.e2e.rig import Running, Setup, until
from tests.fakes.misbehaving import Misbehaving, Peer, Say, perform
from tests.source.auth.test_auth import TokenServer, digest_server

pytestmark = pytest.mark.slow

CANARY = "c4n4ry-5ecret"


def items(asked: Peer, pages: int = 8) -> Say:
    """Records of one page of so many, or none."""
    number = int((re.findall(r"[?&]page=(\d+)", asked.asked.target) or ["1"])[0])
    body = b'{"items":[%d]}' % number if number <= pages else b'{"items":[]}'
    return Say(body=body)


def test_digest_by_requests_own_class(make: Make) -> None:
    with Misbehaving(digest_server) as server:
        setup = make(
            server.url,
            {
                "http.auth.class": "requests.auth:HTTPDigestAuth",
                "connection.user": "me",
                "connection.password": "pw",
            },
        )
        done = setup.once()

    assert 0 == done.code, done.err
    assert [b"1", b"2"] == setup.values()


def test_one_token_serves_all_tasks_and_is_renewed_once(make: Make) -> None:
    tokens = TokenServer(expires_in=3600)
    refused = itertools.count()

    def act(peer: Peer) -> None:
        if peer.asked.target == "/token":
            tokens(peer)
        elif peer.asked.header("authorization") != f"Bearer {tokens.good}":
            next(refused)
            perform(Say(401), peer)
        else:
            if tokens.issued == 1 and len(server.asked) > 12:
                tokens.good = "revoked"
            perform(items(peer, 40), peer)

    with Misbehaving(act) as server:
        setup = make(
            f"{server.url}/things",
            {
                "tasks.max": 4,
                "pagination.type": "page",
                "pagination.limit.value": 1,
                "auth.type": "OAUTH2",
                "oauth2.token.url": f"{server.url}/token",
                "oauth2.client.id": "me",
                "oauth2.client.secret": CANARY,
            },
        )
        done = setup.once()

    assert 0 == done.code, done.err
    assert sorted(map(str, range(1, 41))) == sorted(v.decode() for v in setup.values())
    assert 2 == tokens.issued
    assert next(refused) > 0


DOORS = {
    "BASIC": {"connection.user": "me", "connection.password": CANARY},
    "BEARER": {"bearer.token": CANARY},
    "API_KEY": {
        "api.key.location": "QUERY",
        "api.key.name": "key",
        "api.key.value": CANARY,
    },
    "OAUTH2": {
        "oauth2.token.url": "${server}/token",
        "oauth2.client.id": "me",
        "oauth2.client.secret": CANARY,
        "oauth2.token.params": f"extra={CANARY}",
    },
    "LOGIN": {
        "auth.login.url": "${server}/token",
        "auth.login.body": '{"u": "${user}", "p": "${password}"}',
        "auth.login.token.path": "access_token",
        "auth.login.send.location": "QUERY",
        "connection.user": "me",
        "connection.password": CANARY,
    },
    "AWS_SIGV4": {
        "http.auth.aws.region": "eu-west-1",
        "http.auth.aws.service": "execute-api",
        "http.auth.aws.access.key.id": "AKID",
        "http.auth.aws.secret.access.key": CANARY,
        "http.auth.aws.session.token": CANARY,
    },
    "NONE": {
        "http.auth.class": "requests.auth:HTTPBasicAuth",
        "connection.user": "me",
        "connection.password": CANARY,
        "http.proxy.host": "127.0.0.1",
        "http.proxy.port": "${port}",
        "http.proxy.user": "me",
        "http.proxy.password": CANARY,
    },
}

#: The canary as it goes in headers by which a login is sent.
HIDDEN = (CANARY, base64.b64encode(f"me:{CANARY}".encode()).decode())


@pytest.mark.parametrize("kind", DOORS)
def test_a_secret_is_in_nothing_that_is_written(make: Make, kind: str) -> None:
    def echo(peer: Peer) -> None:
        """A refusal that says again what it was asked with."""
        asked = peer.asked
        if asked.target == "/token":
            token = {"access_token": f"{CANARY}-token", "expires_in": 3600}
            perform(Say(body=json.dumps(token).encode()), peer)
            return
        if next(turns) == 0:
            perform(Say(body=b'{"items":[{"id":1},{"id":7}]}'), peer)
            return
        told = json.dumps({"url": asked.target, "headers": dict(asked.headers)})
        perform(Say(400, told.encode()), peer)

    turns = itertools.count()
    with Misbehaving(echo) as server:
        door = {
            key: value.replace("${server}", server.url).replace(
                "${port}", str(server.port)
            )
            for key, value in DOORS[kind].items()
        }
        setup = make(
            f"{server.url}/things",
            {
                **LISTENING,
                **door,
                "auth.type": kind,
                "http.source.headers": f"X-API-Key: {CANARY}",
                "http.source.poll.interval.ms": 50,
                "behavior.on.error": "IGNORE",
                "log.level": "DEBUG",
                "transformation.enabled": "true",
                "errors.tolerance": "all",
                "errors.deadletterqueue.topic.name": "${connector}-letters",
                "transformation.validation.rules": '[{"field":"id","max":4}]',
            },
        )
        setup.file.chmod(0o600)
        with setup.running() as running:
            until(lambda: len(server.asked) > 3, "refused some times")
            admin = admin_of(setup, running)
            written = {**told_by(admin, setup), **known_of(running)}
            done = running.end()
        sent = [str(asked.headers) + asked.target for asked in server.asked]

    assert any(CANARY in each for each in sent)
    written |= {"stderr": done.err, "stdout": done.out}
    for name in ("state.dir", "cache.dir", "runtime.dir"):
        for file in Path(str(setup.keys[name])).rglob("*"):
            if file.is_file():
                written[str(file)] = file.read_bytes().decode("latin-1")
    written["topic"] = str(setup.seen())
    assert isinstance(setup.broker, Broker)
    letters = setup.broker.read(f"{setup.name}-letters")
    assert letters, "or this shows nothing"
    written["letters"] = str(letters)
    assert "400" in written["stderr"]
    assert [] == [
        where
        for where, text in written.items()
        if any(hidden in text for hidden in HIDDEN)
    ]


def told_by(admin: Admin, setup: Setup) -> dict[str, str]:
    """Everything the admin process answers."""
    name = setup.name
    paths = ("/health", "/health/metrics", "/metrics", "/connectors?expand=info",
             f"/connectors/{name}/config", f"/connectors/{name}/status")  # fmt: skip
    return {path: admin.ask(path).body.decode() for path in paths}


def known_of(running: Running) -> dict[str, str]:
    """What the machine shows of each process."""
    found = {}
    for process in (psutil.Process(running.pid), *running.children()):
        for what in ("cmdline", "environ"):
            path = Path(f"/proc/{process.pid}/{what}")
            found[str(path)] = path.read_bytes().decode("latin-1")
    return found
