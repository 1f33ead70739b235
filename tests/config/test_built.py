"""What is not available yet: warned of by check, refused by run, by value."""

from __future__ import annotations

import fnmatch

import pytest

from engine.config.built import LATER, availability
from engine.config.keys import TABLE
from engine.config.reference import reference
from tests.config.conftest import Files

WINDOWS = "http.source.window.size.seconds=60\nhttp.source.window.start=2024-01-01\n"


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("group.id=g", "group.id=g"),
        ("heartbeat.interval.ms=5", "heartbeat.interval.ms"),
    ],
)
def test_a_value_that_asks_for_it_is_named(files: Files, text: str, asks: str) -> None:
    loaded = files.load(text + "\n")

    assert f"not available yet: {asks}" in [f.message for f in loaded.unbuilt]
    assert set(loaded.unbuilt) <= set(loaded.findings)
    assert all("warning" == f.severity and f.line for f in loaded.unbuilt)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "exactly.once.support=requested",
        "exactly.once.support=required",
        "transaction.boundary=interval",
        "exactly.once.support=disabled",
        "http.offset.mode=FULL",
        "http.offset.mode=SIMPLE_INCREMENTING",
        "http.offset.mode=INCREMENTAL\nhttp.offset.json.pointer=a",
        "cache.enabled=true",
        "cache.enabled=false\ncache.l1.max.size=5",
        "rate.limit.enabled=false",
        "jmx.enabled=false",
        "auto.scaling.enabled=false",
        "deduplication.enabled=false",
        "http.client.http2.enabled=false",
        "transaction.boundary=poll",
        WINDOWS,
        "http.offset.lookback=0",
        "http.offset.order=NONE",
        "listeners=none",
        "cache.schema.enabled=true",
    ],
)
def test_saying_no_is_never_refused(files: Files, text: str) -> None:
    assert () == files.load(text + "\n").unbuilt


def test_every_entry_of_the_list_is_a_key_with_such_a_value() -> None:
    for rule in LATER:
        for pattern in rule.keys:
            named = fnmatch.filter(TABLE, pattern)
            assert named, pattern
            for key in named if rule.values else ():
                allowed = TABLE[key].kind.allowed.lower()
                assert all(str(value).lower() in allowed for value in rule.values or ())


def test_explain_says_what_is_not_there() -> None:
    assert "not available yet" in availability("group.id")
    assert "" == availability("tasks.max")


def test_defaults_that_are_absent_are_named_once(files: Files) -> None:
    loaded = files.load("apis.num=2\napi1.kafka.key=a\napi2.kafka.key=b\n")

    assert len(loaded.absent) == len(set(loaded.absent))
    absent = {text.partition("=")[0] for text in loaded.absent}
    assert absent <= {key for rule in LATER for key in rule.keys}


def test_the_reference_says_what_is_not_there() -> None:
    assert "(Not available yet" in reference()
