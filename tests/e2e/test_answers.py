"""What APIs answer, in real runs: what arrives, what is asked, how it ends, in what words."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.e2e.rig import Setup, until
from tests.fakes.misbehaving import Misbehaving, Peer, Say, perform

pytestmark = pytest.mark.slow

Make = Callable[..., Setup]

HTML = Say(
    body=b"<!DOCTYPE html><title>Down for maintenance</title>",
    headers=[("Content-Type", "text/html; charset=utf-8")],
)
GOOD = Say(body=b'{"items":[{"id":1},{"id":2}]}')


def by_path(**acts: Say) -> Callable[[Peer], None]:
    def act(peer: Peer) -> None:
        name = peer.asked.target.split("?")[0].strip("/")
        perform(acts[name], peer)

    return act


def test_each_api_says_what_became_of_it(make: Make) -> None:
    errors = b'{"data":null,"errors":[{"message":"Cannot query field x"}]}'
    answers = {
        "good": GOOD,
        "graphql": Say(body=errors),
        "html": HTML,
        "slack": Say(body=b'{"ok":false,"error":"invalid_auth"}'),
        "nobody": Say(status=401, body=b'{"message":"Requires authentication"}'),
        "empty": Say(body=b'{"error":{"code":"NO_DATA"}}'),
        "unchanged": Say(status=304, body=b"", length=""),
    }
    rule = {"field": "error.code", "equals": "NO_DATA", "action": "EMPTY"}
    with Misbehaving(by_path(**answers)) as server:
        keys: dict[str, object] = {
            "apis.num": len(answers),
            "max.retries": 1,
            "retry.backoff.ms": 5,
            "circuit.breaker.enabled": "false",
            "http.response.error.rules": json.dumps([rule]),
        }
        for number, name in enumerate(answers, 1):
            keys[f"api{number}.api.name"] = name
            keys[f"api{number}.http.source.url"] = f"{server.url}/{name}"
        keys["api7.http.source.headers"] = 'If-None-Match:"abc"'
        keys["api2.http.response.data.json.pointer"] = "data.x"
        done = make(server.url, keys).once()
        asked = [each.target.strip("/") for each in server.asked]

    rows = {row["api"]: row for row in done.document["connectors"][0]["apis"]}
    said = {name: row["error"] or "" for name, row in rows.items()}

    assert 65 == done.code, done.err
    assert [2, 0, 0, 0, 0, 0, 0] == [rows[name]["produced"] for name in answers]
    assert {
        "good": 1,
        "graphql": 1,
        "html": 2,
        "slack": 2,
        "nobody": 1,
        "empty": 1,
        "unchanged": 1,
    } == {name: asked.count(name) for name in answers}
    assert "" == said["good"] == said["empty"] == said["unchanged"]
    assert "Cannot query field x" in said["graphql"]
    assert "not JSON (text/html): <!DOCTYPE html>" in said["html"]
    assert "invalid_auth" in said["slack"]
    assert "auth.type" in said["nobody"]
    assert "Traceback" not in done.err


def test_a_maintenance_page_goes_by(make: Make) -> None:
    with Misbehaving(HTML, HTML, HTML, GOOD) as server:
        keys = {
            "max.retries": 0,
            "retry.backoff.ms": 20,
            "http.source.poll.interval.ms": 50,
        }
        setup = make(f"{server.url}/x", keys)
        with setup.running() as running:
            until(lambda: setup.arrived() >= 2, "the records after the page went by")
            said = running.err
            done = running.end()

    assert 0 == done.code, done.err
    assert "http.response.bad.page.patience.ms" in said
    assert "not JSON (text/html): <!DOCTYPE html>" in said


def test_a_page_that_stays_bad_is_failed_when_patience_ends(make: Make) -> None:
    with Misbehaving(HTML) as server:
        keys = {
            "max.retries": 0,
            "retry.backoff.ms": 20,
            "http.source.poll.interval.ms": 50,
            "http.response.bad.page.patience.ms": 1000,
        }
        setup = make(f"{server.url}/x", keys)
        with setup.running() as running:
            until(lambda: running.said(r"FAILED: .*not JSON"), "the verdict")
            first, last = server.asked[0].at, server.asked[-1].at
            done = running.end()

    assert 0.9 < last - first, done.err
