"""
The cache beside no cache, against an API that does whatever HTTP allows.

Its documents change by chance, their answers state by chance what may be done with
them, redirect, vary, contradict themselves; runs follow each other, some are killed.
The API's own log says which version was current when.  After each run that ended,
what Kafka has last of a document must have been current not longer ago than the API
itself allowed; and in the end both connectors, with the cache and without it, must
have the same.

`CACHE_MODEL_ROUNDS` makes it longer (8), SEED repeats one.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from email.utils import formatdate

import pytest

from tests.brokers import Broker
from tests.e2e.rig import Running, Setup, seeded
from tests.fakes.api import Answer, Api, Asked

ROUNDS = int(os.environ.get("CACHE_MODEL_ROUNDS") or 8)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 60 * ROUNDS)]

DOCUMENTS = 6

#: The longest lifetime that any answer states, in seconds.
LIFETIME = 2.0


class Document:
    """A document, its versions, and when each of them was replaced."""

    def __init__(self, name: str, dice: random.Random) -> None:
        self.name = name
        self.dice = dice
        self.lock = threading.Lock()
        self.version = 0
        #: A content that comes back: versions of it look the same.
        self.contents = [0]
        self.replaced: list[float] = []
        self.moves = True

    def change(self) -> None:
        with self.lock:
            self.replaced.append(time.time())
            self.version += 1
            # To and fro between few contents: A-B-A is the rule, not the exception.
            others = [n for n in range(3) if n != self.contents[-1]]
            self.contents.append(self.dice.choice(others))

    def current(self, since: float) -> set[int]:
        """The contents that were current at some time since then."""
        with self.lock:
            ends = [*self.replaced, float("inf")]
            return {
                content
                for content, end in zip(self.contents, ends, strict=True)
                if end >= since
            }

    def answer(self, asked: Asked) -> Answer:
        with self.lock:
            version, content = self.version, self.contents[-1]
        headers, strong = self._headers(version, content)
        if asked.path.endswith("/moved") or self.dice.random() > 0.25:
            pass
        elif self.dice.random() < 0.5:
            # The target is another one for each version, and fresh for a year.
            target = f"{asked.path.partition('/at/')[0]}/at/{version}"
            return 302, [("Location", target), *headers], b""
        if "/at/" in asked.path:
            headers = [("Cache-Control", "max-age=31536000, immutable")]
            content = self.contents[int(asked.path.rpartition("/")[2])]
            return 200, headers, self._body(content, asked)
        known = asked.headers.get("if-none-match")
        if known is not None and known.removeprefix("W/") == strong:
            return 304, headers, b""
        if known is not None and self.dice.random() < 0.2:
            # A lie that can be told: not modified, but of another entity tag.
            return 304, [("ETag", f'"other-{version}"')], b""
        return 200, headers, self._body(content, asked)

    def _body(self, content: int, asked: Asked) -> bytes:
        tenant = asked.headers.get("x-tenant", "none")
        record = {"doc": self.name, "content": content, "tenant": tenant}
        return json.dumps({"items": [record], "served": time.time()}).encode()

    def _headers(self, version: int, content: int) -> tuple[list, str]:
        strong = f'"{self.name}-{content}"'
        now = time.time()
        dice = self.dice
        headers: list[tuple[str, str]] = []
        if dice.random() < 0.9:
            headers.append(
                ("Date", formatdate(now + dice.choice([0, 0, -5, 5]), usegmt=True))
            )
        headers += dice.choice(
            [
                [],
                [("ETag", strong)],
                [("ETag", f"W/{strong}")],
                [("ETag", "*")],
                [("ETag", f"{self.name}")],
                # Within its own second it says nothing.
                [("Last-Modified", formatdate(now, usegmt=True))],
                [("ETag", strong), ("Last-Modified", formatdate(now - 5, usegmt=True))],
            ]
        )
        headers += dice.choice(
            [
                [],
                [],
                [("Cache-Control", "max-age=1")],
                [("Cache-Control", "no-cache, max-age=3600")],
                [("Cache-Control", "no-store, max-age=3600")],
                [("Cache-Control", "max-age=0, stale-while-revalidate=3600")],
                [("Cache-Control", "s-maxage=3600")],
                [("Cache-Control", "max-age=-1")],
                [("Cache-Control", "max-age=1, stale-if-error=60")],
                [("Expires", "0")],
                [
                    (
                        "Expires",
                        formatdate(now + 3600, usegmt=True).replace("GMT", "UTC"),
                    )
                ],
                [("Expires", formatdate(now + 3600))],
                [("Cache-Control", "max-age=3600"), ("Vary", "*")],
                [("Cache-Control", "max-age=3600"), ("Age", "7200")],
                [("Pragma", "no-cache")],
            ]
        )
        headers += dice.choice(
            [[], [("Vary", "X-Tenant")], [("Vary", "Accept, Cookie")]]
        )
        return headers, strong


def connector(
    folder, url: str, broker: Broker, documents: list[Document], enabled: bool
) -> Setup:
    folder.mkdir()
    keys: dict[str, object] = {
        "cache.enabled": str(enabled).lower(),
        "kafka.key": "${record.doc}",
        "http.source.header.X-Tenant": "on" if enabled else "off",
        "apis.num": len(documents),
        "max.retries": 0,
    }
    setup = Setup(folder, f"{url}/{documents[0].name}", broker, keys)
    for number, document in enumerate(documents, 1):
        keys[f"api{number}.http.source.url"] = f"{url}/{document.name}"
        keys[f"api{number}.kafka.topic"] = setup.topic
    setup.write(**keys)
    return setup


def last(setup: Setup) -> dict[str, int]:
    """Document -> the content that Kafka has last of it."""
    if not setup.arrived():
        return {}
    values = [json.loads(value) for value in setup.values()]
    tenant = "on" if setup.keys["cache.enabled"] == "true" else "off"
    # Nobody has been given another one's answer.
    assert {tenant} == {value["tenant"] for value in values}
    return {value["doc"]: value["content"] for value in values}


def test_the_cache_never_changes_what_is_delivered(tmp_path, embedded: Broker) -> None:
    dice, seed = seeded()
    documents = [Document(f"d{n}", random.Random(seed + n)) for n in range(DOCUMENTS)]
    with Api() as api:
        for document in documents:
            api.route(f"/{document.name}", document.answer)
            for version in range(2000):
                api.route(f"/{document.name}/at/{version}", document.answer)
        with_cache, without = (
            connector(tmp_path / name, api.url, embedded, documents, name == "on")
            for name in ("on", "off")
        )
        for _ in range(ROUNDS):
            for document in documents:
                if dice.random() < 0.5:
                    document.change()
            began = time.time()
            if dice.random() < 0.3:
                killed(with_cache, dice)
                continue
            done = with_cache.once()
            assert 0 == done.code, (seed, done.err)
            for name, content in last(with_cache).items():
                [document] = [each for each in documents if each.name == name]
                allowed = document.current(began - LIFETIME)
                assert content in allowed, (seed, name, content, document.contents)
        for document in documents:
            document.change()
        # What may still be fresh is no longer.
        quiet = time.time() + LIFETIME
        while time.time() < quiet:
            time.sleep(0.05)
        for setup in (with_cache, without):
            for _ in range(2):
                done = setup.once()
                assert 0 == done.code, (seed, done.err)

        truth = {each.name: each.contents[-1] for each in documents}
        assert (seed, truth) == (seed, last(without))
        assert (seed, truth) == (seed, last(with_cache))


def killed(setup: Setup, dice: random.Random) -> None:
    """A run that is killed with all its children, at some moment."""
    with Running(setup.command("run", "--once"), setup.folder) as running:
        end = time.monotonic() + dice.uniform(0.5, 4.0)
        while time.monotonic() < end and running.process.poll() is None:
            time.sleep(0.02)
        for child in running.children():
            child.send_signal(signal.SIGKILL)
