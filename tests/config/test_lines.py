"""Lines of a properties file: every rule of its syntax."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.config import ConfigError, load
from tests.config.conftest import BASE, Files


def test_a_bom_and_crlf_are_accepted(files: Files) -> None:
    loaded = files.load(b"\xef\xbb\xbfname=a\r\ntasks.max=2\r\n")

    assert "a" == loaded.connectors[0].name
    assert 2 == loaded.connectors[0].values["tasks.max"]


def test_the_last_line_needs_no_newline(files: Files) -> None:
    assert 3 == files.value("tasks.max=3", "tasks.max")


@pytest.mark.parametrize(
    ("data", "said", "line"),
    [
        (b"name=a\nx=\0", "NUL at byte 9", 2),
        (b"name=a\rtasks.max=2", "CR without LF at byte 6", 1),
        (b"name=\xff\xfe", "not UTF-8 at byte 5", 1),
        (b"# " + b"x" * (1 << 20), "larger than", 0),
        (b"\n#" + b"x" * (1 << 16), "a line longer than", 2),
        (b"name", "no '='", 1),
        (b"=", "no key", 1),
        (b"=value", "no key", 1),
        (b"two words=1", "a key is made of", 1),
        (b"name=a\\", "joins nothing", 1),
        (b"name=a\\\n", "joins nothing", 1),
        (b"kafka.key=\\u12", "backslash before", 1),
        (b"kafka.key=\\ud800", "half of a surrogate pair", 1),
        (b"kafka.key=\\u0000", "NUL", 1),
    ],
)
def test_a_bad_line_is_named(files: Files, data: bytes, said: str, line: int) -> None:
    (error,) = files.errors(data)

    assert said in error.message
    assert line == error.line


def test_a_line_of_64_kib_is_accepted(files: Files) -> None:
    files.load("#" + "x" * ((1 << 16) - 1))


def test_blank_lines_and_comments_are_skipped(files: Files) -> None:
    text = "\n  # one\n\t! two\n   \ntasks.max=2\n"

    assert 2 == files.value(text, "tasks.max")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("kafka.key=abc", "abc"),
        ("kafka.key:abc", "abc"),
        ("kafka.key = abc", "abc"),
        ("kafka.key \t:\t abc", "abc"),
        ("kafka.key=a=b:c", "a=b:c"),
        ("kafka.key:=abc", "=abc"),
        ("kafka.key=abc  \t ", "abc"),
        ("kafka.key=abc\\u0020", "abc "),
        ("kafka.key=abc\\ ", "abc "),
        ("kafka.key=abc\\  ", "abc "),
        ("kafka.key=\\ abc", " abc"),
        ("kafka.key=a\\\\b", "a\\b"),
        ("kafka.key=a\\=b\\:c\\#d\\!e", "a=b:c#d!e"),
        ("kafka.key=\\u00e9\\ud83d\\ude00", "\u00e9\U0001f600"),
        ("kafka.key=ab\\\n   cd", "abcd"),
        ("kafka.key=ab\\\n   cd\\\n\tef", "abcdef"),
        ("kafka.key=ab\\\\", "ab\\"),
        ("kafka.key=a#b", "a#b"),
        ("kafka.key=#b", "#b"),
        ("kafka.key=a \\#b", "a #b"),
        ("kafka.key=a!b", "a!b"),
    ],
)
def test_a_value_is_read_as_java_reads_it(files: Files, line: str, value: str) -> None:
    assert value == files.value(line, "kafka.key")


@pytest.mark.parametrize("letter", ["d", "s", "x", '"', "$", "'"])
def test_any_other_backslash_shows_the_doubled_form(files: Files, letter: str) -> None:
    (error,) = files.errors(f"kafka.key=a\\{letter}b")

    assert f"\\\\{letter}" in error.message
    assert 1 == error.line


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("transformation.enabled=false  # why", "transformation.enabled", False),
        ("tasks.max=2\t# why", "tasks.max", 2),
        (
            "rate.limit.requests.per.second=2.5 # x",
            "rate.limit.requests.per.second",
            2.5,
        ),
        ("producer.batch.size=65536 # x", "producer.batch.size", 65536),
        ("producer.linger.ms=7 # x", "producer.linger.ms", 7),
        ("cache.eviction.threshold=0.5 # x", "cache.eviction.threshold", 0.5),
        ("pagination.type=page # x", "pagination.type", "page"),
        (
            "value.converter=StringConverter # x",
            "value.converter",
            "StringConverter",
        ),
        (
            "http.source.poll.schedule=0 0 * * * * # hourly",
            "http.source.poll.schedule",
            "0 0 * * * *",
        ),
        ("entity.names=a, b # x", "entity.names", ("a", "b")),
        (
            'http.source.endpoints=["https://a.example.com"] # x',
            "http.source.endpoints",
            ["https://a.example.com"],
        ),
        ("http.api.base.url=https://a/b # x", "http.api.base.url", "https://a/b"),
        ("http.api.base.url=https://a/b  #", "http.api.base.url", "https://a/b"),
        (
            "http.response.data.json.pointer=a.b # x",
            "http.response.data.json.pointer",
            "a.b",
        ),
        (
            "http.response.data.json.pointer='a # b'.c # x",
            "http.response.data.json.pointer",
            "'a # b'.c",
        ),
        (
            'http.response.data.json.pointer="a # b".c # x',
            "http.response.data.json.pointer",
            '"a # b".c',
        ),
        ("offsets.storage.topic=t # x", "offsets.storage.topic", "t"),
        ("kafka.topic=t # x", "kafka.topic", "t"),
        ("tasks.max=2 # C:\\", "tasks.max", 2),
        ("tasks.max=\\\n  2 # x", "tasks.max", 2),
    ],
)
def test_a_blank_and_a_hash_end_what_cannot_hold_them(
    files: Files, line: str, key: str, value: object
) -> None:
    assert value == files.value(line + "\npagination.max.pages=9", key)


@pytest.mark.parametrize(
    "line",
    [
        "name=a # b",
        "kafka.key=a # b",
        "kafka.key= # b",
        "http.source.headers=A:b # c",
        "http.source.header.A=b # c",
        "bearer.token=abc # d",
        "http.source.query.params=a=b # c",
        "connection.user=a\t# b",
    ],
)
def test_a_blank_and_a_hash_in_text_are_refused(files: Files, line: str) -> None:
    (error,) = files.errors(line + "\n")

    assert "\\#" in error.message and "line of its own" in error.message
    assert error.value is None


def test_quotes_protect_a_hash_in_text(files: Files) -> None:
    assert 'a "b # c"' == files.value('kafka.key=a "b # c"', "kafka.key")


def test_a_comment_behind_nothing_removes_the_key(files: Files) -> None:
    assert 1 == files.value("tasks.max= # none", "tasks.max")


def test_json_runs_over_lines(files: Files) -> None:
    text = """
transformation.field.mappings=[
  # the number, as text
  {"source": "id # no", "target": "record_id", "type": "STRING"},  # tail
  {"source": "x",
   "target": "y", "default": "]"}
]  # done
tasks.max=2
"""
    loaded = files.load(text)

    expected = [
        {"source": "id # no", "target": "record_id", "type": "STRING"},
        {"source": "x", "target": "y", "default": "]"},
    ]
    api = loaded.connectors[0].apis[0]
    assert expected == api.values["transformation.field.mappings"]
    assert 2 == loaded.connectors[0].values["tasks.max"]


def test_json_may_begin_on_a_joined_line_and_use_backslashes(files: Files) -> None:
    text = 'cache.warming.patterns=\\\n  ["a/*", \\\n   "b"]\n'

    assert ["a/*", "b"] == files.value(text, "cache.warming.patterns")


def test_only_jsons_own_escapes_count_in_json(files: Files) -> None:
    text = (
        'transformation.validation.rules=[{"field": "a", "pattern": "\\\\d+\\u0041"}]'
    )

    rules = files.value(text, "transformation.validation.rules")
    assert "\\d+A" == rules[0]["pattern"]


def test_a_body_in_json_runs_over_lines_and_keeps_its_escapes(files: Files) -> None:
    text = (
        "http.source.method=POST\n"
        "http.source.body={\n"
        '  "after": ${cursor},  # where we are\n'
        '  "text": "a\\n#"\n'
        "}\n"
    )

    expected = '{\n  "after": ${cursor},\n  "text": "a\\n#"\n}'
    assert expected == files.value(text, "http.source.body")


def test_a_body_that_is_no_json_takes_javas_escapes(files: Files) -> None:
    text = "http.source.method=POST\nhttp.source.body=a\\tb\n"

    assert "a\tb" == files.value(text, "http.source.body")


def test_brackets_that_never_close_are_one_error_at_their_line(files: Files) -> None:
    text = "a.b.c=1\ncache.warming.patterns=[\n  'a',\n\ntasks.max=0\nx.y=2\n"

    errors = files.errors(text)
    assert [1, 2, 5, 6] == [error.line for error in errors]
    assert "not closed" in errors[1].message


def test_json_of_more_than_1000_lines_is_refused(files: Files) -> None:
    longest = "cache.warming.patterns=[" + "\n" * 998 + '"a"\n]'
    assert ["a"] == files.value(longest, "cache.warming.patterns")

    (error,) = files.errors("cache.warming.patterns=[" + "\n" * 1000 + '"a"]')
    assert "not closed" in error.message


def test_an_unknown_key_with_json_costs_one_error(files: Files) -> None:
    (error,) = files.errors('no.such.thing={\n "a": [\n 1,\n 2]\n}\ntasks.max=2\n')

    assert "unknown key" == error.message


def test_a_bracket_inside_a_value_starts_nothing(files: Files) -> None:
    text = "http.source.url.pattern=https://api.example.com/[a-z\ntasks.max=2\n"

    (error,) = files.errors(text)
    assert "http.source.url.pattern" == error.key


def test_the_same_key_twice_names_both_lines(files: Files) -> None:
    for second in ("2", "3"):
        (error,) = files.errors(f"tasks.max=2\n\ntasks.max={second}\n")

        assert "lines 1 and 3" in error.message


def test_a_second_name_starts_a_second_connector(files: Files) -> None:
    text = (
        "tasks.max=4\npagination.max.pages=7\n"
        "name=one\nkafka.topic=a\n"
        "name=two\nkafka.topic=b\ntasks.max=2\n"
    )
    one, two = files.load(text).connectors

    assert ("one", "a", 4) == (
        one.name,
        one.apis[0].values["kafka.topic"],
        one.values["tasks.max"],
    )
    assert ("two", "b", 2) == (
        two.name,
        two.apis[0].values["kafka.topic"],
        two.values["tasks.max"],
    )
    assert 7 == two.apis[0].values["pagination.max.pages"]


def test_with_one_name_the_order_is_free(files: Files) -> None:
    loaded = files.load("tasks.max=4\nname=one\nkafka.topic=a\n")

    assert ["one"] == [connector.name for connector in loaded.connectors]
    assert 4 == loaded.connectors[0].values["tasks.max"]


def test_one_name_twice_in_a_file_is_an_error(files: Files) -> None:
    (error,) = files.errors("name=a\nname=a\n")

    assert "two connectors of one name" in error.message


def test_an_empty_value_forgets_the_lower_layer(files: Files) -> None:
    lower = files.write(BASE + "tasks.max=8\nkafka.key=${record.id}\n")
    upper = files.write("tasks.max=\nkafka.key=\n")

    connector = load([lower, upper]).connectors[0]

    assert 1 == connector.values["tasks.max"]
    assert not connector.values.stated("tasks.max")
    assert connector.apis[0].values["kafka.key"] is None


def test_an_unknown_key_names_the_nearest(files: Files) -> None:
    (error,) = files.errors("tasks.mx=2\n")

    assert ("unknown key", "tasks.max") == (error.message, error.nearest)


def test_every_error_of_every_file_comes_at_once(files: Files) -> None:
    first = files.write("tasks.max=0\nwhat.is.this=1\n")
    second = files.write("kafka.key=${nope(\npagination.type=curser\n")

    with pytest.raises(ConfigError) as caught:
        load([first, second])

    found = [(Path(f.file).name, f.line, f.key) for f in caught.value.findings]
    assert (first.name, 1, "tasks.max") in found
    assert (first.name, 2, "what.is.this") in found
    assert (second.name, 1, "kafka.key") in found
    assert (second.name, 2, "pagination.type") in found
    text = str(caught.value)
    assert f"{first}:1: tasks.max='0': out of range, allowed: int 1..256" in text
    assert "did you mean cursor?" in text


@pytest.mark.parametrize("what", ["missing", "directory", "fifo", "unreadable"])
def test_a_file_that_is_none_is_refused(
    files: Files, tmp_path: Path, what: str
) -> None:
    path = tmp_path / "x.properties"
    if what == "directory":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "unreadable":
        path.symlink_to(path)

    with pytest.raises(ConfigError) as caught:
        load([path])

    (error,) = caught.value.findings
    assert str(path) == error.file


def test_an_empty_file_lacks_everything(files: Files) -> None:
    with pytest.raises(ConfigError) as caught:
        files.alone("", "bootstrap.servers=127.0.0.1:9092")

    keys = {finding.key for finding in caught.value.findings}
    assert {"http.source.url", "kafka.topic"} == keys


def test_no_file_is_no_configuration() -> None:
    with pytest.raises(ConfigError):
        load([])


def test_every_mistake_of_a_list_is_found_with_its_line_and_column(
    files: Files,
) -> None:
    text = (
        "name=a\n"
        "transformation.field.mappings=[\n"
        '  {"source": "id", "target": "visit", "type": "STRNG"},\n'
        '  {"source": "ok", "target": "ok"},\n'
        '    {"sorce": "at", "target": "ok", "format": "x"},\n'
        "  7\n"
        "]\n"
        'transformation.enrichment.rules=[{"field": "", "expression": 1},\n'
        ' {"field": "a", "expression": "${b"}]\n'
        "retry.on.status.codes=404,9999,xx\n"
    )

    found = [
        (each.line, each.column, each.message.split(":")[0], each.nearest)
        for each in files.errors(text)
        if each.key.startswith(("transf", "retry"))
    ]

    assert found == [
        (3, 3, "rule 0", "STRING"),
        (5, 5, "rule 2", "source"),
        (5, 5, "rule 2", None),
        (5, 5, "rules 1 and 2 have the same target 'ok'", None),
        (6, 3, "rule 3", None),
        (8, 0, "rule 0", None),
        (8, 0, "rule 0", None),
        (9, 2, "rule 1", None),
        (10, 0, "item '9999', allowed", None),
        (10, 0, "item 'xx', allowed", None),
    ]


def test_what_is_no_error_is_told_beside_the_errors(files: Files) -> None:
    with pytest.raises(ConfigError) as caught:
        files.load("name=a\nhttp.request.headers=X:1\ntasks.max=none\n")

    assert ["tasks.max"] == [each.key for each in caught.value.findings]
    assert "http.request.headers" in {each.key for each in caught.value.beside}
    assert {"warning", "notice"} >= {each.severity for each in caught.value.beside}
