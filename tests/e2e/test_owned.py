"""Several instances divide a catalog by `http.source.url.pattern`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Make
from tests.e2e.rig import Setup
from tests.fakes.api import Answer, Api, Asked

pytestmark = pytest.mark.slow

ALPHABET = [
    "Alpha",
    "Bravo",
    "Charlie",
    "Delta",
    "Echo",
    "Foxtrot",
    "Golf",
    "Hotel",
    "India",
    "Juliett",
    "Kilo",
    "Lima",
    "Mike",
    "November",
    "Oscar",
    "Papa",
    "Quebec",
    "Romeo",
    "Sierra",
    "Tango",
    "Uniform",
    "Victor",
    "Whiskey",
    "Xray",
    "Yankee",
    "Zulu",
]


def entity(asked: Asked) -> Answer:
    body = json.dumps({"items": [{"of": asked.path.removeprefix("/v1/")}]})
    return 200, [("Content-Type", "application/json")], body.encode()


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as api:
        for name in ALPHABET:
            api.route(f"/v1/{name}", entity)
            api.route(f"/v1/{name}/parts", entity)
        yield api


def asked(api: Api) -> list[str]:
    return [each.path.removeprefix("/v1/") for each in api.log]


def alphabet(make: Make, api: Api) -> Setup:
    return make(f"{api.url}/v1/${{entityName}}", {"entity.names": ",".join(ALPHABET)})


def test_two_instances_of_one_file_share_no_endpoint_and_leave_out_none(
    make: Make, api: Api
) -> None:
    setup = alphabet(make, api)
    text = setup.file.read_text()
    first = f"name={setup.name}-1\nhttp.source.url.pattern={api.url}/v1/[a-m]*\n"
    second = f"name={setup.name}-2\nhttp.source.url.pattern={api.url}/v1/[n-z]*\n"
    common = text.replace(f"name={setup.name}\n", "")
    setup.file.write_text(f"{common}\n{first}\n{second}")

    done = setup.once()

    assert 0 == done.code, done.err
    assert done.err.count("owns 13 of 26") == 2
    assert sorted(ALPHABET) == sorted(asked(api))
    halves = {
        each["name"]: [row["shard"] for row in each["apis"]]
        for each in done.document["connectors"]
    }
    assert [13, 13] == [len(rows) for rows in halves.values()]
    lower = halves[f"{setup.name}-1"]
    assert [f"api1/{name}" for name in ALPHABET[:13]] == lower
    assert sorted(ALPHABET) == sorted(json.loads(v)["of"] for v in setup.values())


def test_children_go_with_their_parent(make: Make, api: Api) -> None:
    setup = make(
        "",
        {
            "http.source.url": None,
            "http.source.url.pattern": f"{api.url}/v1/alpha",
            "api1.api.name": "one",
            "api1.http.source.url": f"{api.url}/v1/Alpha",
            "api2.api.name": "two",
            "api2.http.source.url": f"{api.url}/v1/Bravo",
            "api3.api.name": "parts",
            "api3.http.source.url": f"{api.url}/v1/${{parent_value}}/parts",
            "api3.api.chaining.parent": "one",
            "api3.api.chaining.extract.field": "of",
        },
    )

    done = setup.once()

    assert 0 == done.code, done.err
    assert "owns 1 of 2" in done.err
    assert ["Alpha", "Alpha/parts"] == asked(api)


def test_a_pattern_that_fits_nothing_polls_nothing(make: Make, api: Api) -> None:
    setup = alphabet(make, api)
    setup.write(**{"http.source.url.pattern": f"{api.url}/v2/*"})

    done = setup.once()

    assert 0 == done.code, done.err
    assert "owns 0 of 26" in done.err
    assert [] == asked(api)
