"""
Status: how a running engine stands, in the words of a person.

Owns `status`: what it reads is said once, the worst first, and the exit code says
whether anything has FAILED.

Path: ``cli.main`` -> here -> ``cli.remote`` -> (HTTP) -> ``admin``
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from engine.cli.display import say
from engine.cli.remote import base_url, connectors, health
from engine.clock import SYSTEM, span
from engine.errors import Exit

#: Shards of a connector that are shown one by one.
MOST_SHARDS = 20


def status(args: argparse.Namespace) -> int:
    """
    `status`: how every connector, task and shard stands.

    Args:
        args: `url` or None, `json`.

    Returns: 0, or 65 if a connector, task or shard has FAILED.
    Raises: NoAnswer.  Blocks: for three requests.
    """
    url = base_url(args.url)
    told = {
        "url": url,
        "health": health(url),
        "metrics": health(url, "/health/metrics"),
        "connectors": connectors(url, "/connectors?expand=status&expand=info"),
    }
    if args.json:
        print(json.dumps(told, indent=2))
    else:
        say(lines(told, SYSTEM.wall_ms() / 1000))
    return Exit.DATA if _failed(told) else Exit.OK


def _failed(told: Mapping[str, Any]) -> bool:
    return told["health"].get("status") == "failed" or any(
        task["state"] == "FAILED"
        for connector in told["connectors"].values()
        for task in (*connector["status"]["tasks"], connector["status"]["connector"])
    )


def lines(told: Mapping[str, Any], now: float) -> Iterator[str]:
    """
    What `status` prints.

    Args:
        told: The document of `--json`.
        now: Wall seconds, for how long ago something was.
    """
    overall = told["health"].get("status", "health checks are off")
    yield f"{told['url']}: {overall}"
    verdicts = told["health"].get("connectors", {})
    figures = told["metrics"].get("connectors", {})
    for name, connector in told["connectors"].items():
        verdict = verdicts.get(name, {})
        stands = connector["status"]
        yield ""
        yield f"{name}: {verdict.get('status', stands['connector']['state'].lower())}"
        reasons = verdict.get("reasons", ())
        for reason in reasons:
            yield f"  {reason}"
        kinds = [
            each["kind"]
            for each in verdict.get("failures", ())
            if not each["over"] and each["polls"]
        ]
        if kinds:
            shown = ", ".join(dict.fromkeys(kinds))
            yield f"  what to do: docs/troubleshooting.md, {shown}"
        yield from _tasks(stands["tasks"], reasons)
        if name in figures:
            yield from _figures(figures[name])
        yield from _shards(verdict.get("shards", ()), now)
        yield from _over(verdict.get("failures", ()), now)


def _tasks(tasks: Sequence[Mapping[str, Any]], reasons: Sequence[str]) -> Iterator[str]:
    """A line for all that run, one for each that does not and was not told."""
    states = Counter(task["state"] for task in tasks)
    shown = [f"{n:,} {state}" for state, n in states.items()]
    yield f"  {'task' if len(tasks) == 1 else 'tasks'}: {', '.join(shown) or 'none'}"
    for task in tasks:
        trace = task.get("trace", "").strip().splitlines()
        if trace and not any(trace[0] in reason for reason in reasons):
            yield f"  task {task['id']} {task['state']}: {trace[0]}"


def _figures(numbers: Mapping[str, Any]) -> Iterator[str]:
    records = numbers["records"]
    yield (
        f"  records: {records['produced']:,} produced of {records['received']:,} "
        f"received, {records['filtered']:,} filtered, "
        f"{records['deadLettered']:,} dead-lettered, "
        f"{records['deduplicated']:,} deduplicated"
    )
    yield (
        f"  last minutes: {numbers['throughput']['messagesPerSecond']:,} records/s, "
        f"latency {numbers['latency']['averageMs']:,} ms "
        f"(p99 {numbers['latency']['p99Ms']:,} ms), errors {numbers['errorRate']} %, "
        f"cache hits {numbers['cacheHitRatio']}"
    )


def _shards(shards: Sequence[Mapping[str, Any]], now: float) -> Iterator[str]:
    held = [shard for shard in shards if shard["task"] is not None]
    for shard in held[:MOST_SHARDS]:
        last = f"last record {_ago(shard['lastRecord'], now)}"
        success = f"last good poll {_ago(shard['lastSuccess'], now)}"
        coming = "polls now"
        if shard["failed"]:
            coming = "no next poll until a reload, restart or resume"
        elif shard["nextPoll"]:
            coming = f"next poll {_ahead(shard['nextPoll'], now)}"
        yield f"  {shard['shard']}: {last}, {success}, {coming}"
    if len(held) > MOST_SHARDS:
        yield f"  ... and {len(held) - MOST_SHARDS:,} more shards (--json has all)"


def _over(failures: Sequence[Mapping[str, Any]], now: float) -> Iterator[str]:
    """What went wrong last and is over; what lasts stands among the reasons."""
    for failure in failures[:MOST_SHARDS]:
        often = f"{failure['count']:,} times" if failure["count"] > 1 else "once"
        words = f"{failure['shard']}: {failure['message']} ({often}"
        if failure["over"]:
            yield f"  over since {_since(failure['over'], now)}: {words})"
        elif not failure["polls"]:
            asked = "the API asked to wait, " if failure["asked"] else ""
            coming = f"next try {_ahead(failure['next'], now)}{_at(failure['next'])}"
            yield f"  tried again: {words}, {asked}{coming})"


def _ago(moment: str | None, now: float) -> str:
    return "never" if moment is None else f"{_since(moment, now)} ago"


def _since(moment: str, now: float) -> str:
    return span(now - datetime.fromisoformat(moment).timestamp())


def _ahead(moment: str | None, now: float) -> str:
    if moment is None:
        return "soon"
    seconds = datetime.fromisoformat(moment).timestamp() - now
    return f"in {span(seconds)}" if seconds >= 1 else "now"


def _at(moment: str | None) -> str:
    """The local time of a moment, as it stands behind how far away that is."""
    if moment is None:
        return ""
    then = datetime.fromisoformat(moment).astimezone()
    return then.strftime(", at %H:%M:%S")
