"""
Meterfiles: the meters' files, read with nothing taken on trust.

Owns the format of prometheus_client's multiprocess files, as far as it is read,
and what becomes of one that is damaged.  The library's own reader believes each
length it finds, and may go round in circles in a file that somebody else wrote.

Under `observe.meters`, which writes them, and `admin.store`, which adds them up.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import struct
from pathlib import Path

_USED = struct.Struct("i")
_VALUE = struct.Struct("dd")

#: Where the first entry stands, and the boundary that entries keep to.
_FIRST = 8


def entries(path: str | Path) -> list[tuple[str, float, float]]:
    """
    (key, value, moment) of each series in a file.

    Raises: OSError; ValueError for a file that no meter wrote.
    Blocks: for the reading of a file in memory.
    """
    data = Path(path).read_bytes()
    if not data:
        # Made a moment ago.
        return []
    if len(data) < _FIRST:
        raise ValueError("cut")
    (used,) = _USED.unpack_from(data)
    if used == 0:
        return []
    if not _FIRST <= used <= len(data):
        raise ValueError(f"{used} bytes of {len(data)} are said to be used")
    found = []
    at = _FIRST
    while at < used:
        if at + _USED.size > used:
            raise ValueError("an entry is cut")
        (length,) = _USED.unpack_from(data, at)
        # The text is padded to a boundary of eight, by at least one blank.
        padded = length + (8 - (length + _USED.size) % 8)
        value = at + _USED.size + padded
        if length <= 0 or value + _VALUE.size > used:
            raise ValueError(f"an entry of {length} bytes at {at}")
        key = data[at + _USED.size : at + _USED.size + length].decode()
        found.append((key, *_VALUE.unpack_from(data, value)))
        at = value + _VALUE.size
    return found


def is_key(key: str) -> bool:
    """Whether a text can be the key of a series: family, sample, labels, meaning."""
    try:
        parts = json.loads(key)
    except ValueError:
        return False
    return (
        isinstance(parts, list)
        and len(parts) == 4
        and isinstance(parts[0], str)
        and isinstance(parts[1], str)
        and isinstance(parts[2], dict)
        and all(isinstance(value, str) for value in parts[2].values())
    )


def put_aside(directory: str | Path, writer: str) -> list[str]:
    """
    Rename those of a writer's files that it could not go on with.

    Returns: what was wrong with each, for people.  Never raises.
    """
    told = []
    pattern = os.path.join(glob.escape(str(directory)), f"*_{glob.escape(writer)}.db")
    for path in sorted(glob.glob(pattern)):
        try:
            if not os.access(path, os.R_OK | os.W_OK):
                raise ValueError("not ours to write")
            if not all(is_key(key) for key, _, _ in entries(path)):
                raise ValueError("a key that no meter has")
            continue
        except (OSError, ValueError) as failure:
            told.append(f"{os.path.basename(path)}: {failure}")
        with contextlib.suppress(OSError):
            # A suffix that nobody reads.
            os.replace(path, f"{path}.bad")
    return told
