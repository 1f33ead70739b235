"""Every pagination type on every broker: records in are records in the topic."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.e2e.rig import TYPES, Setup
from tests.fakes.api import Api

pytestmark = pytest.mark.slow

PARTITIONS = 3

#: JSON that means the same when it is written anew, and is not the same bytes.
ODD = [
    b'{ "blanks" : [ 1 , 2 ] }',
    b'{"b":1,"a":2,"b":3}',
    b'{"n":1.0,"e":1e3,"big":123456789012345678901234567890,"zero":-0}',
    '{"raw":"é\U0001f600","escaped":"\\u00e9\\ud83d\\ude00\\/"}'.encode(),
    b'"text"',
    b"17",
    b"[]",
    b"{}",
    b"false",
]


def keys_of(urls: dict[str, str], setup: Setup, **more: object) -> dict[str, object]:
    """One api for each type, each with a topic of its own."""
    keys: dict[str, object] = {
        "http.source.url": None,
        "kafka.topic": None,
        "http.response.data.json.pointer": None,
        **more,
    }
    for number, (kind, url) in enumerate(urls.items(), 1):
        place = TYPES.get(kind, {}).get("http.response.data.json.pointer", "items")
        own = {
            "api.name": kind.replace("_", "-"),
            "http.source.url": url,
            "kafka.topic": f"{setup.topic}-{kind}",
            "pagination.type": kind if kind in TYPES else "none",
            **TYPES.get(kind, {}),
            "http.response.data.json.pointer": place,
        }
        keys |= {f"api{number}.{key}": value for key, value in own.items()}
    return {**keys, "apis.num": len(urls)}


@pytest.mark.parametrize("ahead", ["false", "true"])
def test_each_byte_in_page_order_for_each_partition(
    tmp_path: Path, broker: Broker, ahead: str
) -> None:
    with Api(pages=12, records=50, size=120, latency=0.005) as api:
        body = b'{"items": [' + b" ,\n".join(ODD) + b"]}"
        api.route("/odd", lambda asked: (200, [], body))
        setup = Setup(tmp_path, "", broker)
        urls = {kind: f"{api.url}/{kind}/0" for kind in TYPES}
        urls["odd"] = f"{api.url}/odd"
        setup.write(
            **keys_of(
                urls, setup, **{"pagination.concurrent.enabled": ahead, "tasks.max": 2}
            )
        )
        for kind in urls:
            broker.create(f"{setup.topic}-{kind}", PARTITIONS)
        done = setup.once()
        sent = {kind: api.all_records() for kind in TYPES}
    sent["odd"] = ODD

    assert 0 == done.code, done.err
    assert sum(map(len, sent.values())) == done.total["produced"]
    assert done.total["received"] == done.total["produced"]
    for kind, values in sent.items():
        seen = broker.read(f"{setup.topic}-{kind}")
        assert sorted(values) == sorted(each.value or b"" for each in seen), kind
        place = {value: at for at, value in enumerate(values)}
        for partition in range(PARTITIONS):
            places = [place[s.value or b""] for s in seen if s.partition == partition]
            assert sorted(places) == places, (kind, partition)
