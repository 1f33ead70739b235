"""
Scrape: what an engine's `/metrics` says, read for whoever compares two of them.

Owns the text format as far as the engine writes it, and the sums and
distributions over it.  Families are named without the product's prefix.

Path: ``cli.top``, ``bench.command`` -> here -> ``cli.remote`` -> (HTTP) -> ``admin``
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from engine.cli.remote import get
from engine.later import pattern

Labels = Mapping[str, str]

#: Family -> its samples: labels, value.
Scrape = dict[str, list[tuple[dict[str, str], float]]]

#: In front of every family of ours.
PREFIX = "http_source_"

_LINE = pattern(
    r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([-+]?(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|Inf|NaN))"
)
_LABEL = pattern(r'(\w+)="((?:[^"\\]|\\.)*)"')


def parsed(text: str) -> Scrape:
    """The text format of Prometheus, as far as the engine writes it."""
    found: Scrape = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None or line.startswith("#"):
            continue
        labels = {
            name: re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], value)
            for name, value in _LABEL.findall(match[2] or "")
        }
        found.setdefault(match[1], []).append((labels, float(match[3])))
    return found


def scraped(url: str) -> Scrape:
    """What the engine counts.  Raises: NoAnswer.  Blocks: for a request."""
    return parsed(get(url, "/metrics").decode(errors="replace"))


def samples(
    scrape: Scrape, name: str, labels: Labels
) -> Iterator[tuple[Labels, float]]:
    """The samples of a family that bear these labels, whatever others they have."""
    for given, value in scrape.get(PREFIX + name, ()):
        if labels.items() <= given.items():
            yield given, value


def total(scrape: Scrape, name: str, labels: Labels) -> float:
    """The sum over those samples."""
    return sum(value for _, value in samples(scrape, name, labels))


def buckets(scrape: Scrape, name: str, labels: Labels) -> dict[float, float]:
    """Upper bound -> count up to it, over all samples of a histogram with these labels."""
    sums: dict[float, float] = {}
    for given, value in samples(scrape, f"{name}_bucket", labels):
        bound = float(given["le"])
        sums[bound] = sums.get(bound, 0.0) + value
    return dict(sorted(sums.items()))


def grown(
    now: Mapping[float, float], before: Mapping[float, float]
) -> list[tuple[float, float]]:
    """What was observed between two looks at `buckets`, for `quantile`."""
    return [(bound, count - before.get(bound, 0.0)) for bound, count in now.items()]


def quantile(counts: Sequence[tuple[float, float]], share: float) -> float:
    """Seconds below which `share` of the counts lie; even spread inside a bucket."""
    wanted = share * (counts[-1][1] if counts else 0.0)
    if wanted <= 0:
        return 0.0
    low = below = 0.0
    for bound, count in counts:
        if count >= wanted:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (wanted - below) / max(count - below, 1e-9)
        low, below = bound, count
    return low
