"""How things stand, through a file."""

from __future__ import annotations

from pathlib import Path

from engine.supervisor import status
from engine.supervisor.status import ChildStatus, ShardStatus, Snapshot

SNAPSHOT = Snapshot(
    pid=7,
    started_ms=1,
    state="running",
    children=(ChildStatus(key="c/0", connector="c", state="FAILED", trace="why"),),
    shards=(
        ShardStatus(connector="c", api="a", entity=None, label="a", slot=0, task=0),
    ),
    reloads={"ok": 1},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    status.write(tmp_path, SNAPSHOT)

    assert status.read(tmp_path) == SNAPSHOT
    assert 0o600 == (tmp_path / status.NAME).stat().st_mode & 0o777
    assert [status.NAME] == [path.name for path in tmp_path.iterdir()]


def test_nothing_or_garbage_is_none(tmp_path: Path) -> None:
    assert status.read(tmp_path) is None
    (tmp_path / status.NAME).write_bytes(b'{"pid":')
    assert status.read(tmp_path) is None
