"""
Steps: what became of each record of a page, for people.

Owns the steps that `preview --diff` shows, and the lines of
`transformation.debug.enabled`.

Path: `transform.page` -> here
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from engine.records import Page
from engine.transform.columns import Columns

#: Characters of a value in a line of `transformation.debug.enabled`.
_SHOWN: Final = 1000

#: Records of a page that get such a line.
_LINES: Final = 10


class Step(Struct, frozen=True):
    """
    What became of one record, for people.

    Attributes:
        index: Its place in the page, from 0.
        before: As received.
        after: JSON before the converter, None: it was not produced.
        outcome: produced, filtered, failed or deduplicated.
        stage: Where it failed, or "".
        rule: The rule that left it out or failed it, or "".
        message: What was wrong, or "".
    """

    index: int
    before: bytes
    after: bytes | None
    outcome: str
    stage: str = ""
    rule: str = ""
    message: str = ""


def steps_of(page: Page, made: Columns, mask: Callable[[str], str]) -> list[Step]:
    """What the columns of a page say of each record, in their order."""
    steps = [
        Step(index, bytes(page.records[index]), bytes(value), "produced")
        for index, value in zip(made.indexes, made.values)
    ]
    steps += [
        Step(index, bytes(page.records[index]), None, "filtered", rule=rule)
        for index, rule in made.filtered
    ]
    steps += [
        Step(
            index,
            bytes(page.records[index]),
            None,
            "failed",
            error.stage,
            error.rule,
            mask(str(error)),
        )
        for index, error in made.bad
    ]
    return sorted(steps, key=lambda step: step.index)


def tell(
    log: logging.Logger,
    api: str,
    page: Page,
    columns: Columns,
    repeated: set[int],
    mask: Callable[[str], str],
) -> None:
    """`transformation.debug.enabled`: a line for each of the first records."""
    outcomes: dict[int, tuple[str, Any]] = {}
    for index, rule in columns.filtered:
        outcomes[index] = (f"filtered by {rule}", None)
    for index, error in columns.bad:
        outcomes[index] = (f"failed: {error}", None)
    for index in repeated:
        outcomes[index] = ("deduplicated", None)
    for index, value in zip(columns.indexes, columns.values):
        outcomes[index] = ("produced", value)
    for index, raw in enumerate(page.records[:_LINES]):
        outcome, value = outcomes.get(index, ("filtered", None))
        log.debug(
            "%s page %d record %d %s: %s -> %s",
            api,
            page.index,
            index,
            mask(outcome),
            _shown(raw, mask),
            "nothing" if value is None else _shown(value, mask),
        )


def _shown(data: Any, mask: Callable[[str], str]) -> str:
    text = bytes(data).decode("utf-8", "backslashreplace")
    return mask(text)[:_SHOWN]
