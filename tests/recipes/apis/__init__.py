"""Models of APIs, by family; `ALL` has one for each recipe."""

from __future__ import annotations

from tests.recipes.apis import (
    code,
    events,
    markets,
    microsoft,
    science,
    stores,
    tables,
    web,
)
from tests.recipes.documented import Documented

ALL: dict[str, type[Documented]] = {
    made.recipe: made
    for family in (code, events, markets, microsoft, science, stores, tables, web)
    for made in vars(family).values()
    if isinstance(made, type) and issubclass(made, Documented) and made.recipe
}
