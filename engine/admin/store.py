"""
Store: the tasks' meters, read and added up.

Owns the reading of the files that `observe.meters` writes, and a memory of
what their keys mean; it never writes one.

prometheus_client's own collector parses each key anew at every scrape and
renders through several objects a line: 45 to 60 ms for 16 tasks, and 230 ms
with detailed metrics.  The keys do not change, so they are parsed once here.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Mapping
from sys import intern

from msgspec import Struct

from engine.observe.meterfiles import entries, is_key
from engine.observe.names import MetricKind


class Series(Struct, frozen=True, eq=False):
    """
    One line of a family, known by identity.

    Attributes:
        family: Name on `/metrics`: a counter's with `_total`.
        sample: Name of the line: a histogram's with `_bucket` or `_sum`.
        labels: Label names and values, `le` left out, in the table's order.
        bound: The bucket's upper bound, or None.
        connector: Value of that label, or "".
        task: Value of that label, or "".
        kind: "counter", "gauge" or "histogram".
        head: Its line in the text format, up to the value.
        group: Of a histogram, the same for its `_count`: one object for all
            series of one label set, so that they are told apart by identity.
    """

    family: str
    sample: str
    labels: tuple[tuple[str, str], ...]
    bound: float | None
    connector: str
    task: str
    kind: str
    head: str
    group: str

    def label(self, name: str) -> str:
        """The value of a label, or ""."""
        for key, value in self.labels:
            if key == name:
                return value
        return ""


#: What a file's name begins with.
KINDS = frozenset(kind.value for kind in MetricKind)

#: What was read at one moment.
Reading = Mapping[Series, float]


class MeterStore:
    """
    Args:
        directory: Where the meters' files are; may not exist yet.
    """

    def __init__(self, directory: str) -> None:
        self._pattern = os.path.join(glob.escape(directory), "*.db")
        self._known: dict[tuple[str, str], Series] = {}

    def read(self) -> Reading:
        """
        Every series and its value, added up over tasks.

        Blocks: for the reading of a few files in memory, 1 to 10 ms.
        """
        values: dict[Series, float] = {}
        moments: dict[Series, float] = {}
        known = self._known
        for path in sorted(glob.glob(self._pattern)):
            kind, _, rest = os.path.basename(path).partition("_")
            if kind not in KINDS:
                continue
            merge = rest.partition("_")[0] if kind == "gauge" else "sum"
            try:
                found = entries(path)
            except (OSError, ValueError):
                # Damaged: the rest is still worth showing.
                continue
            for key, value, moment in found:
                series = known.get((merge, key))
                if series is None:
                    try:
                        series = _parsed(key, kind) if is_key(key) else None
                    except ValueError:
                        series = None
                    if series is None:
                        continue
                    known[merge, key] = series
                if series not in values:
                    values[series] = value
                elif merge == "sum":
                    values[series] += value
                elif merge == "max":
                    values[series] = max(values[series], value)
                elif moment >= moments.get(series, 0.0):
                    values[series] = value
                if merge == "mostrecent":
                    moments[series] = max(moment, moments.get(series, 0.0))
        return values


def _parsed(key: str, kind: str) -> Series:
    _, sample, labels, _ = json.loads(key)
    bound = labels.pop("le", None)
    family = sample
    if kind == "histogram":
        family = sample.removesuffix("_bucket").removesuffix("_sum")
    named: tuple[tuple[str, str], ...] = tuple(labels.items())
    bounded = named if bound is None else (*named, ("le", number(float(bound))))
    return Series(
        family=family,
        sample=sample,
        labels=named,
        bound=None if bound is None else float(bound),
        connector=labels.get("connector", ""),
        task=labels.get("task", ""),
        kind=kind,
        head=line_head(sample, bounded),
        group=intern(line_head(f"{family}_count", named)),
    )


def line_head(sample: str, labels: tuple[tuple[str, str], ...]) -> str:
    """A line of Prometheus' text format, up to its value."""
    inner = ",".join([f'{name}="{_escaped(value)}"' for name, value in labels])
    return f"{sample}{{{inner}}} " if inner else f"{sample} "


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def number(value: float) -> str:
    """A value as both text formats want it."""
    text = repr(float(value))
    return _SPECIAL.get(text, text) if text[-1] in "fn" else text


_SPECIAL = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}
