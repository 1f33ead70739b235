"""One api without prefix, several with one."""

from __future__ import annotations

import pytest

from tests.config.conftest import Files


def test_one_api_needs_no_prefix(files: Files) -> None:
    (api,) = files.load("kafka.key=k\n").connectors[0].apis

    assert ("api1", 1, "k") == (api.name, api.index, api.values["kafka.key"])


def test_the_prefix_wins_over_the_default_of_all(files: Files) -> None:
    text = "max.retries=7\napi1.kafka.key=a\napi2.kafka.key=b\napi2.max.retries=9\n"
    one, two = files.load(text).connectors[0].apis

    assert ("a", 7) == (one.values["kafka.key"], one.values["max.retries"])
    assert ("b", 9) == (two.values["kafka.key"], two.values["max.retries"])
    assert ["api1", "api2"] == [one.name, two.name]


def test_names_are_given_and_unique(files: Files) -> None:
    text = "api1.api.name=orders\napi2.api.name={}\n"

    names = [api.name for api in files.load(text.format("users")).connectors[0].apis]
    assert ["orders", "users"] == names
    (error,) = files.errors(text.format("orders"))
    assert "api1" in error.message and 2 == error.line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("api1.kafka.key=a\napi3.kafka.key=b\n", "gap in the numbering: api2"),
        ("apis.num=1\napi1.kafka.key=a\napi2.kafka.key=b\n", "above apis.num=1"),
        ("apis.num=3\napi1.kafka.key=a\napi2.kafka.key=b\n", "api3 has no key"),
        ("api1.tasks.max=2\n", "leave out api1"),
        ("api1.producer.buffer.memory=1048576\n", "leave out api1"),
        ("api1.pagination.concurrent.queue.size=2\n", "leave out api1"),
        ("api1.log.level=INFO\n", "value a process"),
        ("api1.name=x\n", "leave out api1"),
        ("api0.kafka.key=a\n", "unknown key"),
        ("api01.kafka.key=a\n", "unknown key"),
        ("api1.kafka.kye=a\n", "unknown key"),
        ("apis.num=0\n", "int 1..1000"),
        ("api1001.kafka.key=x\n", "above"),
    ],
)
def test_numbers_have_no_gap_and_prefixes_belong_to_apis(
    files: Files, text: str, said: str
) -> None:
    errors = files.errors(text)

    assert any(said in error.message for error in errors), errors


def test_a_wrong_key_behind_a_prefix_is_guessed_with_it(files: Files) -> None:
    (error,) = files.errors("api1.kafka.tpic=a\n")

    assert "api1.kafka.topic" == error.nearest


def test_keys_of_an_api_that_begin_with_api_need_no_number(files: Files) -> None:
    text = "auth.type=API_KEY\napi.key.value=x\napi.key.name=X\napi.name=n\n"
    (api,) = files.load(text).connectors[0].apis

    assert ("n", "X") == (api.name, api.values["api.key.name"])


def test_an_empty_key_of_an_api_falls_back_to_the_default_of_all(files: Files) -> None:
    text = "kafka.key=a\napi1.kafka.key=b\napi1.max.retries=1\n"

    assert "a" == files.value(text, "kafka.key", "api1.kafka.key=")


def test_an_api_may_tick_its_own_way(files: Files) -> None:
    interval, schedule = "http.source.poll.interval.ms", "http.source.poll.schedule"
    text = f"{interval}=5000\napi1.kafka.key=a\napi2.{schedule}=@hourly\n"
    one, two = files.load(text).connectors[0].apis

    assert (5000, None) == (one.values[interval], one.values[schedule])
    assert "0 0 * * * *" == two.values[schedule]
    assert not two.values.stated(interval)


def test_parents_are_found_by_name_and_number(files: Files) -> None:
    text = (
        "api1.api.name=orders\n"
        "api2.api.chaining.parent=orders\napi2.api.chaining.extract.field=id\n"
        "api3.api.chaining.parent=api2\napi3.api.chaining.extract.field=id\n"
    )
    connector = files.load(text).connectors[0]
    one, two, three = connector.apis

    assert one == connector.parent(two)
    assert [two, one] == connector.ancestors(three)
    assert [three] == connector.children(two)
    assert connector.parent(one) is None
