"""Models of APIs, by family; `ALL` has one for each recipe."""

from __future__ import annotations

from tests.recipes.apis import (
    code,
    commerce,
    desks,
    events,
    jobs,
    markets,
    microsoft,
    science,
    stores,
    tables,
    talk,
    web,
)
from tests.recipes.documented import Documented

FAMILIES = (
    code,
    commerce,
    desks,
    events,
    jobs,
    markets,
    microsoft,
    science,
    stores,
    tables,
    talk,
    web,
)

ALL: dict[str, type[Documented]] = {
    made.recipe: made
    for family in FAMILIES
    for made in vars(family).values()
    if isinstance(made, type) and issubclass(made, Documented) and made.recipe
}
