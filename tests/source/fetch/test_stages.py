"""Stages: with detailed metrics, a request says what its time went to."""

from __future__ import annotations

import pytest

from engine.records import Request
from engine.source.fetch.limit import Limited, RateGate
from engine.source.fetch.waits import Waits
from engine.source.wire.dns import Resolver
from engine.source.wire.http1 import Http
from engine.source.wire.options import HttpOptions
from engine.source.wire.origin import AddressRules, AllowedOrigins, origin_of
from engine.source.wire.pool import Pool, PoolOptions
from engine.source.wire.tls import TlsOptions
from tests.fakes.clock import HandClock
from tests.fakes.misbehaving import Misbehaving, Say, authority_pem, server_tls
from tests.source.clients import Stopping

#: Names in the order in which they are told, by whether the connection is new.
PLAIN = (["dns", "connect", "first_byte", "body"], ["first_byte", "body"])
SECURE = (["dns", "connect", "tls", "first_byte", "body"], ["first_byte", "body"])


@pytest.mark.parametrize(
    ("secure", "names"), [(False, PLAIN), (True, SECURE)], ids=["http", "https"]
)
def test_a_new_connection_tells_more_stages_than_a_kept_one(
    secure: bool, names: tuple[list[str], list[str]]
) -> None:
    told: list[tuple[str, float]] = []
    with Misbehaving(
        Say(body=b"[1,2]"), tls=server_tls() if secure else None
    ) as server:
        origin = origin_of(server.url)
        http = Http(
            HttpOptions(
                tls=TlsOptions(ca_pem=authority_pem()),
                borders=AllowedOrigins((origin,), ()),
                addresses=AddressRules(home=(origin.host,)),
            ),
            pool=Pool(PoolOptions()),
            resolver=Resolver(60.0),
            stage=lambda name, seconds: told.append((name, seconds)),
        )
        for expected in names:
            told.clear()
            http(Request("GET", f"{server.url}/"))

            assert expected == [name for name, _ in told]
            assert all(0 <= seconds < 5 for _, seconds in told)


class Slow:
    """A limiter that wants half a second once."""

    def reserve(self, host: str, api: str) -> float:
        return 0.5

    def recheck(self, host: str) -> float:
        return 0.0

    cause = "limiter"
    left = 0.5

    def observe(
        self, host: str, api: str, status: int, headers: list[tuple[str, str]]
    ) -> None:
        pass


def test_the_wait_for_a_token_is_a_stage() -> None:
    told: list[tuple[str, float]] = []
    clock = HandClock()
    rate_gate = RateGate(
        Slow(),
        stopping=Stopping(clock),
        api="api1",
        waits=Waits(),
        clock=clock,
        stage=lambda name, seconds: told.append((name, seconds)),
    )

    with Misbehaving(Say(body=b"[]")) as server:
        origin = origin_of(server.url)
        http = Http(
            HttpOptions(
                borders=AllowedOrigins((origin,), ()),
                addresses=AddressRules(home=(origin.host,)),
            ),
            pool=Pool(PoolOptions()),
            resolver=Resolver(60.0),
        )
        Limited(http, rate_gate)(Request("GET", f"{server.url}/"))

    assert [("limiter", 0.5)] == told
