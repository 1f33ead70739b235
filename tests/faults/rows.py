"""The table of faults: what each is called, where it runs, and how it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """
    One fault.

    Attributes:
        name: As F01.
        title: What happens, for people.
        deed: Makes it happen.
        loaded: True: the engine runs and records flow when `deed` is called with the
            run, and the invariants are checked when it returns.  False: the deed
            does all of it, with a field and a folder.
        modes: Delivery modes in which it makes sense.
        keys: Keys of the connector beside the usual.
        broker: Lines of server.properties it needs; a broker of its own then.
        prepare: Called with that broker before the connector is made.
        needs: What it has to have: "apache", "own" (an Apache of its own), "script"
            (the scripted broker) or "three" (a cluster of three).
        why: Why it does not run here, if it does not.
    """

    name: str
    title: str
    deed: Callable[..., Any]
    loaded: bool = True
    modes: tuple[str, ...] = ("at least once", "exactly once")
    keys: dict[str, object] = field(default_factory=dict)
    broker: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Any], None] = lambda field: None
    needs: str = "apache"
    why: str = ""


ROWS: dict[str, Row] = {}


def row(name: str, title: str, **more: Any) -> Callable[[Any], Any]:
    """Put a function into the table."""

    def put(deed: Callable[..., Any]) -> Callable[..., Any]:
        assert name not in ROWS, name
        ROWS[name] = Row(name, title, deed, **more)
        return deed

    return put


def skipped(name: str, title: str, why: str) -> None:
    """A row that does not run, and why."""
    ROWS[name] = Row(name, title, lambda: None, why=why)
