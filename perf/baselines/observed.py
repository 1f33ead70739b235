"""
The engine's command line with everything observed many times over.

    OBSERVED=21 python -m perf.baselines.observed run --once FILE

Each place that counts or times a page does so OBSERVED times, through as many
layers of the engine's own wiring; the counters of the board are added to as
often, and the reading and writing of each second happens as often.  What that
costs more than once, by OBSERVED - 1, is what observing costs: a share of the
path too small to be seen beside the noise of a machine becomes one that is not.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from engine.cli.main import main
from engine.shared.board import Slot
from engine.task import metering
from engine.task.build import sources as source

TIMES = int(os.environ.get("OBSERVED", "1"))


def layered(wrap: Callable[..., Any], place: int) -> Callable[..., Any]:
    """`wrap` around its own result; `place` is where it is given what it wraps."""

    @functools.wraps(wrap)
    def wrapped(*given: Any, **named: Any) -> Any:
        for _ in range(TIMES):
            made = wrap(*given, **named)
            given = (*given[:place], made, *given[place + 1 :])
        return made

    return wrapped


def repeated(call: Callable[..., None]) -> Callable[..., None]:
    """`call`, as often."""

    @functools.wraps(call)
    def calls(*given: Any, **named: Any) -> None:
        for _ in range(TIMES):
            call(*given, **named)

    return calls


def counted(slot: Slot, amounts: Iterable[tuple[str, int]]) -> None:
    amounts = list(amounts)
    add_all(slot, amounts)
    nothing = [(name, 0) for name, _ in amounts]
    for _ in range(TIMES - 1):
        add_all(slot, nothing)


def stage(sources: source.Sources, api: Any) -> Any:
    told = one_stage(sources, api)
    return None if told is None else repeated(told)


if __name__ == "__main__":
    # Tasks are forked: they see what is changed here.
    add_all, one_stage = Slot.add_all, source.Sources._stage
    Slot.add_all = counted  # type: ignore[method-assign]
    source.Sources._stage = stage  # type: ignore[method-assign]
    source.Metered = layered(source.Metered, 0)  # type: ignore[misc, assignment]
    every = metering.Metering
    for name, place in (("saver", 1), ("outlet", 2), ("through", 3)):
        setattr(every, name, layered(getattr(every, name), place))
    for name in ("timed", "_read"):
        setattr(every, name, repeated(getattr(every, name)))
    sys.exit(main())
