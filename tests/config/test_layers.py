"""Several files, layers under connectors, and overrides on top."""

from __future__ import annotations

import io

import pytest

from engine.config import ConfigError, load
from tests.config.conftest import BASE, Files


def test_without_any_name_all_files_are_one_connector(files: Files) -> None:
    first = files.write(BASE + "tasks.max=2\n", "orders.properties")
    second = files.write("tasks.max=3\n")

    (connector,) = load([first, second]).connectors
    assert ("orders", 3) == (connector.name, connector.values["tasks.max"])


def test_a_layer_lies_under_what_is_right_and_over_what_is_left(files: Files) -> None:
    key = "pagination.max.pages"
    left = files.write(BASE + f"name=left\ntasks.max=2\n{key}=1\n")
    layer = files.write(f"tasks.max=3\n{key}=2\n")
    right = files.write(BASE + f"name=right\n{key}=3\n")

    one, two = load([left, layer, right]).connectors

    assert (3, 2) == (one.values["tasks.max"], one.apis[0].values[key])
    assert (3, 3) == (two.values["tasks.max"], two.apis[0].values[key])


def test_two_documents_of_one_name_are_one_connector(files: Files) -> None:
    first = files.write(BASE + "name=a\ntasks.max=2\nkafka.key=x\n")
    second = files.write("name=a\ntasks.max=3\n")

    (connector,) = load([first, second]).connectors
    assert 3 == connector.values["tasks.max"]
    assert "x" == connector.apis[0].values["kafka.key"]


def test_a_nameless_base_lies_under_a_named_document(files: Files) -> None:
    base = files.write(BASE + "tasks.max=2\n")
    named = files.write("name=a\n")

    (connector,) = load([base, named]).connectors
    assert ("a", 2) == (connector.name, connector.values["tasks.max"])


def test_an_override_lies_on_top_and_is_taken_as_it_is(files: Files) -> None:
    loaded = files.load(
        "tasks.max=2\n", "tasks.max=3", "kafka.key=a # b\\d", "tasks.max=4"
    )
    connector = loaded.connectors[0]

    assert 4 == connector.values["tasks.max"]
    assert ("--set", 3) == connector.values.origin("tasks.max")
    assert "a # b\\d" == connector.apis[0].values["kafka.key"]


def test_an_empty_override_removes_the_key(files: Files) -> None:
    assert 1 == files.value("tasks.max=2\n", "tasks.max", "tasks.max=")


@pytest.mark.parametrize("override", ["tasks.max", "=3", "tasks.max=0", "nope=1"])
def test_a_bad_override_is_named(files: Files, override: str) -> None:
    (error,) = files.errors("", override)

    assert ("--set", 1) == (error.file, error.line)


def test_an_override_of_the_name_needs_a_single_connector(files: Files) -> None:
    assert "b" == files.load("name=a\n", "name=b").connectors[0].name

    (error,) = files.errors("name=a\nname=c\n", "name=b")
    assert "several connectors" in error.message


def test_standard_input_is_a_file_called_minus(files: Files) -> None:
    base = files.write(BASE)
    stdin = io.BytesIO(b"name=a\ntasks.max=2\n")

    connector = load([base, "-"], stdin=stdin).connectors[0]
    assert ("-", 2) == connector.values.origin("tasks.max")


def test_there_is_no_other_source_of_values(files: Files) -> None:
    """No variable stands for a key, and no file is read unasked."""
    loaded = files.load("", environment={"TASKS_MAX": "9", "tasks.max": "9"})

    assert 1 == loaded.connectors[0].values["tasks.max"]


def test_where_a_value_comes_from_stays_known(files: Files) -> None:
    base = files.write(BASE)
    path = files.write("\n\ntasks.max=${env:N}\n")
    values = load([base, path], environment={"N": "2"}).connectors[0].values

    assert (str(path), 3) == values.origin("tasks.max")
    assert "${env:N}" == values.text("tasks.max")
    assert values.stated("tasks.max") and not values.stated("name")
    assert values.origin("producer.acks") is None


def test_connectors_may_not_differ_on_what_the_process_has_once(files: Files) -> None:
    text = "name=a\nlog.level=INFO\nname=b\nlog.level={}\n"

    assert "INFO" == files.load(text.format("info")).process["log.level"]
    (error,) = files.errors(text.format("WARN"))
    assert 4 == error.line and "2 states another" in error.message


def test_a_fingerprint_says_what_a_reload_changed(files: Files) -> None:
    text = "apis.num=2\napi1.kafka.key=a\napi2.kafka.key={}\ntasks.max={}\n"
    before = files.load(text.format("b", 2)).connectors[0]
    same = files.load("# moved\n" + text.format("b", 2)).connectors[0]
    after = files.load(text.format("c", 2)).connectors[0]
    tasks = files.load(text.format("b", 3)).connectors[0]

    assert before.fingerprint == same.fingerprint
    assert before.apis[0].fingerprint == after.apis[0].fingerprint
    assert before.apis[1].fingerprint != after.apis[1].fingerprint
    assert before.fingerprint == after.fingerprint != tasks.fingerprint


def test_a_changed_secret_changes_the_fingerprint(files: Files) -> None:
    text = "auth.type=BEARER\nbearer.token=${env:T}\n"
    one, two = (
        files.load(text, environment={"T": token}).connectors[0].apis[0].fingerprint
        for token in ("token-1", "token-2")
    )

    assert one != two


def test_a_refused_load_carries_all_its_findings(files: Files) -> None:
    path = files.write("tasks.max=0\nproducer.acks=7\n")

    with pytest.raises(ConfigError) as caught:
        load([path])

    assert 2 <= len(caught.value.findings)
    assert all("error" == finding.severity for finding in caught.value.findings)
