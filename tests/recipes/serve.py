"""
Serve: the model of an API for whoever wants to see its recipe run.

    python -m tests.recipes.serve airtable

prints the command that runs the recipe against it, and adds a record a second.
"""

from __future__ import annotations

import shlex
import sys
import time

from tests.recipes.apis import ALL


def main() -> None:
    """Serve until killed."""
    names = sys.argv[1:]
    if len(names) != 1 or names[0] not in ALL:
        sys.exit(f"one of: {', '.join(sorted(ALL))}")
    with ALL[names[0]]() as model:
        model.add(model.first)
        words = [
            f"{key}={shlex.quote(value)}" for key, value in model.environment.items()
        ]
        words += ["kafka-http-source", "run", f"conf/recipes/{names[0]}.properties"]
        settings = {
            **model.settings(),
            "bootstrap.servers": "embedded",
            "http.source.poll.interval.ms": 2000,
        }
        for key, value in settings.items():
            words += ["--set", shlex.quote(f"{key}={value}")]
        print(" ".join(words), flush=True)
        while True:
            time.sleep(1)
            model.add(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
