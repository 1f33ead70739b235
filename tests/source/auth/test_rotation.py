"""Several credentials in turn: whose turn it is, each with a budget of its own."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Denied
from engine.records import Request
from engine.shared.limiter import RateLimiter, RateLimits
from engine.shared.rates import Rate
from engine.source.auth.header import QueryAuth, bearer
from engine.source.auth.rotation import Rotation
from engine.source.fetch.limit import Limited, RateGate
from engine.source.fetch.policy import RetryPolicy
from engine.source.fetch.retry import Retrying
from engine.source.fetch.waits import Waits
from tests.fakes.clock import HandClock
from tests.fakes.misbehaving import Misbehaving, Peer, Say, perform
from tests.source.clients import Client, Stopping

PAGE = b'{"items":[1,2]}'
TOKENS = ("t-one", "t-two", "t-three")


class Rig:
    """One api with three tokens, its limiter and its retries."""

    def __init__(
        self, tmp_path: Path, url: str, limits: RateLimits | None = None
    ) -> None:
        for name in ("run", "state"):
            (tmp_path / name).mkdir(exist_ok=True)
        self.clock = HandClock()
        self.stopping = Stopping(self.clock)
        self.limiter = RateLimiter(
            (tmp_path / "run", tmp_path / "state"),
            "c",
            limits or RateLimits(),
            clock=self.clock,
        )
        self.auth = Rotation([bearer(each) for each in TOKENS])
        self.client = Client(url, auth=self.auth)
        gate = RateGate(
            self.limiter,
            stopping=self.stopping,
            api="a",
            waits=Waits(),
            turns=lambda: self.auth,
            clock=self.clock,
        )
        self.fetch = Retrying(
            Limited(self.client.http, gate),
            RetryPolicy(),
            stopping=self.stopping,
            counters=self.client.counters,
            refresh=lambda response, stale: (
                response is not None and self.auth.refresh(response, stale)
            ),
            rate_gate=gate,
        )

    def get(self, target: str = "/") -> int:
        return self.fetch(Request("GET", f"{self.client.url}{target}")).status


def sent(server: Misbehaving) -> list[str]:
    return [
        (asked.header("authorization") or "").removeprefix("Bearer ")
        for asked in server.asked
    ]


def test_they_take_turns(tmp_path: Path) -> None:
    with Misbehaving(Say(body=PAGE)) as server:
        rig = Rig(tmp_path, server.url)
        for _ in range(7):
            rig.get()

        assert [*TOKENS, *TOKENS, TOKENS[0]] == sent(server)


def test_each_has_the_rate_for_itself(tmp_path: Path) -> None:
    limits = RateLimits(rate=Rate(1.0, "TOKEN_BUCKET", 1))
    with Misbehaving(Say(body=PAGE)) as server:
        rig = Rig(tmp_path, server.url, limits)
        began = rig.clock.monotonic()
        for _ in range(30):
            rig.get()
        took = rig.clock.monotonic() - began

        # Three budgets of one a second: 30 requests in 9 s, where one would take 29.
        assert 8.5 <= took <= 10.5
        assert {10} == set(Counter(sent(server)).values())


@pytest.mark.parametrize(
    "refusal",
    [
        Say(429, headers=[("Retry-After", "60")]),
        Say(403, headers=[("X-RateLimit-Remaining", "0"), ("Retry-After", "60")]),
    ],
)
def test_one_that_is_spent_makes_only_itself_wait(tmp_path: Path, refusal: Say) -> None:
    def act(peer: Peer) -> None:
        spent = peer.asked.header("authorization") == "Bearer t-two"
        perform(refusal if spent else Say(body=PAGE), peer)

    with Misbehaving(act) as server:
        rig = Rig(tmp_path, server.url)
        for _ in range(9):
            assert 200 == rig.get()

        # Its page goes to the next one at once, and nothing waits for it.
        assert 1 == sent(server).count("t-two")
        assert sum(rig.stopping.waits) < 1.0


def test_where_all_are_spent_the_soonest_is_waited_for(tmp_path: Path) -> None:
    seconds = {"t-one": "50", "t-two": "20", "t-three": "40"}
    refused: set[str] = set()

    def act(peer: Peer) -> None:
        token = (peer.asked.header("authorization") or "").removeprefix("Bearer ")
        if token in refused:
            perform(Say(body=PAGE), peer)
            return
        refused.add(token)
        perform(Say(429, headers=[("Retry-After", seconds[token])]), peer)

    with Misbehaving(act) as server:
        rig = Rig(tmp_path, server.url)
        began = rig.clock.monotonic()
        assert 200 == rig.get()

        assert [*TOKENS, "t-two"] == sent(server)
        assert 19 <= rig.clock.monotonic() - began <= 26


def test_one_that_is_refused_is_left_out_and_all_are_a_failure(tmp_path: Path) -> None:
    bad = {"t-two"}

    def act(peer: Peer) -> None:
        token = (peer.asked.header("authorization") or "").removeprefix("Bearer ")
        perform(Say(401) if token in bad else Say(body=PAGE), peer)

    with Misbehaving(act) as server:
        rig = Rig(tmp_path, server.url)
        for _ in range(6):
            assert 200 == rig.get()
        assert 1 == sent(server).count("t-two")

        bad |= set(TOKENS)
        for _ in range(2):
            with pytest.raises(Denied):
                rig.get()


def test_threads_send_what_was_admitted(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    def act(peer: Peer) -> None:
        seen.append((peer.asked.target, peer.asked.header("authorization") or ""))
        perform(Say(body=PAGE), peer)

    with Misbehaving(act) as server:
        auth = Rotation([QueryAuth("key", f"k{n}") for n in range(3)])
        client = Client(server.url, auth=auth)

        def work() -> None:
            for _ in range(20):
                named = auth.pick("h", lambda host: 0.0)
                assert auth.current("h") == named
                client.get(f"/x?mine={named.rpartition('#')[2]}")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)

    pairs: list[Any] = [target.split("?")[1].split("&") for target, _ in seen]
    assert 80 == len(pairs)
    assert all(int(m.split("=")[1]) - 1 == int(k.split("=k")[1]) for m, k in pairs)
