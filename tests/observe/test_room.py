"""Meters on a file system that is full: no process ends for them."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict

from engine.observe import room
from engine.observe.room import SMALLEST, MeterFile


class Full:
    """A file system that gives so many bytes and no more."""

    def __init__(self, most: int, number: int = errno.ENOSPC) -> None:
        self.most = most
        self.number = number

    def __call__(self, fd: int, start: int, length: int) -> None:
        if length > self.most:
            raise OSError(self.number, os.strerror(self.number))
        os.ftruncate(fd, length)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("most", [0, SMALLEST, 2 * SMALLEST])
def test_what_finds_no_room_is_counted_all_the_same(
    most: int,
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", Full(most, number))
    monkeypatch.setattr(room, "_said", set())
    file = MeterFile(str(tmp_path / "counter_x.db"))
    keys = [f"{index:05d}" * 60 for index in range(800)]

    for turn in (1.0, 2.0):
        for key in keys:
            file.read_value(key)
            file.write_value(key, turn, turn)

    assert [(2.0, 2.0)] * len(keys) == [file.read_value(key) for key in keys]
    assert 0 < len(file.unseen) <= len(keys)
    there = tmp_path.joinpath("counter_x.db")
    assert (there.stat().st_size if there.exists() else 0) <= most
    [line] = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert str(tmp_path) in line.getMessage()
    file.close()


def test_where_there_is_room_prometheus_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "counter_x.db"
    file = MeterFile(str(path))
    keys = [f"{index:05d}" * 60 for index in range(800)]
    for key in keys:
        file.write_value(key, 3.0, 0.0)
    file.close()

    again = MeterFile(str(path))

    assert [(3.0, 0.0)] * len(keys) == [again.read_value(key) for key in keys]
    assert path.stat().st_blocks * 512 >= path.stat().st_size
    # The library's own reader, as the format is its.
    read = MmapedDict.read_all_values_from_file(str(path))
    assert [(key, 3.0, 0.0) for key in keys] == [found[:3] for found in read]
    again.close()
