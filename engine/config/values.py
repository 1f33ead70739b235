"""
Values: what a configuration has become, ready to be asked.

Owns the frozen result of loading.  Every known key of the scope has a value
here, stated or default; where it came from stays known; secrets stay secret.

Path: ``load`` -> here -> ``task.build``, ``supervisor``, ``admin``, ``cli``
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from engine.config import keys
from engine.config.entries import Entry
from engine.config.providers import Restriction
from engine.config.sections.engine import ApiConfig
from engine.config.sections.section import Section
from engine.errors import Finding
from engine.observe.redact import Secret

S = TypeVar("S", bound=Section)


class ConfigValue(Struct, frozen=True):
    """
    The value of one key, and where it was stated.

    Attributes:
        value: Typed.
        entry: Where it was stated, unresolved; None: a default.
        own: True if it was stated with the api's own prefix.
    """

    value: object
    entry: Entry | None = None
    own: bool = False


class Values:
    """The values of one scope; asks are by full key."""

    def __init__(self, cells: Mapping[str, ConfigValue]):
        self._cells = dict(cells)
        self._sections: dict[tuple[object, ...], Section] = {}

    def of(self, section: type[S], **words: str) -> S:
        """
        The options of one part of the engine, typed.

        Args:
            section: Whose keys are all of this scope.
            words: What `{word}` in its keys stands for.

        Raises: KeyError, a key is of another scope.
        """
        place = (section, *words.items())
        found = self._sections.get(place)
        if not isinstance(found, section):
            found = self._sections[place] = section.read(self._value, words)
        return found

    def _value(self, key: str) -> object:
        cell = self._cells.get(key)
        if cell is None:
            # Of a family there is a cell only where somebody stated a member.
            known = keys.find(key)
            if "<" not in (key if known is None else known.name):
                raise KeyError(key)
            return None
        return cell.value

    def __getitem__(self, key: str) -> object:
        """
        A value to show or to compare, None if unset; who uses one asks `of`.

        Raises: KeyError, not of this scope.
        """
        return self._cells[key].value

    def get(self, key: str) -> object:
        """The same, None if unset or not of this scope."""
        cell = self._cells.get(key)
        return cell.value if cell is not None else None

    def __contains__(self, key: object) -> bool:
        return key in self._cells

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)

    def stated(self, key: str) -> bool:
        """Whether it stands in a file or an override; False for a default."""
        cell = self._cells.get(key)
        return cell is not None and cell.entry is not None

    def own(self, key: str) -> bool:
        """Whether it was stated for this api alone, with its prefix."""
        cell = self._cells.get(key)
        return cell is not None and cell.own

    def origin(self, key: str) -> tuple[str, int] | None:
        """File and line it came from, or None for a default."""
        entry = self.entry(key)
        return (entry.file, entry.line) if entry is not None else None

    def text(self, key: str) -> str | None:
        """As it was written, providers unresolved; None for a default."""
        entry = self.entry(key)
        return entry.text if entry is not None else None

    def entry(self, key: str) -> Entry | None:
        """The line it came from, or None for a default."""
        cell = self._cells.get(key)
        return cell.entry if cell is not None else None

    def prefixed(self, prefix: str) -> dict[str, object]:
        """The stated keys that begin so, without the prefix, as values to show."""
        return {
            key.removeprefix(prefix): cell.value
            for key, cell in self._cells.items()
            if key.startswith(prefix) and cell.entry is not None
        }

    def replaced(self, changes: Mapping[str, object]) -> Values:
        """
        The same with other values in the place of these; nothing is checked.

        Keys that are not of this scope are left out.
        """
        cells = {
            key: msgspec.structs.replace(self._cells[key], value=value)
            for key, value in changes.items()
            if key in self._cells
        }
        return Values({**self._cells, **cells})

    @property
    def fingerprint(self) -> str:
        """Differs where any value differs, a secret included; not for showing."""
        return self.fingerprint_without(())

    def fingerprint_without(self, left_out: Container[str]) -> str:
        """The same of all but some keys."""
        digest = hashlib.blake2b(digest_size=16)
        for key in sorted(key for key in self._cells if key not in left_out):
            value = self._cells[key].value
            text = value.reveal() if isinstance(value, Secret) else repr(value)
            digest.update(f"{len(key)}:{key}{len(text)}:{text}".encode())
        return digest.hexdigest()


#: What a running task takes up: a reload that changes nothing else restarts
#: no task.
LIVE = frozenset(
    {
        "rate.limit.enabled",
        "rate.limit.requests.per.second",
        "rate.limit.algorithm",
        "rate.limit.burst.capacity",
        "rate.limit.window.ms",
        "rate.limit.scope",
        "rate.limit.retry.after.max.ms",
        "rate.limit.adaptive.enabled",
    }
)


class Api(Struct, frozen=True):
    """
    One configured endpoint.

    Attributes:
        name: `api.name`.
        index: N of `apiN.`, from 1.
        values: Scope A: `apiN.` over unprefixed over default.
    """

    name: str
    index: int
    values: Values

    @property
    def fingerprint(self) -> str:
        """Differs where a reload has to restart this api."""
        return self.values.fingerprint_without(LIVE)


class Beside(Struct, frozen=True):
    """
    The engine of a connector, beside which another run does a part of its work.

    Attributes:
        name: Of the connector, as it is configured.
        share: Part of each of its rates that this run may take.
        runtime: The runtime directory of that engine, or None: it does not run here.
    """

    name: str
    share: float
    runtime: Path | None = None


class Connector(Struct, frozen=True, dict=True):
    """
    One named configuration.

    Attributes:
        name: `name`, or the stem of the first file.
        values: Scopes C and T.
        common: Scope A as an api has it that states nothing of its own.
        apis: In the order of their numbers.
        dialect: "v1", "v2" or "castorm", by `connector.class`.
        initial_state: "RUNNING", "PAUSED" or "STOPPED".
        may: What its providers may read, at the start and whenever they read anew.
        beside: Whose work a backfill does under a name of its own, or None.
    """

    name: str
    values: Values
    common: Values
    apis: tuple[Api, ...]
    dialect: str
    initial_state: str = "RUNNING"
    may: Restriction = Restriction()
    beside: Beside | None = None

    @property
    def known_as(self) -> str:
        """The name in templates, dead letters and rates: that of its file."""
        return self.name if self.beside is None else self.beside.name

    def parent(self, api: Api) -> Api | None:
        """The api whose records this one is polled for, or None."""
        name = api.values.of(ApiConfig).parent
        if name is None:
            return None
        for other in self.apis:
            if name == other.name:
                return other
        for other in self.apis:
            if name == f"api{other.index}":
                return other
        return None

    def ancestors(self, api: Api) -> list[Api]:
        """The parent, its parent, and so on; ends where a cycle closes."""
        found: list[Api] = []
        above = self.parent(api)
        while above is not None and all(above.index != o.index for o in found):
            found.append(above)
            above = self.parent(above)
        return found

    def children(self, api: Api) -> list[Api]:
        """The apis that are polled for the records of this one."""
        return self._below.get(api.index, [])

    @cached_property
    def _below(self) -> dict[int, list[Api]]:
        """The children of each api that has some, by its index."""
        found: dict[int, list[Api]] = {}
        for each in self.apis:
            parent = self.parent(each)
            if parent is not None:
                found.setdefault(parent.index, []).append(each)
        return found

    def descendants(self, api: Api) -> Iterator[Api]:
        """The apis below one, parents before their children."""
        for child in self.children(api):
            yield child
            yield from self.descendants(child)

    @property
    def fingerprint(self) -> str:
        """Differs where a reload has to restart all tasks of the connector."""
        found = self.values.fingerprint_without(LIVE)
        return found if self.beside is None else f"{found}{self.beside}"


class Loaded(Struct, frozen=True):
    """
    A configuration without errors.

    Attributes:
        connectors: In the order of their files.
        process: Scope P.
        findings: Warnings and notices, in the order of files and lines.
        unbuilt: Those of the warnings that make `run` refuse: a value asks
            for a behaviour that is not available yet.
        absent: Defaults whose behaviour is not available yet, as `key=value`.
        variables: Environment variables that were read; tasks must not see
            them.
    """

    connectors: tuple[Connector, ...]
    process: Values
    findings: tuple[Finding, ...] = ()
    unbuilt: tuple[Finding, ...] = ()
    absent: tuple[str, ...] = ()
    variables: frozenset[str] = frozenset()


__all__ = ["Api", "ConfigValue", "Connector", "Loaded", "Values"]
