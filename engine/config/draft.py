"""
Draft: the keys of one scope on their way from text to values.

Owns defaults, computed ones last, headers that are merged, and lists that are joined.

Path: `config.load` -> here -> `config.values`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from engine.config import keys
from engine.config.entries import Findings
from engine.config.providers import Restriction
from engine.config.sections.engine import DIALECTS, ApiConfig, IdentityConfig
from engine.config.sections.key import Computed, Key
from engine.config.values import Api, ConfigValue, Connector, Values

_TICKS = ("http.source.poll.interval.ms", "http.source.poll.schedule")


class _Draft:
    """A connector whose keys are typed; becomes the frozen one."""

    def __init__(
        self,
        name: str,
        cells: dict[tuple[int | None, str], ConfigValue],
        count: int,
        state: str,
        findings: Findings,
        may: Restriction,
    ):
        self.name = name
        self.cells = cells
        self._findings = findings
        own = {
            key: cell
            for (number, key), cell in cells.items()
            if number is None and _scope(key) in ("C", "T")
        }
        own["name"] = ConfigValue(name, own["name"].entry if "name" in own else None)
        for key in [key for key in own if (table := keys.find(key)) and table.folds]:
            table = keys.find(key)
            if table is not None and table.folds is not None:
                own[table.folds] = own[key]
        own.setdefault("apis.num", ConfigValue(count))
        _cut_tiers(own, findings)
        values = Values(_filled(own, "CT", lambda key: None))
        common, *apis = (self._api(number, values) for number in range(count + 1))
        self.connector = Connector(
            name=name,
            values=values,
            common=common.values,
            apis=tuple(apis),
            dialect=DIALECTS[values.of(IdentityConfig).connector_class],
            initial_state=state,
            may=may,
        )

    def _api(self, number: int, connector: Values) -> Api:
        """The api of a number from 1; of 0, what is said of all of them."""
        own = {
            key: cell
            for (api, key), cell in self.cells.items()
            if api is None and _scope(key) == "A"
        }
        mine = {
            key: ConfigValue(cell.value, cell.entry, own=True)
            for (api, key), cell in self.cells.items()
            if api == number
        }
        for one, other in (_TICKS, _TICKS[::-1]):
            # The api's own way of ticking replaces the other way of all apis.
            if one in mine and other not in mine:
                own.pop(other, None)
        own |= mine
        headers = _merge_headers(own)
        if headers is not None:
            own["http.source.headers"] = headers
        own.setdefault("api.name", ConfigValue(f"api{number}"))
        values = Values(
            _filled(
                own,
                "A",
                connector.get,
            )
        )
        return Api(values.of(ApiConfig).name, number, values)


def _cut_tiers(cells: dict[str, ConfigValue], findings: Findings) -> None:
    """An upper tier holds nothing longer than the one below it."""
    for upper, lower in ((2, 3), (1, 2)):
        above, below = (f"cache.l{n}.ttl.seconds" for n in (upper, lower))
        for key in (above, below):
            cells.setdefault(key, _default(keys.TABLE[key]))
        longest, held = cells[below].value, cells[above].value
        if isinstance(held, int) and isinstance(longest, int) and held > longest:
            entry = cells[above].entry
            if entry is not None:
                findings.add("warning", f"cut to {below}={longest}", entry=entry)
            cells[above] = ConfigValue(longest, entry)


def _scope(key: str) -> str:
    table = keys.find(key)
    return table.scope if table is not None else ""


def _merge_headers(cells: Mapping[str, ConfigValue]) -> ConfigValue | None:
    """The list, and over it the headers that have a key of their own."""
    prefix = "http.source.header."
    single = {
        key.removeprefix(prefix): cell
        for key, cell in cells.items()
        if key.startswith(prefix)
    }
    listed = cells.get("http.source.headers")
    if not single:
        return None
    names = {name.lower() for name in single}
    headers = listed.value if listed is not None else ()
    kept = [pair for pair in headers if pair[0].lower() not in names]  # type: ignore[attr-defined]
    merged = (*kept, *((name, cell.value) for name, cell in single.items()))
    entry = listed.entry if listed is not None else next(iter(single.values())).entry
    return ConfigValue(merged, entry)


def _filled(
    stated: Mapping[str, ConfigValue], scopes: str, outer: Callable[[str], object]
) -> dict[str, ConfigValue]:
    """
    The stated cells and a default for every other key of these scopes.

    Args:
        outer: Gives the value of a key of another scope.
    """
    cells: dict[str, ConfigValue] = dict(stated)
    computed: dict[str, Computed] = {}
    for key in keys.TABLE.values():
        if key.scope not in scopes or key.name in cells or "<" in key.name:
            continue
        if isinstance(key.default, Computed):
            computed[key.name] = key.default
        else:
            cells[key.name] = _default(key)

    def get(name: str) -> object:
        if name in cells:
            return cells[name].value
        if name in computed:
            cells[name] = ConfigValue(computed.pop(name).value(get))
            return cells[name].value
        return outer(name)

    for name in list(computed):
        get(name)
    order = {name: at for at, name in enumerate(keys.TABLE)}
    return dict(sorted(cells.items(), key=lambda item: order.get(item[0], len(order))))


def _default(key: Key) -> ConfigValue:
    if key.default is None:
        return ConfigValue(None)
    assert isinstance(key.default, str)
    return ConfigValue(key.kind.read(key.default, Path()))
