"""
Remote: what a running engine says of itself, here or on another machine.

Owns `status`, and how to ask an admin process: over HTTP and nothing else, so
that the same is shown on this machine as from afar.  Nothing is changed.

Path: ``cli.main``, ``cli.top`` -> here -> (HTTP) -> ``admin``
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.cli.display import say
from engine.errors import EngineError, Exit
from engine.supervisor.runtime import NAME, base_of, running

#: Where an engine listens that was told nothing else.
DEFAULT = "http://127.0.0.1:8080"

#: File in a runtime directory that lists the bound addresses.
LISTENERS = "listeners"

#: Seconds an answer may take.
PATIENCE = 10.0

#: No proxy of the environment ever sees these requests.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NoAnswer(EngineError):
    """No engine answers at that address."""

    code = Exit.UNAVAILABLE


def status(args: argparse.Namespace) -> int:
    """
    `status`: how every connector and task stands.

    Args:
        args: `url` or None, `json`.

    Raises: NoAnswer.  Blocks: for three requests.
    """
    url = base_url(args.url)
    told = {
        "url": url,
        "health": get_json(url, "/health"),
        "metrics": get_json(url, "/health/metrics"),
        "connectors": get_json(url, "/connectors?expand=status&expand=info"),
    }
    if args.json:
        print(json.dumps(told, indent=2))
    else:
        say(_status_lines(told))
    return Exit.OK


# --- asking ------------------------------------------------------------------


def base_url(given: str | None) -> str:
    """
    Where to ask: as given; else the newest engine of this user here; else 8080.
    """
    if given:
        return (given if "//" in given else f"http://{given}").rstrip("/")
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    base = base_of(os.environ, configured=None, state=Path(home) / NAME)
    for directory in reversed(running(base)):
        try:
            urls = (directory / LISTENERS).read_text().split()
        except OSError:
            continue
        if urls:
            return urls[0]
    return DEFAULT


def get(url: str, path: str) -> bytes:
    """
    The body, whatever the status: /health says how it stands with a 500, too.

    Raises: NoAnswer.
    """
    try:
        with _OPENER.open(f"{url}{path}", timeout=PATIENCE) as answer:
            content: bytes = answer.read()
    except urllib.error.HTTPError as refused:
        content = refused.read()
    except (OSError, ValueError, http.client.HTTPException) as failure:
        reason = getattr(failure, "reason", None) or failure or type(failure).__name__
        raise NoAnswer(
            f"no engine answers at {url}: {reason}; is it running, and does "
            "`listeners` name this address? --url names another"
        ) from failure
    return content


def get_json(url: str, path: str) -> Any:
    try:
        return json.loads(get(url, path))
    except ValueError as failure:
        raise NoAnswer(f"what answers at {url} is no engine") from failure


def _status_lines(told: Mapping[str, Any]) -> Iterator[str]:
    health, metrics = told["health"], told["metrics"]
    verdicts = health.get("connectors", {})
    figures = metrics.get("connectors", {})
    yield f"{told['url']}: {health.get('status', 'health checks are off')}"
    for name, connector in told["connectors"].items():
        verdict = verdicts.get(name, {})
        stands = connector["status"]
        yield ""
        yield f"{name}: {verdict.get('status', stands['connector']['state'].lower())}"
        for reason in verdict.get("reasons", ()):
            yield f"  {reason}"
        for task in stands["tasks"]:
            trace = task.get("trace", "").strip().splitlines()
            why = f": {trace[0]}" if trace else ""
            yield f"  task {task['id']}: {task['state']}{why}"
        if name in figures:
            yield from _figures(figures[name])


def _figures(numbers: Mapping[str, Any]) -> Iterator[str]:
    records = numbers["records"]
    yield (
        f"  records: {records['produced']} produced of {records['received']} received"
        f", {records['filtered']} filtered, {records['deadLettered']} dead-lettered"
        f", {records['deduplicated']} deduplicated"
    )
    yield (
        f"  last minutes: {numbers['throughput']['messagesPerSecond']} records/s"
        f", latency {numbers['latency']['averageMs']} ms"
        f" (p99 {numbers['latency']['p99Ms']} ms)"
        f", errors {numbers['errorRate']} %, cache hits {numbers['cacheHitRatio']}"
    )
