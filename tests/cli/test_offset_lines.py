"""Lines of exported offsets: what is refused, by file and line; what positions mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.cli.offsetfile import FIELDS, read_lines
from engine.cli.offsetwords import again, meaning
from engine.config import Connector, load
from engine.errors import ConfigError, NoInput, StateError

BASE = (
    "name=orders\nhttp.source.url=https://api.example.com/v1/orders\n"
    "kafka.topic=orders\nbootstrap.servers=127.0.0.1:9092\n"
)


def connector_of(tmp_path: Path, text: str = "") -> Connector:
    file = tmp_path / "c.properties"
    file.write_text(BASE + text)
    return load([str(file)]).connectors[0]


def lines_of(tmp_path: Path, content: str | bytes, text: str = "") -> Any:
    connector = connector_of(tmp_path, text)
    file = tmp_path / "lines.jsonl"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_lines(file, {connector.name: connector}, "UTC")


def line(partition: Any = None, offset: Any = None, **more: Any) -> str:
    found = {
        "connector": "orders",
        "partition": {"api": "api1"} if partition is None else partition,
        "offset": {"page": 3, "poll": 1, "done": False} if offset is None else offset,
        **more,
    }
    return json.dumps(found)


PAGES = "pagination.type=page\n"


def test_lines_that_are_right(tmp_path: Path) -> None:
    content = "\n".join(
        [
            line({"api": "api1", "shard": "0/2"}, seq=7, at=5),
            "",
            line({"api": "api1", "shard": "1/2"}),
            line({"api": "api1", "part": "pages", "chunk": "0"}, {"hashes": "AA"}),
            "",
        ]
    )

    found = lines_of(tmp_path, content, PAGES)

    assert [1, 3, 4] == [int(each.place.rpartition(":")[2]) for each in found]
    assert {"page": 3, "poll": 1, "done": False} == found[0].offset


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "no JSON"),
        ("[]", "not an object"),
        ("7", "not an object"),
        (b"\xff\xfe", "no JSON"),
        (line(more=1), "unknown field 'more'"),
        (line().replace("orders", "other"), "no connector is named 'other'"),
        ('{"partition":{"api":"api1"},"offset":{}}', "no connector"),
        (line({"api": "api9"}), "no api is named 'api9'"),
        (line({}), "the key 'api'"),
        (line([]), "Partition objects"),
        (line({"api": 1}), "texts"),
        (line({"api": "api1", "x": "y"}), "no 'x'"),
        (line({"api": "api1", "shard": "2/2"}), "index/count"),
        (line({"api": "api1", "shard": "0/1"}), "index/count"),
        (line({"api": "api9", "part": "pages"}), "of no api"),
        (line({"api": "api1", "part": 1}), "of no api"),
        (line(offset=[]), "an offset is an object"),
        (line(offset={}), "hold a position"),
        (line(offset={"page": None}), "no text, number or truth"),
        (line(offset={"page": [1]}), "no text, number or truth"),
        (line(offset={"cursor": "x"}), ""),
        (line(offset={"page": "three"}), ""),
        (line(offset={"page": 1, "poll": 0}), "'poll'"),
        (line(offset={"page": 1, "poll": True}), "'poll'"),
        (line(offset={"page": 1, "done": "yes"}), "'done'"),
        (line(offset={"page": 1, "v": 2}), "unknown version 2"),
        (f"{line()}\n{line()}", "the same partition as in line 2"),
    ],
)
def test_lines_that_are_odd_are_told_by_their_number(
    tmp_path: Path, text: str | bytes, why: str
) -> None:
    good = line({"api": "api1", "shard": "0/4"}).encode()
    content = good + b"\n" + (text.encode() if isinstance(text, str) else text)

    with pytest.raises(StateError) as wrong:
        lines_of(tmp_path, content, PAGES)

    number = 3 if why.startswith("the same") else 2
    assert f"{tmp_path / 'lines.jsonl'}:{number}: " in str(wrong.value)
    assert why in str(wrong.value)
    assert "nothing was changed" in str(wrong.value)
    assert "offsets reset" not in str(wrong.value)


def test_all_mistakes_are_told_at_once_up_to_a_bound(tmp_path: Path) -> None:
    with pytest.raises(StateError) as wrong:
        lines_of(tmp_path, "\n".join(["{"] * 50), PAGES)

    told = str(wrong.value).splitlines()
    assert 22 == len(told)
    assert "and 30 more" == told[-2]


def test_a_file_without_lines_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no line in it"):
        lines_of(tmp_path, "\n\n")
    with pytest.raises(NoInput):
        read_lines(tmp_path / "absent", {}, "UTC")
    with pytest.raises(ConfigError):
        read_lines(tmp_path, {}, "UTC")
    assert "connector" == FIELDS[0]


INCREMENTAL = (
    "http.offset.mode=INCREMENTAL\nhttp.offset.json.pointer=/at\n"
    "http.source.query.params=since=${offset}\n"
)


@pytest.mark.parametrize(
    ("text", "offset", "means", "again_"),
    [
        (PAGES, {"page": 4, "poll": 2, "done": False},
         "poll 2 is under way: the pages before page 4 are delivered", "about 70"),
        (PAGES, {"poll": 2, "done": True},
         "poll 2 is finished: the next poll reads everything from the start", "about 70"),
        ("http.offset.mode=SIMPLE_INCREMENTING", {"offset": 1500, "poll": 3, "done": True},
         "poll 3 is finished: the first 1,500 records are delivered", "1,500 records"),
        ("http.offset.mode=SIMPLE_INCREMENTING\nhttp.initial.offset=500",
         {"offset": 1500, "poll": 3, "done": True}, "1,500 records", "1,000 records"),
        ("http.offset.mode=CHAINING\nhttp.offset.json.pointer=/id",
         {"offset": 17, "ties": "AA", "poll": 1, "done": True},
         "every record with /id up to 17 is delivered; what stands at that value",
         "about 70"),
        (f"{INCREMENTAL}http.initial.offset=2024-01-01T00:00:00Z\nhttp.offset.lookback=300",
         {"bookmark": "2024-05-01T00:00:00Z", "poll": 9, "done": True},
         "every record with /at up to 2024-05-01T00:00:00Z is delivered; it is asked from",
         "since http.initial.offset=2024-01-01T00:00:00Z again: about 70"),
        ("pagination.type=cursor\npagination.cursor.field=next\nhttp.offset.mode="
         + "CURSOR_PAGINATION",
         {"cursor": "x" * 100, "count": 1, "hash": "AA", "poll": 1, "done": False},
         "all before the cursor " + "x" * 59 + "\u2026 is delivered", "about 70"),
        ("pagination.type=next_url\npagination.cursor.field=next",
         {"next": "/a?b=1", "poll": 1, "done": False}, "all before the link /a?b=1", "70"),
        ("http.source.window.size.seconds=3600\nhttp.source.window.start=2024-01-01\n"
         + "http.source.query.params=a=${window.start}",
         {"window": 5, "start": 1704067200000, "seconds": 3600, "poll": 1, "done": False},
         "the windows before number 5 (about 2024-01-01T05:00:00.000Z) are delivered",
         "fetches 5 windows again: about 70"),
        ("pagination.type=offset", {"offset": 40, "poll": 1, "done": False},
         "the first 40 records are delivered", "fetches 40 records"),
    ],
)  # fmt: skip
def test_what_a_position_means(
    tmp_path: Path, text: str, offset: dict[str, Any], means: str, again_: str
) -> None:
    api = connector_of(tmp_path, text).apis[0]

    assert means in meaning(api, offset)
    assert again_ in again(api, offset, 70).words


def test_a_topic_that_is_not_known_is_no_number(tmp_path: Path) -> None:
    api = connector_of(tmp_path, PAGES).apis[0]

    found = again(api, {"poll": 2, "done": True}, None)

    assert found.records is None
    assert "duplicates of all delivered" in found.words
