"""
Serves a made-up connector on the default listeners and runs one bash script.

    python -m tests.guide.stand DIRECTORY SCRIPT well|ill

Meant for a network namespace of its own, where port 8080 is free.  While the
script runs, records are delivered; what the script says goes to stdout.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from engine.admin.view import ShardState, TaskState
from engine.clock import SYSTEM
from engine.observe import names
from engine.observe.meters import Meters
from tests.fakes.view import FakeView, card, serving

LISTENERS = ("http://127.0.0.1:8080", "http://[::1]:8080")

#: Records there are before the script starts, 50 seconds after the start.
BEFORE = {"well": 30_000, "ill": 3}

#: Seconds from request to acknowledgement.
LATENCY = {"well": 0.25, "ill": 2.5}


def main(directory: str, script: str, how: str) -> int:
    view = FakeView(
        f"{directory}/meters", started_ms=SYSTEM.wall_ms() - 50_000, cards=[card()]
    )
    view.task_states = [TaskState("orders", 0, "RUNNING")]
    meters = Meters(directory=view.meters, connector="orders", task=0)
    meters.observe(names.FETCH_TO_ACK_SECONDS, (), LATENCY[how])
    meters.count(names.CACHE_REQUESTS, ("1", "hit"), 9 if how == "well" else 1)
    meters.count(names.CACHE_REQUESTS, ("none", "miss"), 1)
    meters.count(names.REQUESTS, ("h", "failed", "5xx"), 1)
    meters.count(names.REQUESTS, ("h", "ok", "2xx"), 199)
    meters.close()

    ended = threading.Event()

    def deliver() -> None:
        records = BEFORE[how]
        while True:
            counts = {"received": records, "produced": records, "pages": 1}
            view.shard_states = [
                ShardState(0, "orders", "api1", "api1", 0, counts, SYSTEM.wall_ms())
            ]
            if ended.wait(0.01):
                return
            records += 25 if how == "well" else 0

    delivering = threading.Thread(target=deliver)
    delivering.start()
    try:
        with serving(view, f"{directory}/ports", listeners=LISTENERS) as urls:
            assert 2 == len(urls), urls
            ran = subprocess.run(["bash", script], cwd=directory, check=False)
    finally:
        ended.set()
        delivering.join()
    return ran.returncode


if __name__ == "__main__":
    sys.exit(main(str(Path(sys.argv[1]).resolve()), *sys.argv[2:]))
