"""
What is unchanged, from the command line: by what would be produced, where it went.

Each case polls twice with an answer that stays the same and something beside it
that does not; what the second poll must bring, no cache may leave out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Make
from tests.e2e.rig import Setup
from tests.fakes.api import Answer, Api, Asked

pytestmark = pytest.mark.slow


class Fixed:
    """One document that changes only when it is told to."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.items = [{"id": 1, "at": "2020-01-01T00:00:00"}]
        self.headers: list[tuple[str, str]] = []
        api.route("/doc", self.answer)

    def answer(self, asked: Asked) -> Answer:
        return 200, self.headers, json.dumps({"items": self.items}).encode()


@pytest.fixture
def fixed() -> Iterator[Fixed]:
    with Api() as api:
        yield Fixed(api)


def delivered(setup: Setup, done) -> int:
    assert 0 == done.code, done.err
    total = done.total
    return int(total["produced"])


def test_to_and_fro_with_the_cache_off_in_between(make: Make, fixed: Fixed) -> None:
    setup = make(f"{fixed.api.url}/doc")
    a, b = [{"id": 1, "v": "A"}], [{"id": 1, "v": "B"}]
    for items, enabled in ((a, "true"), (b, "false"), (a, "true"), (a, "true")):
        fixed.items = items
        setup.write(**{"cache.enabled": enabled})
        done = setup.once()
        assert 0 == done.code, done.err

    assert ["A", "B", "A"] == [json.loads(v)["v"] for v in setup.values()]


BESIDE = {
    "a header of the answer": (
        {"kafka.headers": "version:${response.header.x-version}"},
        lambda fixed, setup: fixed.headers.append(("X-Version", "2")),
    ),
    "the time in a field": (
        {
            "transformation.enrichment.rules": '[{"field":"seen","expression":"${now}"}]',
        },
        lambda fixed, setup: None,
    ),
    "the time in the request": (
        {"http.source.query.params": "until=${now}"},
        lambda fixed, setup: None,
    ),
    "a number in a key": ({"kafka.key": "${uuid}"}, lambda fixed, setup: None),
    "the zone": (
        {
            "transformation.field.mappings": '[{"source":"at","target":"at",'
            '"type":"TIMESTAMP"}]',
            "schedule.timezone": "UTC",
        },
        lambda fixed, setup: setup.write(**{"schedule.timezone": "Asia/Tokyo"}),
    ),
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_read_beside_the_body_counts(
    make: Make, fixed: Fixed, name: str
) -> None:
    keys, change = BESIDE[name]
    fixed.headers = [("X-Version", "1")] if "header" in name else []
    setup = make(f"{fixed.api.url}/doc", keys)
    assert 1 == delivered(setup, setup.once())
    if "time" not in name and "number" not in name:
        assert 0 == delivered(setup, setup.once())
    if fixed.headers:
        fixed.headers.clear()
    change(fixed, setup)

    assert 1 == delivered(setup, setup.once())


def test_a_module_that_a_function_imports_counts(
    make: Make, fixed: Fixed, monkeypatch
) -> None:
    setup = make(f"{fixed.api.url}/doc", {"transformation.function": "rules:change"})
    folder = Path(setup.file).parent
    monkeypatch.setenv("PYTHONPATH", str(folder))
    (folder / "rules.py").write_text(
        "import factor\n\n\ndef change(record, context):\n"
        "    return {**record, 'id': record['id'] * factor.BY}\n"
    )
    (folder / "factor.py").write_text("BY = 2\n")
    assert 1 == delivered(setup, setup.once())
    assert 0 == delivered(setup, setup.once())
    (folder / "factor.py").write_text("BY = 333\n")

    assert 1 == delivered(setup, setup.once())
    assert [2, 333] == [json.loads(v)["id"] for v in setup.values()]


def test_a_topic_that_was_made_anew_gets_everything(make: Make, fixed: Fixed) -> None:
    setup = make(
        f"{fixed.api.url}/doc",
    )
    setup.write(**{"offset.storage.file.filename": setup.folder / "offsets"})
    assert 1 == delivered(setup, setup.once())
    assert 0 == delivered(setup, setup.once())
    setup.broker.delete(setup.topic)

    assert 1 == delivered(setup, setup.once())
    assert 1 == len(setup.values())


def test_after_its_time_a_page_is_produced_again(make: Make, fixed: Fixed) -> None:
    setup = make(f"{fixed.api.url}/doc", {"cache.unchanged.max.age.seconds": 3600})
    assert [1, 0] == [delivered(setup, setup.once()) for _ in range(2)]
    setup.write(**{"cache.unchanged.max.age.seconds": 1})

    # The first run is more than a second ago.
    assert 1 == delivered(setup, setup.once())


def test_a_reset_forces_a_new_delivery(make: Make, fixed: Fixed) -> None:
    setup = make(f"{fixed.api.url}/doc")
    assert [1, 0] == [delivered(setup, setup.once()) for _ in range(2)]
    assert 0 == setup.call("offsets", "reset", "--yes").code

    assert 1 == delivered(setup, setup.once())
    assert 2 == len(setup.values())


@pytest.mark.parametrize(
    ("settings", "age", "severity", "words"),
    [
        ({"retention_ms": "60000"}, None, "notice", "produced again after 60 s"),
        ({"retention_ms": "60000"}, 60, None, ""),
        ({"retention_ms": "60000"}, 3600, "warning", "their records will be missing"),
        ({"retention_ms": "60000"}, 0, "warning", "produced again never"),
        ({"retention_ms": "-1"}, None, None, ""),
        (
            {"retention_ms": "60000", "cleanup_policy": "compact"},
            None,
            None,
            "",
        ),
    ],
)
def test_check_says_where_records_would_be_missing(
    make: Make, fixed: Fixed, settings, age, severity, words
) -> None:
    key = "cache.unchanged.max.age.seconds"
    setup = make(f"{fixed.api.url}/doc", {key: age, "kafka.key": "${record.id}"})
    setup.broker.create(setup.topic, **settings)

    told = setup.call("check", "--connect", "--json")
    found = [each for each in told.document["findings"] if each["key"] == key]

    assert 0 == told.code, told.out
    assert ([severity] if severity else []) == [each["severity"] for each in found]
    assert words in "".join(each["message"] for each in found)
    strict = setup.call("check", "--connect", "--strict")
    assert (78 if severity == "warning" else 0) == strict.code, strict.out


def test_a_topic_that_its_records_name_is_known_from_its_first_one(
    make: Make, fixed: Fixed
) -> None:
    setup = make(f"{fixed.api.url}/doc")
    setup.write(**{"kafka.topic": setup.topic + "-${record.id}"})

    assert [1, 0, 0] == [delivered(setup, setup.once()) for _ in range(3)]
