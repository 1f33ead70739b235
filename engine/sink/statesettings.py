"""
State settings: the settings by which a state topic stays small.

Path: `sink.statetopic` -> here
"""

from __future__ import annotations

from collections.abc import Mapping

#: Settings without which the topic grows for days before anything is compacted:
#: Kafka compacts only segments that are closed, of 1 GiB or 7 days by default.
#: With these about 16 MiB of a partition are not compacted, and nothing is for
#: longer than an hour.  A tombstone outlives any reading.
SETTINGS: Mapping[str, str] = {
    "segment.bytes": str(16 << 20),
    "segment.ms": "3600000",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "3600000",
    "min.cleanable.dirty.ratio": "0.1",
    "delete.retention.ms": "3600000",
}


def exceeds(found: str, wanted: str) -> bool:
    """Each of `SETTINGS` is a number of which more means later."""
    try:
        return float(found) > float(wanted)
    except ValueError:
        return False
