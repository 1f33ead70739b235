"""`offsets get|reset` on states that no run of the connector has left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from engine.sink.state import COUNT_KEY, key_of
from tests.brokers import Broker
from tests.e2e.conftest import Make
from tests.e2e.rig import TYPES, Setup
from tests.fakes.api import Api

pytestmark = pytest.mark.slow


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(pages=4, records=50, size=120) as found:
        yield found


def paged(make: Make, api: Api, **keys: object) -> Setup:
    """A connector with a state topic of its own."""
    setup = make(f"{api.url}/page/0", {"pagination.type": "page", **TYPES["page"]})
    setup.write(**{"offsets.storage.topic": f"{setup.name}-offsets", **keys})
    return setup


def put(setup: Setup, partition: dict[str, str], value: bytes) -> None:
    """Store an offset as another tool would."""
    assert isinstance(setup.broker, Broker)
    client = Producer({"bootstrap.servers": setup.broker.address})
    key = key_of(setup.name, partition)
    client.produce(str(setup.keys["offsets.storage.topic"]), value, key)
    client.flush()


def offsets(setup: Setup) -> list[dict[str, object]]:
    found: list[dict[str, object]] = setup.call("offsets", "get", "--json").document[
        "offsets"
    ]
    return found


def test_who_looks_makes_no_topic(make: Make, api: Api, embedded: Broker) -> None:
    setup = paged(make, api)
    topic = str(setup.keys["offsets.storage.topic"])

    shown = setup.call("offsets", "get")
    forgotten = setup.call("offsets", "reset", "--yes")

    assert (0, "no offsets are stored\n") == (shown.code, shown.out)
    assert (0, "0 offsets forgotten\n") == (forgotten.code, forgotten.out)
    assert 0 == embedded.partitions(topic)


def test_who_looks_writes_nothing_into_anothers_topic(
    make: Make, api: Api, broker: Broker
) -> None:
    setup = paged(make, api)
    foreign = broker.create(f"{setup.name}-foreign", 2, cleanup_policy="compact")
    setup.write(
        **{"offsets.storage.topic": foreign, "bootstrap.servers": broker.address}
    )
    setup.broker = broker
    client = Producer({"bootstrap.servers": broker.address})
    client.produce(foreign, b"{}", b'["other",{"api":"api1"}]')
    client.produce(foreign, b"1", b'"a key of another kind"')
    client.flush()

    assert [] == offsets(setup)
    assert 0 == setup.call("offsets", "reset", "--yes").code

    keys = [each.key for each in broker.read(foreign)]
    assert 2 == len(keys)
    assert COUNT_KEY not in keys


def test_a_topic_that_is_no_state_topic_is_named(
    make: Make, api: Api, embedded: Broker
) -> None:
    setup = paged(make, api)
    foreign = embedded.create(f"{setup.name}-foreign", 1, cleanup_policy="delete")
    setup.write(**{"offsets.storage.topic": foreign})

    for words in (["get"], ["reset", "--yes"]):
        done = setup.call("offsets", *words)

        assert 78 == done.code, done.err
        assert foreign in done.err
        assert "Traceback" not in done.err


def test_keys_of_a_stranger_are_passed_over_with_one_warning(
    make: Make, api: Api, embedded: Broker
) -> None:
    setup = paged(make, api)
    foreign = embedded.create(f"{setup.name}-foreign", 1, cleanup_policy="compact")
    client = Producer({"bootstrap.servers": embedded.address})
    for key in (b"no JSON", b"\xff\0", b"7-up"):
        client.produce(foreign, b"x", key)
    client.flush()
    setup.write(**{"offsets.storage.topic": foreign})

    for words in (["get"], ["reset", "--yes"]):
        done = setup.call("offsets", *words)

        assert 0 == done.code, done.err
        assert 1 == done.err.count("no JSON")
        assert f"{foreign}-0 offset 0" in done.err


def test_an_offset_that_cannot_be_read_is_named_and_can_be_forgotten(
    make: Make, api: Api
) -> None:
    setup = paged(make, api)
    assert 0 == setup.once().code
    put(setup, {"api": "api1"}, b"{half")

    shown, run = setup.call("offsets", "get"), setup.once()
    for done in (shown, run):
        assert 65 == done.code, done.err
        assert f"{setup.keys['offsets.storage.topic']}-" in done.err
        assert "offsets reset forgets it" in done.err
    reset = setup.call("offsets", "reset", "--yes")
    again = setup.once()

    assert (0, "1 offset forgotten\n") == (reset.code, reset.out), reset.err
    assert (0, 200) == (again.code, again.total["produced"]), again.err


@pytest.mark.parametrize(
    ("partition", "value", "reason"),
    [
        ({"api": "api1"}, {"poll": 1, "done": False, "cursor": "x"}, "cursor"),
        ({"api": "api1"}, {"poll": "two", "done": False, "page": 3}, "poll"),
        ({"api": "api1", "shard": "x/y"}, {"poll": 1, "done": False}, "x/y"),
        ({"api": "api1", "shard": "3/2"}, {"poll": 1, "done": False}, "3/2"),
    ],
)
def test_an_offset_that_fits_nothing_hides_no_other(
    make: Make,
    api: Api,
    partition: dict[str, str],
    value: dict[str, object],
    reason: str,
) -> None:
    setup = paged(make, api)
    assert 0 == setup.once().code
    put(setup, {"api": "gone"}, b'{"page":1}')
    put(setup, partition, json.dumps(value).encode())

    text, document = (
        setup.call("offsets", "get"),
        setup.call("offsets", "get", "--json"),
    )
    run = setup.once()

    assert [65, 65] == [text.code, document.code]
    found = document.document["offsets"]
    assert "gone" == found[-1]["partition"]["api"]
    [wrong] = [each for each in found if each["error"]]
    assert partition == wrong["partition"]
    assert reason in wrong["error"]
    assert wrong["error"] in text.out
    # And it is never taken for a beginning.
    assert 65 == run.code, run.err
    assert "Traceback" not in run.err + text.err
    assert 0 == setup.call("offsets", "reset", "--yes").code
    assert 0 == setup.once().code


def test_shards_stand_in_the_order_of_the_file(make: Make, api: Api) -> None:
    setup = paged(
        make,
        api,
        **{
            "http.source.url": None,
            "pagination.type": None,
            "pagination.limit.value": None,
            "tasks.max": 11,
            "apis.num": 2,
            "api1.api.name": "zebras",
            "api1.http.source.url": f"{api.url}/page/0",
            "api1.pagination.type": "page",
            "api1.pagination.limit.value": 50,
            "api2.api.name": "ants",
            "api2.http.source.url": f"{api.url}/none/0",
        },
    )
    assert 0 == setup.once().code

    places = [each["partition"] for each in offsets(setup)]

    assert 11 <= len(places)
    assert {"api": "ants"} == places[-1]
    shards = [str(each["shard"]) for each in places[:-1]]  # type: ignore[index]
    count = len(shards)
    assert [f"{index}/{count}" for index in range(count)] == shards


def test_only_an_api_that_is_somewhere_is_forgotten(make: Make, api: Api) -> None:
    setup = paged(make, api)
    assert 0 == setup.once().code
    put(setup, {"api": "gone"}, b'{"page":1}')

    unknown = setup.call("offsets", "reset", "--yes", "--api", "ap1")
    gone = setup.call("offsets", "reset", "--yes", "--api", "gone")
    left = offsets(setup)

    assert 78 == unknown.code
    assert "api1" in unknown.err
    assert (0, "1 offset forgotten\n") == (gone.code, gone.out)
    assert [{"api": "api1"}] == [each["partition"] for each in left]


def test_files_are_looked_at_and_forgotten_as_a_topic_is(make: Make, api: Api) -> None:
    setup = make(f"{api.url}/page/0", {"pagination.type": "page", **TYPES["page"]})
    folder = setup.folder / "offsets"
    setup.write(**{"offset.storage.file.filename": folder})

    assert [] == offsets(setup)
    assert not folder.exists()
    assert 0 == setup.once().code
    [stored] = offsets(setup)
    file = min(folder.glob("*.offset"))
    file.write_bytes(b"00000000" + file.read_bytes()[8:])
    damaged = setup.call("offsets", "get")
    run = setup.once()

    assert stored["next"]
    for done in (damaged, run):
        assert 65 == done.code
        assert str(file) in done.err
        assert "offsets reset" not in done.err, "it may be another connector's"
