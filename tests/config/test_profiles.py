"""Every profile in conf/ loads, and opens with what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import Loaded, load
from engine.config.reference import reference

CONF = Path(__file__).parent.parent.parent / "conf"
PROFILES = sorted(CONF.glob("*.properties"))


def loaded(path: Path) -> Loaded:
    return load([path], environment={"API_TOKEN": "token"})


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_profile_loads_under_its_own_name(path: Path) -> None:
    result = loaded(path)

    assert [path.stem] == [connector.name for connector in result.connectors]
    for finding in result.findings:
        expected = (
            "not available yet" in finding.message
            or "trial broker" in finding.message
            or "over data that changes meanwhile" in finding.message
        )
        assert expected, finding


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_profile_says_for_whom_what_it_expects_and_how_to_run_it(path: Path) -> None:
    lines = path.read_text().splitlines()

    assert ["# For: ", "# Expects: ", "# Run: kafka-http-source run "] == [
        line[: len(start)]
        for line, start in zip(
            lines,
            ["# For: ", "# Expects: ", "# Run: kafka-http-source run "],
            strict=False,
        )
    ]
    assert f"conf/{path.name}" in lines[2]


def test_every_profile_is_in_the_table() -> None:
    table = (CONF / "README.md").read_text()

    assert all(f"]({path.name})" in table for path in PROFILES)


def test_the_quickstart_asks_the_sample_api_and_needs_nothing_else() -> None:
    (connector,) = loaded(CONF / "quickstart.properties").connectors
    (api,) = connector.apis

    assert ("embedded",) == connector.values["bootstrap.servers"]
    assert "http://127.0.0.1:8099/records" == api.values["http.source.url"]
    assert ("cursor", "next", "records") == (
        api.values["pagination.type"],
        api.values["pagination.cursor.field"],
        api.values["http.response.data.json.pointer"],
    )


def test_the_url_of_a_profile_can_be_set() -> None:
    url = "https://other.example.com/x"
    result = load([CONF / "quickstart.properties"], [f"http.source.url={url}"])

    assert url == result.connectors[0].apis[0].values["http.source.url"]


def test_the_reference_is_what_the_table_says() -> None:
    """Made by `python -m engine.config.reference > conf/REFERENCE.md`."""
    assert reference() == (CONF / "REFERENCE.md").read_text()
