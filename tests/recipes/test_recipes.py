"""Each file of conf/recipes against a model of the API that it is for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cli.check import as_run_sees
from engine.config import load
from engine.config.sections.limits import RateLimitConfig
from tests.brokers import Broker
from tests.recipes.apis import ALL
from tests.recipes.course import FOLDER, Course, Part

RECIPES = sorted(path.stem for path in FOLDER.glob("*.properties"))

HEAD = (
    "# For: ",
    "# Docs: https://",
    "# Needs: ",
    "# Limits: ",
    "# Run: kafka-http-source run conf/recipes/",
    "# Try: kafka-http-source preview conf/recipes/",
)

#: What `check` says that is meant: numbered pages, of which what is new comes first, or
#: some time is read again.
UNDERSTOOD = ("numbered pages over data that changes meanwhile skip records",)


def test_each_recipe_has_a_model_and_a_row_in_the_table() -> None:
    table = (FOLDER / "README.md").read_text()

    assert RECIPES == sorted(ALL)
    assert not [name for name in RECIPES if f"]({name}.properties)" not in table]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_what_it_is_for_and_what_it_needs(recipe: str) -> None:
    text = (FOLDER / f"{recipe}.properties").read_text()
    lines = text.splitlines()

    for line, start in zip(lines, HEAD, strict=False):
        assert line.startswith(start), line
    for line in lines[4:6]:
        assert f"conf/recipes/{recipe}.properties" in line
    for name in ALL[recipe].environment:
        assert f"${{env:{name}}}" in text
        assert name in lines[2]
    assert not [line for line in lines[:6] if len(line) > 100 and "https:" not in line]


@pytest.mark.parametrize("recipe", RECIPES)
def test_check_has_nothing_to_say_of_a_recipe(recipe: str) -> None:
    model = ALL[recipe]
    loaded = load([FOLDER / f"{recipe}.properties"], environment=model.environment)
    findings, refused = as_run_sees(loaded, loaded.findings)

    assert not refused, findings
    for finding in findings:
        assert "warning" != finding.severity, finding
        assert any(text in finding.message for text in UNDERSTOOD), finding
    [connector] = loaded.connectors
    assert recipe == connector.name
    assert {recipe} >= {str(api.values["kafka.topic"]) for api in connector.apis}
    assert any(api.values["kafka.key"] is not None for api in connector.apis)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_asks_no_more_often_than_is_allowed(recipe: str) -> None:
    model = ALL[recipe]
    loaded = load([FOLDER / f"{recipe}.properties"], environment=model.environment)
    [connector] = loaded.connectors
    limits = connector.apis[0].values.of(RateLimitConfig)

    assert limits.enabled
    if model.limit is not None:
        assert limits.per_second <= model.limit.calls / model.limit.seconds


@pytest.fixture(scope="module")
def parts(
    tmp_path_factory: pytest.TempPathFactory, embedded: Broker
) -> Iterator[dict[str, Part]]:
    """All recipes through the course, side by side."""
    folder: Path = tmp_path_factory.mktemp("recipes")
    with contextlib.ExitStack() as stack:
        models = [stack.enter_context(ALL[name]()) for name in RECIPES]
        yield Course(models, folder, embedded).run()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("part", ["polls", "restart", "kill"])
def test_a_recipe_loses_nothing(recipe: str, part: str, parts: dict[str, Part]) -> None:
    found = parts[part]
    arrived, due = found.arrived[recipe], found.due[recipe]
    own = [line for line in found.said.splitlines() if recipe in line]

    assert not set(due) - set(arrived), (own, sorted(set(due) - set(arrived))[:5])
    assert not set(arrived) - set(due), sorted(set(arrived) - set(due))[:5]
    assert recipe not in found.late, own
    assert not [line for line in own if "no value at" in line]
    if part != "kill":
        assert not [each for each, count in arrived.items() if count > 1], own
