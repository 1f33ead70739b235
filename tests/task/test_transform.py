"""Every key between a page and Kafka, seen where it has its effect."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.config import Connector, load
from engine.errors import RecordError
from engine.records import DeadLetter, Parcel, Shard
from engine.task.build.registry import Registries
from engine.task.build.transform import complaints_of, transform_of
from engine.transform.page import PageTransform
from tests.fakes.view import FakeClock
from tests.transform.pages import page_of, texts
from tests.transform.registry_server import registry_server

BASE = """
name=orders
http.source.url=https://api.example.com/v1/things
kafka.topic=things
bootstrap.servers=127.0.0.1:9092
"""
ALL = "errors.tolerance=all"

#: A record with blanks that no encoder of ours would write.
BLANK = b'{ "id" : 7, "n": null, "t": 1700000000, "x": "y" }'

MAPPING = 'transformation.field.mappings=[{"source":"id","target":"record_id"}]'
ENRICHING = 'transformation.enrichment.rules=[{"field":"e","value":1}]'
FILTER = (
    "transformation.filter.expressions="
    '[{"field":"id","operator":"less-than","value":5}]'
)
CHECK = 'transformation.validation.rules=[{"field":"id","max":5}]'

Make = Callable[..., PageTransform]


@pytest.fixture
def connector(tmp_path: Path) -> Callable[..., Connector]:
    def make(*keys: str) -> Connector:
        path = tmp_path / "c.properties"
        # A layer of its own may state again what the base states.
        base = tmp_path / "base.properties"
        base.write_text(BASE)
        path.write_text("\n".join(keys) + "\n")
        return load([base, path]).connectors[0]

    return make


@pytest.fixture
def made(connector: Callable[..., Connector]) -> Make:
    def make(*keys: str) -> PageTransform:
        one = connector(*keys)
        return transform_of(
            one,
            one.apis[0],
            Shard(one.name, "api1"),
            zone="UTC",
            registries=Registries(one),
        )

    return make


def values(compiled: PageTransform, *records: Any) -> list[str]:
    return texts(compiled(page_of(records)))


def test_the_switch_lets_the_apis_bytes_through_blanks_included(made: Make) -> None:
    rules = [MAPPING, ENRICHING, FILTER, CHECK]
    off = made("transformation.enabled=false", *rules)
    assert [BLANK.decode()] == values(off, BLANK)
    without = made("transformation.enabled=true")
    assert [BLANK.decode()] == values(without, BLANK)
    assert ['{"record_id":7}'] == values(made(MAPPING), BLANK)


def test_enrichment_and_validation_have_their_switches(made: Make) -> None:
    assert ['{"id":7,"e":1}'] == values(made(ENRICHING), {"id": 7})
    off = made(ENRICHING, "transformation.enrichment.enabled=false")
    assert ['{"id":7}'] == values(off, {"id": 7})

    with pytest.raises(RecordError, match=r"validation\.rules\[0\]: id is above max"):
        made(CHECK)(page_of([{"id": 7}]))
    off = made(CHECK, "transformation.validation.enabled=false")
    assert ['{"id":7}'] == values(off, {"id": 7})


def test_an_operator_may_be_spelled_as_enums_are(made: Make) -> None:
    assert ['{"id":4}'] == values(made(FILTER), {"id": 7}, {"id": 4})


def test_the_batch_size_bounds_what_is_decoded_at_once(made: Make) -> None:
    cut = made(MAPPING, "transformation.batch.size=100")
    assert 1000 == len(values(cut, *({"id": n} for n in range(1000))))
    assert 100 == cut.largest_batch


def test_the_record_limit_counts_key_value_and_headers(made: Make) -> None:
    keys = [ALL, "kafka.key=${id}", "kafka.headers=h:v"]
    record = b'{"id":7}'
    size = len(record) + len("7") + len("h") + len("v")
    fits = made(*keys, f"transformation.max.record.size.bytes={size}")
    assert [record.decode()] == values(fits, record)
    small = made(*keys, f"transformation.max.record.size.bytes={size - 1}")
    [letter] = small(page_of([record])).letters
    assert "size" == letter.stage
    assert f"{size} bytes, more than {size - 1}" in letter.message


def test_nulls_are_skipped_kept_or_refused(made: Make) -> None:
    mapping = 'transformation.field.mappings=[{"source":"n","target":"n"}]'
    key = "transformation.null.value.handling="
    assert ["{}"] == values(made(mapping), BLANK)
    assert ['{"n":null}'] == values(made(mapping, f"{key}KEEP"), BLANK)
    with pytest.raises(RecordError, match="null"):
        made(mapping, f"{key}FAIL")(page_of([BLANK]))


def test_unmapped_fields_are_dropped_or_kept(made: Make) -> None:
    keep = made(MAPPING, "transformation.unmapped.fields=KEEP")
    assert ['{"record_id":7,"x":"y"}'] == values(keep, {"id": 7, "x": "y"})


def test_topic_key_timestamp_and_headers_come_by_template(made: Make) -> None:
    compiled = made(
        "kafka.topic=t-${x}",
        "kafka.key=${id}",
        "kafka.timestamp=${t}",
        "kafka.headers=X-Id:${id};none:${n};text:a${x}",
    )
    parcel = compiled(page_of([BLANK]))
    assert ["t-y"] == parcel.topic
    assert [b"7"] == parcel.keys
    assert [1_700_000_000_000] == parcel.timestamps
    assert [(("X-Id", b"7"), ("text", b"ay"))] == parcel.headers


@pytest.mark.parametrize(
    ("converter", "expected"),
    [("Simple", b"a"), ("String", b"a"), ("Json", b'"a"')],
)
def test_the_header_converter_spells_headers(
    made: Make, converter: str, expected: bytes
) -> None:
    name = "org.apache.kafka.connect." + (
        "storage.SimpleHeader" if converter == "Simple" else f"json.{converter}"
    )
    if converter == "String":
        name = "org.apache.kafka.connect.storage.String"
    compiled = made(f"header.converter={name}Converter", "kafka.headers=h:${x}")
    assert [(("h", expected),)] == compiled(page_of([{"x": "a"}])).headers


def test_provenance_names_the_record_and_no_query(made: Make) -> None:
    compiled = made("kafka.headers.provenance.enabled=true")
    page = page_of([{"id": 1}, {"id": 2}], offset={"seq": 12})
    parcel = compiled(page)
    place = ("khttp-url", b"https://api.example.com/orders")
    assert [
        (("khttp-id", b"api1/12/0"), place),
        (("khttp-id", b"api1/12/1"), place),
    ] == parcel.headers


def test_what_was_acknowledged_within_the_window_is_not_produced(made: Make) -> None:
    compiled = made(
        "deduplication.enabled=true",
        "deduplication.key.fields=id",
        "deduplication.window.minutes=60",
    )
    first = compiled(page_of([{"id": 1}, {"id": 2}]))
    again = page_of([{"id": 2, "new": 1}, {"id": 3}])
    assert 2 == len(compiled(again).values), "not acknowledged yet"
    assert first.acknowledged is not None
    first.acknowledged()
    parcel = compiled(again)
    assert (['{"id":3}'], 1) == (texts(parcel), parcel.deduplicated)


def test_a_function_beside_the_file_gets_a_record_or_the_page(
    made: Make, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "def each(record, context):\n"
        "    return None if record['id'] == 1 else {**record, 'api': context.api}\n"
        "def page(records, context):\n"
        "    return [{'sum': sum(each['id'] for each in records)}]\n"
    )
    record = made("transformation.function=mine:each")
    parcel = record(page_of([{"id": 1}, {"id": 2}]))
    assert (['{"id":2,"api":"api1"}'], 1) == (texts(parcel), parcel.filtered)
    page = made(
        "transformation.function=mine:page", "transformation.function.unit=page"
    )
    parcel = page(page_of([{"id": 1}, {"id": 2}]))
    assert (['{"sum":3}'], 1) == (texts(parcel), parcel.filtered)


def test_debug_speaks_whatever_the_level_is(
    made: Make, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("transform")
    caplog.set_level(logging.WARNING)
    caplog.handler.setLevel(logging.NOTSET)
    try:
        made(MAPPING)(page_of([BLANK]))
        assert not caplog.records
        made(MAPPING, "transformation.debug.enabled=true")(page_of([BLANK] * 12))
    finally:
        logger.setLevel(logging.NOTSET)
    assert {"transform"} == {each.name for each in caplog.records}
    assert 10 == len(caplog.records)
    assert '-> {"record_id":7}' in caplog.text


def test_tolerance_none_stops_and_all_leaves_the_neighbours(made: Make) -> None:
    rows = [{"id": 1}, {"id": 7}, {"id": 2}]
    with pytest.raises(RecordError, match="record 1"):
        made(CHECK)(page_of(rows))
    parcel = made(CHECK, ALL)(page_of(rows))
    assert ['{"id":1}', '{"id":2}'] == texts(parcel)
    assert [1] == [letter.index for letter in parcel.letters]


def letters(count: int) -> Parcel:
    found = [
        DeadLetter(
            index=at,
            value=b'{"id":%d}' % at,
            stage="validate",
            cause="RecordError",
            message="too much",
        )
        for at in range(count)
    ]
    return Parcel(page=page_of([{}] * count), topic="t", values=[], letters=found)


def heard(
    connector: Connector, caplog: pytest.LogCaptureFixture, *, always: bool = False
) -> list[str]:
    clock = FakeClock()
    complaints = complaints_of(connector.values, always=always, clock=clock)
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        complaints.hear(Shard("orders", "api1"), letters(12))
        clock.pass_by(1.0)
        complaints.hear(Shard("orders", "api1"), letters(1))
    return [each.message for each in caplog.records]


def test_bad_records_are_said_ten_a_second_without_their_value(
    connector: Callable[..., Connector], caplog: pytest.LogCaptureFixture
) -> None:
    said = heard(connector(), caplog)
    assert 11 == len(said)
    assert "api1, page 3, record 0 is a bad record (validate): too much" == said[0]
    assert said[-1].endswith("(2 more not shown)")


def test_with_their_value_where_it_is_asked_for(
    connector: Callable[..., Connector], caplog: pytest.LogCaptureFixture
) -> None:
    said = heard(connector("errors.log.include.messages=true"), caplog)
    assert said[0].endswith('too much: {"id":0}')


def test_bad_records_can_be_kept_out_of_the_log_but_not_out_of_everything(
    connector: Callable[..., Connector], caplog: pytest.LogCaptureFixture
) -> None:
    quiet = connector("errors.log.enable=false")
    assert [] == heard(quiet, caplog)
    assert 11 == len(heard(quiet, caplog, always=True))


def test_each_value_converter_is_found_by_its_class(made: Make) -> None:
    string = made("value.converter=org.apache.kafka.connect.storage.StringConverter")
    assert ["abc"] == values(string, "abc")
    assert ['{"id":7}'] == values(string, {"id": 7})
    enveloped = made(
        "value.converter=org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable=true",
    )
    [text] = values(enveloped, {"id": 7})
    assert {"id": 7} == json.loads(text)["payload"]
    assert "struct" == json.loads(text)["schema"]["type"]
    octets = made(
        "value.converter=org.apache.kafka.connect.converters.ByteArrayConverter"
    )
    assert [BLANK.decode()] == values(octets, BLANK)


def test_names_are_sanitised_for_avro_where_the_key_says_so(made: Make) -> None:
    pytest.importorskip("engine.transform.avro")
    with registry_server() as server:
        keys = (
            ALL,
            "value.converter=io.confluent.connect.avro.AvroConverter",
            f"value.converter.schema.registry.url={server.url}",
        )
        (refused,) = made(*keys)(page_of([{"a-b": 1}])).letters
        assert "schema.names.sanitize" in refused.message
        assert made(*keys, "schema.names.sanitize=true")(page_of([{"a-b": 1}])).values
        (schema,) = server.schemas
        assert '"a_b"' in schema["schema"]
