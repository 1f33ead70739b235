"""
Stand-in: the command with tasks that only wait, for systemd to run.

`python -m tests.process.stand_in run FILE`: FILE holds `tasks=N`; anything
else is no configuration.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from engine.errors import ConfigError, EngineError
from engine.observe import log
from engine.supervisor.loop import Supervisor
from engine.supervisor.orders import ChildTimeouts, DesiredState
from engine.supervisor.runtime import Runtime, base_of
from tests.process.rig import connector, work


def main() -> int:
    file = Path(sys.argv[-1])
    state = Path(os.environ["STATE_DIRECTORY"])

    def plan() -> DesiredState:
        key, _, count = file.read_text().strip().partition("=")
        if key != "tasks" or not count.isdigit():
            raise ConfigError(f"{file}:1: what is {key!r}?")
        made = connector(state, work, name="orders", tasks=int(count))
        return DesiredState(connectors=(made,), patience=ChildTimeouts())

    log.configure(format=log.default_format(os.environ))
    runtime = Runtime(base_of(os.environ, configured=None, state=state))
    try:
        return Supervisor(plan, runtime=runtime).run()
    except EngineError as failure:
        print(failure, file=sys.stderr)
        return int(failure.code)


if __name__ == "__main__":
    sys.exit(main())
