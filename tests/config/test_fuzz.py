"""Whatever the bytes: a configuration or a ConfigError, in bounded time."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.config import ConfigError, load
from engine.config.entries import Findings
from engine.config.keys import TABLE
from engine.config.load import kind_of
from engine.config.properties import Properties
from tests.config.conftest import BASE
from tests.examples import examples

KEYS = sorted(name for name in TABLE if "<" not in name)

pieces = st.sampled_from(
    [
        *"=:#!\\ \t\n\r\"'[]{}$,;%/.~*?&\0",
        "\\u0041", "\\ud800", "${", "${env:X}", "${file:x}", "${now}", "$${", "}}",
        "api1.", "api2.", "name=", "\\\n", "[\n", "{\n", "]\n", " #", "true", "0", "-1",
        "1e9", "https://", "Authorization:", "\u00e9", "\U0001f600", *KEYS[::9],
    ]
)  # fmt: skip
texts = st.lists(pieces, max_size=40).map("".join)
lines = st.lists(
    st.tuples(st.sampled_from(KEYS), texts).map(lambda pair: f"{pair[0]}={pair[1]}"),
    max_size=6,
).map("\n".join)


def read(data: bytes, name: str = "x.properties") -> None:
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory, "base.properties")
        base.write_text(BASE)
        path = Path(directory, name)
        path.write_bytes(data)
        try:
            load([base, path], environment={"X": "y"})
        except ConfigError as error:
            assert error.findings
            assert str(error)


def bounded(count: int) -> settings:
    return settings(
        max_examples=examples(count),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


@bounded(300)
@given(st.binary(max_size=300))
@example(b"\xef\xbb\xbf")
@example(b"{")
@example(b"a=[")
def test_any_bytes(data: bytes) -> None:
    read(data)


@bounded(400)
@given(st.one_of(texts, lines))
@example("http.source.url=https://[")
@example('transformation.filter.expressions=[{"not": []}]')
@example("api1.=1")
@example("topic.creation.default.include=x")
@example("cache.dir=" + "x" * 300)
@example("cache.dir=~nobody-of-this-name/x")
def test_any_text(text: str) -> None:
    read(text.encode())


@bounded(150)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | texts,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(KEYS) | texts, inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_any_json(value: object) -> None:
    read(json.dumps(value).encode(), "x.json")


plain = st.text(
    st.characters(blacklist_characters="\0\r", blacklist_categories=["Cs"]), max_size=60
)


@bounded(300)
@given(plain)
def test_a_value_survives_being_written(value: str) -> None:
    """The round trip: escape as Java does, read it back."""
    escaped = "".join(
        {
            "\n": "\\n",
            "\t": "\\t",
            "\f": "\\f",
            "\\": "\\\\",
            " ": "\\ ",
            "#": "\\#",
        }.get(character, character)
        for character in value
    )
    findings = Findings()
    (document,) = Properties(
        f"connection.user={escaped}",
        file="x",
        near=Path(),
        public=False,
        kind_of=kind_of,
        findings=findings,
    ).documents()

    assert () == findings.errors
    assert value == document.entries["connection.user"].text


@pytest.mark.parametrize(
    "text",
    [
        "a=1\n" * 16384,
        "tasks.mxa=1\n" * 5461,
        "cache.warming.patterns=[\n" * 2621,
        "x=[\n" * 16384,
        "\\\n" * 32768,
        "k=" + "\\\n" * 32000,
        "kafka.key=" + "${" * 30000,
        "kafka.key=" + '"' * 60000,
        "http.source.headers=" + "a:b;" * 15000,
        "http.source.headers=" + ";" * 60000,
        "entity.names=" + "a," * 30000 + "a",
        "cache.warming.patterns=" + "[" * 60000,
        "cache.warming.patterns=[" + '"a",' * 15000 + '"a"]',
        "name=" + "a" * 60000,
        "name=a\n" * 9000,
        "".join(f"name=c{n}\n" for n in range(300)),
        "".join(f"api{n}.kafka.key=a\n" for n in range(1, 1000)),
        " " * 65000 + "a",
        "=" * 60000,
        "http.source.url=https://" + "a." * 30000,
    ],
    ids=lambda text: text[:20].encode("unicode_escape").decode() + str(len(text)),
)
def test_64_kib_of_anything_is_read_in_time(text: str) -> None:
    before = time.process_time()

    read(text.encode())
    assert time.process_time() - before < 5
