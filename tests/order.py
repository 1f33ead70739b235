"""
Order: which files of tests begin first where several processes share them.

A process gets one file after the other.  One that lasts a minute and begins as the last
leaves the others idle, so the long ones come first.  The rest, which mostly needs the
processor, is spread evenly between them, who mostly wait: all of the long ones side by
side would leave it idle at first, and all of the rest would fight for it behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parent

#: About how many seconds a file takes beside others; what takes less than ten has no
#: line, and what nobody has measured comes between the others.
SECONDS: Final = {
    name: int(seconds)
    for seconds, name in map(
        str.split,
        """
125 faults/test_delivery.py
110 e2e/test_exactly_once.py
103 faults/test_matrix.py
 90 e2e/test_cache.py
 87 e2e/test_modes.py
 83 e2e/test_cache_faults.py
 66 e2e/test_quiet.py
 65 e2e/test_signals.py
 64 e2e/test_children_incremental.py
 62 e2e/test_terminal.py
 61 contracts/test_produce_read_back.py
 60 e2e/test_snapshots.py
 60 recipes/test_recipes.py
 52 e2e/test_dead_letters.py
 52 sink/test_broker_faults.py
 50 contracts/test_produce_stalls.py
 50 e2e/test_state_files.py
 50 package/test_container.py
 45 contracts/test_cache_conformance.py
 45 package/test_package.py
 45 process/test_limiter_under_fire.py
 44 e2e/test_incremental.py
 44 e2e/test_rights.py
 43 contracts/test_connect_worker.py
 42 e2e/test_scaling.py
 41 e2e/test_offset_commands.py
 41 sink/test_statetopic.py
 38 e2e/test_state_topic.py
 36 e2e/test_run.py
 35 contracts/test_produce_storms.py
 35 e2e/test_cache_model.py
 35 e2e/test_every_type.py
 34 e2e/test_rate_limit.py
 32 e2e/test_offsets.py
 32 e2e/test_paging.py
 30 e2e/test_jobs.py
 30 e2e/test_paging_shards.py
 30 task/test_configurations.py
 29 e2e/test_bench.py
 27 e2e/test_cache_unchanged.py
 26 e2e/test_foreign_files.py
 26 process/test_real_systemd.py
 25 e2e/test_dev.py
 25 e2e/test_mode_commands.py
 24 config/test_fuzz.py
 24 e2e/test_backfill.py
 23 e2e/test_commands.py
 23 e2e/test_secured.py
 20 contracts/test_produce_brokers.py
 18 contracts/test_produce_leaders.py
 18 e2e/test_control.py
 18 e2e/test_memory.py
 15 e2e/test_neighbours.py
 13 e2e/test_cache_warming.py
 13 language/test_regexes.py
 13 sink/test_bootstrap.py
""".strip().splitlines(),
    )
}


def ordered(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The same tests, file by file, each file's in their order."""
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path.relative_to(TESTS).as_posix(), []).append(item)
    return [item for name in spread(list(files)) for item in files[name]]


def spread(names: Sequence[str]) -> list[str]:
    """The long ones, longest first, and evenly between them the rest."""
    long = [name for name in names if name in SECONDS]
    long.sort(key=SECONDS.__getitem__, reverse=True)
    rest = [name for name in names if name not in SECONDS]
    whole = sum(SECONDS[name] for name in long)
    found: list[str] = []
    gone = told = 0
    for name in long:
        found.append(name)
        gone += SECONDS[name]
        due = len(rest) * gone // whole
        found += rest[told:due]
        told = due
    return found + rest[told:]
