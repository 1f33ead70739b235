"""How many tasks are wanted, and what `check` says of it."""

from __future__ import annotations

import pytest

from engine.config import rules
from engine.config.kinds import plain as kinds
from tests.config.conftest import Files

PAGES = "pagination.type=page\n"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "cores", lambda: 3)
    monkeypatch.setattr(rules, "cores", lambda: 3)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("text", "tasks"), [("auto", 6), ("AUTO", 6), ("1", 1), ("256", 256)]
)
def test_auto_is_two_for_each_core(files: Files, text: str, tasks: int) -> None:
    made = files.load(f"{PAGES}tasks.max={text}\n").connectors[0].values
    assert tasks == made["tasks.max"]
    # What is computed from it follows.
    assert tasks == made["auto.scaling.max.tasks"]


def test_auto_is_at_most_what_may_be_asked_for(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "cores", lambda: 192)
    assert 256 == files.load("tasks.max=auto\n").connectors[0].values["tasks.max"]


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (f"{PAGES}tasks.max=7\n", True),
        (f"{PAGES}tasks.max=6\n", False),
        (f"{PAGES}tasks.max=auto\n", False),
        # One shard, and one task for it.
        ("tasks.max=7\n", False),
    ],
)
def test_more_than_two_a_core_are_a_note(files: Files, keys: str, said: bool) -> None:
    found = [
        each
        for each in files.load(keys).findings
        if each.key == "tasks.max" and "cores" in each.message
    ]
    assert said == bool(found)
    assert {"notice"} >= {each.severity for each in found}


def test_auto_for_one_shard_is_no_warning(files: Files) -> None:
    found = files.load("tasks.max=auto\n").findings
    assert not [each for each in found if each.key == "tasks.max"]
