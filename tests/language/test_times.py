"""Times: the reading by size and by shape, patterns both ways."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from engine.language import (
    EvaluationError,
    LanguageError,
    compile_pattern,
    compile_zone,
    parse_timestamp,
)

BERLIN = compile_zone("Europe/Berlin")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (1700000000, 1_700_000_000_000),
        (-1700000000, -1_700_000_000_000),
        (99_999_999_999, 99_999_999_999_000),
        (100_000_000_000, 100_000_000_000),
        (1700000000123, 1_700_000_000_123),
        (99_999_999_999_999, 99_999_999_999_999),
        (100_000_000_000_000, 100_000_000_000),
        (1700000000123456, 1_700_000_000_123),
        (99_999_999_999_999_999, 99_999_999_999_999),
        (100_000_000_000_000_000, 100_000_000_000),
        (1700000000123456789, 1_700_000_000_123),
        (-1700000000123456789, -1_700_000_000_124),
        (Raw("1700000000.1239"), 1_700_000_000_123),
        (Raw("-1.5"), -1500),
        (Raw("-0.0001"), -1),
        (Raw("1.7e9"), 1_700_000_000_000),
        (1.5, 1500),
        ("1700000000", 1_700_000_000_000),
        ("1700000000123", 1_700_000_000_123),
        ("1.5", 1500),
        ("-1", -1000),
        ("2024-01-02", 1_704_153_600_000),
        ("2024-01-02T03:04", 1_704_164_640_000),
        ("2024-01-02T03:04:05", 1_704_164_645_000),
        ("2024-01-02 03:04:05", 1_704_164_645_000),
        ("2024-01-02T03:04:05Z", 1_704_164_645_000),
        ("2024-01-02t03:04:05z", 1_704_164_645_000),
        ("2024-01-02T03:04:05.1Z", 1_704_164_645_100),
        ("2024-01-02T03:04:05.123Z", 1_704_164_645_123),
        ("2024-01-02T03:04:05.1239999999Z", 1_704_164_645_123),
        ("2024-01-02T03:04:05,5Z", 1_704_164_645_500),
        ("2024-01-02T03:04:05+01", 1_704_161_045_000),
        ("2024-01-02T03:04:05+0130", 1_704_159_245_000),
        ("2024-01-02T03:04:05-01:30", 1_704_170_045_000),
        ("2024-01-02T24:00:00Z", 1_704_240_000_000),
        ("2023-12-31T23:59:60Z", 1_704_067_200_000),
        ("1969-12-31T23:59:59.999Z", -1),
        ("0001-01-01", -62_135_596_800_000),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777_000),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777_000),
        ("Sun Nov  6 08:49:37 1994", 784_111_777_000),
    ],
)
def test_a_time_is_read_as_epoch_milliseconds(value: object, expected: int) -> None:
    assert expected == parse_timestamp(value, UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mon, 15 Jan 2024 10:00:00 +0200", "2024-01-15T08:00:00Z"),
        ("Mon, 15 Jan 2024 10:00:00 -0530", "2024-01-15T15:30:00Z"),
        ("15 Jan 2024 10:00 EST", "2024-01-15T15:00:00Z"),
        ("Mon, 1 Jan 24 10:00:00 UT (comment)", "2024-01-01T10:00:00Z"),
        ("/Date(1705312800000)/", "2024-01-15T10:00:00Z"),
        ("/Date(1705312800000+0200)/", "2024-01-15T10:00:00Z"),
        ("\\/Date(-1000)\\/", "1969-12-31T23:59:59Z"),
        ("2024-01-15 10:00:00 UTC", "2024-01-15T10:00:00Z"),
        ("2024-01-15T10:00:00.5 GMT", "2024-01-15T10:00:00.500Z"),
        ("2024-01-15 UTC", "2024-01-15T00:00:00Z"),
    ],
)
def test_times_of_mail_and_of_other_worlds(text: str, expected: str) -> None:
    zone = compile_zone("Europe/Berlin")

    assert parse_timestamp(expected, zone) == parse_timestamp(text, zone)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "2024-13-01",
        "2024-02-30",
        "2024-01-02T25:00:00Z",
        "2024-01-02T24:00:01Z",
        "2024-01-02T03:60:00Z",
        "2024-01-02T03:04:61Z",
        "2024-01-02T03:04:05+24:00",
        "2024-01-02T03:04:05 Z",
        "20240102T030405Z",
        "2024-W01-1",
        "2024-W01-1T10:00:00Z",
        "02/01/2024",
        "15 Jan 2024 10:00:00 XYZ",
        "31 Feb 2024 10:00:00 GMT",
        "15 Jan 2024 10:00:00 +2500",
        "/Date(1e3)/",
        "2024-01-15T10:00:00+01:00 UTC",
        "1e9",
        "0x10",
        "\u0661\u0667",
        "Foo, 06 Xxx 1994 08:49:37 GMT",
        True,
        None,
        [],
        {},
        Raw("true"),
        Raw('"x"'),
        10**40,
        "9" * 70,
        Raw("1e400"),
        float("inf"),
    ],
)
def test_everything_else_is_no_time(value: object) -> None:
    with pytest.raises(EvaluationError):
        parse_timestamp(value, UTC)


def test_a_time_without_offset_is_the_zones() -> None:
    assert 1_704_161_045_000 == parse_timestamp("2024-01-02T03:04:05", BERLIN)
    assert 1_704_150_000_000 == parse_timestamp("2024-01-02", BERLIN)
    assert 1_704_164_645_000 == parse_timestamp("2024-01-02T03:04:05Z", BERLIN)
    assert 1_719_878_645_000 == parse_timestamp("2024-07-02 02:04:05", BERLIN)


def test_a_zone_that_is_none_is_refused() -> None:
    for name in ("Mars/X", "../etc/passwd", "", "Europe"):
        with pytest.raises(LanguageError):
            compile_zone(name)


@pytest.mark.parametrize(
    ("pattern", "text", "ms"),
    [
        ("yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "2024-01-02T03:04:05.678Z", 1_704_164_645_678),
        ("yyyy-MM-dd HH:mm:ssZ", "2024-01-02 03:04:05+0000", 1_704_164_645_000),
        ("yy/M/d H:mm", "24/1/2 3:04", 1_704_164_640_000),
        ("dd MMM yyyy", "02 Jan 2024", 1_704_153_600_000),
        ("EEE, dd MMM yyyy", "Tue, 02 Jan 2024", 1_704_153_600_000),
        ("hh:mm a", "12:04 AM", 240_000),
        ("hh:mm a", "03:04 PM", 54_240_000),
        ("X", "Z", 0),
        ("XX", "Z", 0),
        ("'o''clock' HH", "o'clock 01", 3_600_000),
        ("yyyy''MM", "2024'01", 1_704_067_200_000),
    ],
)
def test_a_pattern_writes_and_reads(pattern: str, text: str, ms: int) -> None:
    compiled = compile_pattern(pattern)

    assert text == compiled.format(ms, UTC)
    assert ms == compiled.parse(text, UTC)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("X", "+01"), ("XX", "+0100"), ("XXX", "+01:00"), ("Z", "+0100")],
)
def test_offsets_are_written_by_their_letters(pattern: str, text: str) -> None:
    compiled = compile_pattern(f"yyyy-MM-dd {pattern}")

    assert f"2024-01-02 {text}" == compiled.format(1_704_153_600_000, BERLIN)
    assert 1_704_150_000_000 == compiled.parse(f"2024-01-02 {text}", UTC)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("yyyy", "24"),
        ("MM", "13"),
        ("dd", "00"),
        ("HH", "25"),
        ("hh a", "13 PM"),
        ("hh a", "00 AM"),
        ("MMM", "Foo"),
        ("XXX", "+25:00"),
        ("yyyy-MM-dd", "2024-01-02 "),
        ("yyyy-MM-dd", "2024-02-30"),
    ],
)
def test_a_text_that_is_not_of_the_pattern_is_no_time(pattern: str, text: str) -> None:
    with pytest.raises(EvaluationError):
        parse_timestamp(text, UTC, compile_pattern(pattern))


@pytest.mark.parametrize(
    ("pattern", "column"),
    [
        ("qq", 1),
        ("yyyyMMM M D", 11),
        ("yyyyy", 1),
        ("'open", 1),
        ("HH:nn", 4),
        ("T", 1),
    ],
)
def test_a_pattern_of_unknown_letters_is_refused(pattern: str, column: int) -> None:
    with pytest.raises(LanguageError) as caught:
        compile_pattern(pattern)

    assert column == caught.value.column


moments = st.datetimes(
    min_value=datetime(1, 1, 2),
    max_value=datetime(9999, 12, 30),
    timezones=st.just(UTC),
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(
    moments, st.sampled_from(["milliseconds", "seconds", "microseconds"]), st.booleans()
)
def test_every_iso_time_is_read_exactly(
    moment: datetime, spec: Any, zulu: bool
) -> None:
    text = moment.isoformat(timespec=spec)
    if zulu:
        text = text.replace("+00:00", "Z")
    shown = datetime.fromisoformat(text)
    expected = (shown - EPOCH).days * 86_400_000 + (shown - EPOCH).seconds * 1000
    expected += (shown - EPOCH).microseconds // 1000

    assert expected == parse_timestamp(text, UTC)


# Before zones were whole minutes from UTC, no pattern can write them.
@given(st.integers(0, 253_402_200_000_000))
def test_a_full_pattern_is_a_round_trip(ms: int) -> None:
    pattern = compile_pattern("yyyy-MM-dd HH:mm:ss.SSS XXX")

    assert ms == pattern.parse(pattern.format(ms, UTC), UTC)
    assert ms == pattern.parse(pattern.format(ms, compile_zone("Asia/Kolkata")), UTC)
