"""How many examples a property is tried with: all of them, or a share with `--fast`."""

from __future__ import annotations

import os

#: Set by `--fast`, for the processes that share the tests, too.
FAST = "KAFKA_HTTP_SOURCE_FAST"

#: Of this many examples one is tried with `--fast`.
SHARE = 5

#: Tried in any case.
LEAST = 20


def examples(count: int) -> int:
    """So many; with `--fast` a share of them."""
    return count if not os.environ.get(FAST) else max(LEAST, count // SHARE)
