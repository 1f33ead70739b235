"""Types and ranges, parametrised over the table itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.keys import TABLE
from engine.config.kinds import (
    INT64,
    Bool,
    Choice,
    Codes,
    Int,
    InvalidValue,
    Number,
    StatusCodes,
    Url,
)
from engine.config.sections.key import Computed, Key

HERE = Path()

#: Never a number, of whatever kind.
NOT_NUMBERS = [
    " ",
    "abc",
    "1e3",
    "0x10",
    "\u0967\u0968",
    "\u0663",
    "1_000",
    "10k",
    "NaN",
    "inf",
    "Infinity",
    "+1",
    "1 000",
    "--1",
    "-",
    "1.",
    ".5",
]

KEYS = [key for key in TABLE.values() if "<" not in key.name]
INTS = [key for key in KEYS if isinstance(key.kind, Int)]
NUMBERS = [key for key in KEYS if isinstance(key.kind, Number)]
BOOLS = [key for key in KEYS if isinstance(key.kind, Bool)]
CHOICES = [key for key in KEYS if isinstance(key.kind, Choice)]


def named(key: Key) -> str:
    return key.name


def refuses(key: Key, text: str) -> bool:
    try:
        key.kind.read(text, HERE)
    except InvalidValue as error:
        assert str(error)
        return True
    return False


@pytest.mark.parametrize("key", INTS, ids=named)
def test_an_int_takes_digits_within_its_range_only(key: Key) -> None:
    kind = key.kind
    assert isinstance(kind, Int)

    refused = [
        *NOT_NUMBERS,
        "1.5",
        "1.0",
        "1" + "0" * 399,
        str(2**63),
        str(kind.low - 1),
    ]
    if kind.high < INT64:
        refused.append(str(kind.high + 1))
    if kind.nonzero:
        refused.append("0")
    for text in refused:
        assert refuses(key, text), text
    within = min(kind.low + 7, kind.high)
    for value in {kind.low, kind.high, within} - ({0} if kind.nonzero else set()):
        assert value == kind.read(str(value), HERE)
        assert type(kind.read(str(value), HERE)) is int


@pytest.mark.parametrize("key", NUMBERS, ids=named)
def test_a_number_is_finite_and_within_its_range(key: Key) -> None:
    kind = key.kind
    assert isinstance(kind, Number)

    refused = [*NOT_NUMBERS, "-1", "1" + "0" * 399]
    if kind.high is not None:
        refused.append(f"{kind.high + 1:f}")
    if kind.low > 0 or kind.above:
        refused.append("0")
    for text in refused:
        assert refuses(key, text), text
    middle = kind.low + (0.5 if kind.high is None else (kind.high - kind.low) / 2)
    text = f"{middle:.4f}"
    assert float(text) == kind.read(text, HERE)


@pytest.mark.parametrize("key", BOOLS, ids=named)
def test_a_bool_is_true_or_false(key: Key) -> None:
    for text in ("yes", "no", "1", "0", "on", "True ", " true", "t", "tru\u0435"):
        assert refuses(key, text), text
    for text in ("true", "TRUE", "True"):
        assert key.kind.read(text, HERE) is True
    assert key.kind.read("False", HERE) is False


@pytest.mark.parametrize("key", CHOICES, ids=named)
def test_a_choice_takes_any_case_and_hyphens(key: Key) -> None:
    kind = key.kind
    assert isinstance(kind, Choice)

    for word in kind.words:
        for text in (word, word.lower(), word.upper(), word.replace("_", "-")):
            assert word == kind.read(text, HERE)
    for text in ("", " ", "2", f"{kind.words[0]}x", "no such word"):
        assert refuses(key, text)


@pytest.mark.parametrize("key", KEYS, ids=named)
def test_default_and_example_are_of_their_own_kind(key: Key) -> None:
    if isinstance(key.default, str):
        key.kind.read(key.default, HERE)
    assert key.meaning.endswith(".")
    assert key.example
    if "${" not in key.example and "exists=True" not in repr(key.kind):
        key.kind.read(key.example, HERE)


def test_the_decided_defaults_stand() -> None:
    """The values that were chosen with care, as they would be written."""
    decided = {
        "tasks.max": "1",
        "http.source.poll.interval.ms": "60000",
        "pagination.limit.value": "100",
        "pagination.max.pages": "1000",
        "pagination.concurrent.enabled": "false",
        "pagination.concurrent.max.threads": "4",
        "pagination.concurrent.queue.size": "50",
        "transformation.enabled": "true",
        "transformation.batch.size": "1000",
        "transformation.max.record.size.bytes": "1048576",
        "http.client.max.connections": "20",
        "http.client.max.connections.per.route": "10",
        "http.client.request.timeout.ms": "60000",
        "http.client.max.response.size.bytes": "10485760",
        "http.client.compression.types": "gzip,deflate",
        "http.client.dns.cache.ttl.seconds": "60",
        "cache.enabled": "true",
        "cache.response.ttl.seconds": "0",
        "cache.max.memory.bytes": "268435456",
        "cache.l1.max.size": "1000",
        "cache.l2.max.size": "5000",
        "cache.l3.max.size": "10000",
        "rate.limit.enabled": "false",
        "rate.limit.requests.per.second": "10",
        "producer.batch.size": "262144",
        "producer.linger.ms": "5",
        "producer.buffer.memory": "33554432",
        "producer.acks": "all",
        "producer.request.timeout.ms": "15000",
        "producer.delivery.timeout.ms": "30000",
        "max.retries": "5",
        "retry.on.status.codes": "408,425,429,500,502-504",
        "circuit.breaker.failure.threshold": "5",
        "errors.tolerance": "none",
        "exactly.once.support": "requested",
        "offsets.storage.topic": "kafka-http-source-offsets",
        "offset.storage.partitions": "25",
        "task.heartbeat.timeout.ms": "30000",
        "task.restart.limit": "10",
        "http.redirects.max": "5",
        "listeners": "http://127.0.0.1:8080,http://[::1]:8080",
    }

    assert decided == {name: TABLE[name].default for name in decided}


def test_every_section_of_the_table_is_there() -> None:
    """Nothing computed lacks words, nothing is written down twice."""
    for key in TABLE.values():
        assert key.scope in "ACTP"
        if isinstance(key.default, Computed):
            assert key.default.words


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("404", [404], [403, 405]),
        ("404,408,500-599", [404, 408, 500, 599], [405, 499]),
        ("500-", [500, 599], [499]),
        ("200-203, 207", [200, 203, 207], [204, 206]),
    ],
)
def test_codes_are_ranges(text: str, inside: list[int], outside: list[int]) -> None:
    codes = StatusCodes().read(text, HERE)

    assert isinstance(codes, Codes)
    assert all(code in codes for code in inside)
    assert not any(code in codes for code in outside)
    assert codes == StatusCodes().read(str(codes), HERE)


@pytest.mark.parametrize(
    "text", ["", "abc", "99", "600", "500-400", "4xx", "404,,500", "-500", "1000"]
)
def test_what_is_no_code_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        StatusCodes().read(text, HERE)


@pytest.mark.parametrize(
    "text",
    [
        "https://api.example.com",
        "http://127.0.0.1:8080/a?b=c",
        "HTTPS://API.example.com/",
        "http://[::1]:80/x",
        "https://xn--bcher-kva.example/",
        "https://b\u00fccher.example/",
        "http://localhost:1/",
        "http://service_name:65535/%20x",
    ],
)
def test_a_url_is_absolute_http(text: str) -> None:
    assert text == Url().read(text, HERE)


@pytest.mark.parametrize(
    "text",
    [
        "api.example.com/x",
        "/x",
        "ftp://a/b",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http:/a",
        "http://",
        "http:///x",
        "http://a b/",
        "http://a/\tb",
        "http://a/\r\nX: y",
        "http://a%0d%0ab/",
        "http://a/x%0D%0Ay",
        "http://u:p@a/",
        "http://u@a/",
        "http://a:0/",
        "http://a:65536/",
        "http://a:abc/",
        "http://::1/",
        "http://[::1/",
        "http://[::1%25eth0]/",
        "http://[zz]/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://1.2.3.4.5/",
        "http://a/#b",
        "http://-a-.example/",
        "http://a..b/",
        "http://a\\b/",
        "https://a/" + "x" * 8200,
    ],
)
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        Url().read(text, HERE)
