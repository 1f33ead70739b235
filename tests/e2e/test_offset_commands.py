"""`offsets set|export|import|explain` on what runs have left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Make
from tests.e2e.rig import TYPES, Setup, until
from tests.fakes.api import Api

pytestmark = pytest.mark.slow

MODES: dict[str, dict[str, object]] = {
    "offset": {"http.offset.mode": "SIMPLE_INCREMENTING"},
    "keyset": {"http.offset.mode": "CHAINING"},
    "page": {"tasks.max": 2, "cache.enabled": "true"},
}


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(pages=4, records=50, size=120) as found:
        yield found


def made(make: Make, api: Api, kind: str, **more: object) -> Setup:
    setup = make(f"{api.url}/{kind}/0", {"pagination.type": kind, **TYPES[kind]})
    setup.write(
        **{"offsets.storage.topic": f"{setup.name}-offsets", **MODES[kind], **more}
    )
    return setup


def exported(setup: Setup) -> list[dict[str, Any]]:
    done = setup.call("offsets", "export")
    assert 0 == done.code, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def plain(lines: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    return [(each["partition"], each["offset"]) for each in lines]


@pytest.mark.parametrize("kind", ["keyset", "page"])
def test_what_was_exported_is_whole_again(make: Make, api: Api, kind: str) -> None:
    setup = made(make, api, kind)
    assert 0 == setup.once().code
    before = setup.call("offsets", "export", "--output", str(setup.folder / "kept"))
    assert 0 == before.code, before.err
    lines = exported(setup)
    assert lines
    assert 0o600 == (setup.folder / "kept").stat().st_mode & 0o777

    assert 0 == setup.call("offsets", "reset", "--yes").code
    assert [] == exported(setup)
    taken = setup.call(
        "offsets", "import", "--from", str(setup.folder / "kept"), "--yes"
    )
    assert 0 == taken.code, taken.err
    assert plain(lines) == plain(exported(setup))

    # It is as if nothing had been forgotten: nothing is produced again.
    again = setup.once()
    assert 0 == again.code, again.err
    assert 0 == again.total["produced"]
    assert 200 == len(setup.values())


def test_an_import_leaves_other_apis_and_forgets_the_rest_of_its_own(
    make: Make, api: Api
) -> None:
    setup = made(make, api, "offset")
    setup.write(
        **{
            "apis.num": 2,
            "http.source.url": None,
            "api1.http.source.url": f"{api.url}/offset/0",
            "api2.http.source.url": f"{api.url}/offset/0",
        }
    )
    assert 0 == setup.once().code
    file = setup.folder / "lines"
    line = {
        "connector": setup.name,
        "partition": {"api": "api2"},
        "offset": {"offset": 30, "poll": 1, "done": True},
    }
    file.write_text(json.dumps(line))

    assert 0 == setup.call("offsets", "import", "--from", str(file), "--yes").code

    found = {each["partition"]["api"]: each["offset"] for each in exported(setup)}
    assert 200 == found["api1"]["offset"]
    assert 30 == found["api2"]["offset"]
    assert [line["partition"]] == [
        each["partition"]
        for each in exported(setup)
        if each["partition"]["api"] == "api2"
    ]


def test_nothing_is_changed_by_a_file_with_one_odd_line(make: Make, api: Api) -> None:
    setup = made(make, api, "offset")
    assert 0 == setup.once().code
    before = exported(setup)
    file = setup.folder / "lines"
    good = {**before[0], "offset": {"offset": 1, "poll": 1, "done": True}}
    odd = {**before[0], "partition": {"api": "api1", "entity": "x"},
           "offset": {"offset": "many"}}  # fmt: skip
    file.write_text(f"{json.dumps(good)}\n{json.dumps(odd)}\n")

    done = setup.call("offsets", "import", "--from", str(file), "--yes")

    assert 65 == done.code
    assert f"{file}:2: " in done.err
    assert "Traceback" not in done.err
    assert before == exported(setup)
    # Without consent nothing is read, either.
    assert 78 == setup.call("offsets", "import", "--from", str(file)).code


def test_who_changes_offsets_waits_for_no_engine(make: Make, api: Api) -> None:
    setup = made(make, api, "offset", **{"http.source.poll.interval.ms": 3600000})
    file = setup.folder / "lines"
    with setup.running() as running:
        until(lambda: setup.arrived() == 200, "all of it")
        until(lambda: exported(setup) != [], "a position")
        # Who only looks may.
        assert 0 == setup.call("offsets", "explain").code
        file.write_text(json.dumps(exported(setup)[0]))
        for words in (
            ("set", "--position", '{"offset":5}'),
            ("import", "--from", str(file), "--yes"),
        ):
            refused = setup.call("offsets", *words)
            assert 75 == refused.code, refused.err
            assert str(running.pid) in refused.err


def test_a_position_that_is_set_is_gone_on_from(make: Make, api: Api) -> None:
    setup = made(make, api, "offset")
    assert 0 == setup.once().code

    done = setup.call("offsets", "set", "--position", '{"offset":150,"done":true}')

    assert 0 == done.code, done.err
    assert '"offset":150' in done.out
    assert "next: GET" in done.out
    assert "offset=150" in done.out
    assert 50 == setup.once().total["produced"]


def test_a_position_that_is_odd_is_not_set(make: Make, api: Api) -> None:
    setup = made(make, api, "offset")

    for words, code, says in (
        (("--position", "{"), 65, "--position"),
        (("--position", '{"offset":"x"}'), 65, '{"api":"api1"}'),
        (
            ("--position", '{"offset":1}', "--api", "other"),
            78,
            "no api is named 'other'",
        ),
        (("--position", '{"offset":1}', "--shard", "3/2"), 65, "index/count"),
    ):
        done = setup.call("offsets", "set", *words)

        assert code == done.code, done.err
        assert says in done.err
        assert "Traceback" not in done.err


def test_a_position_beside_shards_is_not_set(make: Make, api: Api) -> None:
    setup = made(make, api, "page")
    assert 0 == setup.once().code

    done = setup.call("offsets", "set", "--position", '{"page":2}')

    assert 65 == done.code
    assert "--shard" in done.err


@pytest.mark.parametrize("kind", ["offset", "page"])
def test_what_a_reset_would_deliver_again_is_what_it_does(
    make: Make, api: Api, kind: str
) -> None:
    setup = made(make, api, kind, **{"exactly.once.support": "disabled"})
    assert 0 == setup.once().code

    told = setup.call("offsets", "explain", "--json").document["offsets"]
    text = setup.call("offsets", "explain").out
    assert 0 == setup.call("offsets", "reset", "--yes").code
    again = setup.once().total["produced"]

    shards = len(told)
    assert all(each["error"] is None for each in told)
    # Each shard of an api is told what its whole topic holds.
    assert again in {each["again"]["records"] for each in told}
    assert shards == text.count("    means: ")
    assert shards == text.count("    a reset fetches ")
    assert all(each["next"].startswith("GET ") for each in told if each["next"])
    assert any(each["first"] for each in told)
