"""
Runs a real engine on the default listeners, and one bash script beside it.

    python -m tests.guide.stand DIRECTORY SCRIPT well|ill

Meant for a network namespace of its own, where port 8080 is free.  The engine
polls an API that fares well or ill and writes into its embedded broker; what
the script says goes to stdout, what the engine showed afterwards into
`metrics.json`.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e.admin import Admin
from tests.e2e.rig import Setup, until
from tests.fakes.api import Answer, Api, Asked

#: Seconds an answer takes, and records of a page.
FARES = {"well": (0.05, 100), "ill": (2.2, 1)}


def source(how: str) -> Callable[[Asked], Answer]:
    """Pages of news, each after its time; one request in ten fails for good."""
    seconds, records = FARES[how]
    numbers = itertools.count()

    def answer(asked: Asked) -> Answer:
        time.sleep(seconds)
        page = next(numbers)
        if page % 10 == 9:
            return 500, [], b"oops"
        items = [{"id": records * page + at} for at in range(records)]
        return 200, [], json.dumps({"items": items}).encode()

    return answer


def main(directory: str, script: str, how: str) -> int:
    folder = Path(directory)
    keys = {
        # The default: both loopback addresses, port 8080.
        "listeners": None,
        "http.source.poll.interval.ms": 1,
        "max.retries": 0,
        # News only: a cache could not but miss.
        "cache.enabled": "true" if how == "ill" else "false",
    }
    with Api() as api:
        api.route("/x", source(how))
        setup = Setup(folder, f"{api.url}/x", "embedded", keys)
        with setup.running() as running:
            admin = Admin("http://127.0.0.1:8080")
            until(lambda: running.said(r"status at http://\[::1\]:8080"), "listening")
            wanted = 2000 if how == "well" else 1

            def flowing() -> bool:
                told = admin.get("/health/metrics")
                # Times are written once a second.
                timed = bool(told["averageLatency"] and told["requests"]["total"])
                return timed and told["totalMessages"] >= wanted

            until(flowing, "records")
            ran = subprocess.run(["bash", script], cwd=directory, check=False)
            told = admin.ask("/health/metrics").body
            (folder / "metrics.json").write_bytes(told)
            assert 0 == running.end().code, running.err
    return ran.returncode


if __name__ == "__main__":
    sys.exit(main(str(Path(sys.argv[1]).resolve()), *sys.argv[2:]))
