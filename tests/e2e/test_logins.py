"""Logins from the command line: one for all tasks, over kills; cookies of a poll."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from pathlib import Path

import pytest

from tests.e2e.conftest import Make
from tests.e2e.rig import until
from tests.fakes.misbehaving import Misbehaving, Peer, Say, perform

pytestmark = pytest.mark.slow

CANARY = "c4n4ry-5ecret"


class Portal:
    """Pages behind a session that the server ends after some requests."""

    def __init__(self, pages: int, uses: int) -> None:
        self.pages = pages
        self.uses = uses
        self.left = 0
        self.logins: list[bytes] = []
        self.lock = threading.Lock()

    def __call__(self, peer: Peer) -> None:
        asked = peer.asked
        with self.lock:
            if asked.target == "/login":
                self.logins.append(asked.body)
                self.left = self.uses
                token = {"session": {"id": f"{CANARY}-{len(self.logins)}"}}
                say = Say(201, json.dumps(token).encode())
            elif (
                asked.header("x-session") != f"{CANARY}-{len(self.logins)}"
                or self.left == 0
            ):
                say = Say(403, b'{"message":"session expired"}')
            else:
                self.left -= 1
                page = int(re.findall(r"page=(\d+)", asked.target)[0])
                found = [{"id": page}] if page <= self.pages else []
                say = Say(body=json.dumps({"items": found}).encode())
        perform(say, peer)


def test_one_login_serves_all_tasks_over_kills(make: Make) -> None:
    portal = Portal(pages=200, uses=80)
    with Misbehaving(portal) as server:
        setup = make(
            f"{server.url}/things",
            {
                "tasks.max": 3,
                "pagination.type": "page",
                "pagination.limit.value": 1,
                "auth.type": "LOGIN",
                "auth.login.url": "/login",
                "auth.login.body": '{"user": "${user}", "password": "${password}"}',
                "auth.login.token.path": "session.id",
                "auth.login.send.name": "X-Session",
                "auth.renew.status": "401,403",
                "connection.user": "me",
                "connection.password": f'{CANARY}"&',
                "http.source.poll.interval.ms": 3600000,
                "rate.limit.requests.per.second": 300,
                "log.level": "DEBUG",
            },
        )
        setup.file.chmod(0o600)
        with setup.running() as running:
            until(lambda: setup.arrived() > 40, "some pages")
            [victim, *_] = running.tasks().values()
            os.kill(victim, signal.SIGKILL)
            until(
                lambda: len({*setup.values()}) == portal.pages, "all pages over a kill"
            )
            done = running.end()

    # The API ends a session after so many pages; each end is one login, whoever sees it.
    assert (
        json.dumps({"user": "me", "password": f'{CANARY}"&'}).encode()
        == portal.logins[0]
    )
    assert len(portal.logins) <= 1 + (portal.pages * 2) // portal.uses
    assert 0 == done.code, done.err
    assert CANARY not in done.err + done.out
    for name in ("state.dir", "cache.dir"):
        for file in Path(str(setup.keys[name])).rglob("*"):
            if file.is_file():
                assert CANARY.encode() not in file.read_bytes(), file
    assert CANARY not in str(setup.seen())


def test_pages_that_a_cookie_leads_to(make: Make) -> None:
    def act(peer: Peer) -> None:
        cookie = peer.asked.header("cookie") or ""
        at = int(re.findall(r"at=(\d+)", cookie)[0]) if "at=" in cookie else 0
        page = int(re.findall(r"page=(\d+)", peer.asked.target)[0])
        body = {"items": [{"id": at}] if page <= 3 else []}
        headers = [
            ("Set-Cookie", f"at={at + 1}; Path=/"),
            ("Cache-Control", "max-age=60"),
        ]
        perform(Say(body=json.dumps(body).encode(), headers=headers), peer)

    with Misbehaving(act) as server:
        setup = make(
            f"{server.url}/things",
            {
                "pagination.type": "page",
                "pagination.limit.value": 1,
                "http.cookies": "POLL",
                "cache.enabled": "true",
            },
        )
        for _ in range(2):
            done = setup.once()
            assert 0 == done.code, done.err
        asked = [each.header("cookie") for each in server.asked]

    # A poll begins without: the second run's first page is that of the first.
    assert [None, "at=1", "at=2", "at=3"] * 2 == asked
