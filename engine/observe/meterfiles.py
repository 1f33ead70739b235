"""
Meterfiles: the meters' files, read with nothing taken on trust.

Owns the format of prometheus_client's multiprocess files, as far as it is read,
and what becomes of one that is damaged: no length that a file states is believed.

Under `observe.room`, which writes them, and `admin.store`, which adds them up.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import struct
from mmap import mmap
from pathlib import Path
from typing import TypeAlias

_USED = struct.Struct("i")
_VALUE = struct.Struct("dd")

#: Where the first entry stands, and the boundary that entries keep to.
FIRST = 8

#: A file's bytes, read or mapped.
Buffer: TypeAlias = bytes | mmap


def entries(path: str | Path) -> list[tuple[str, float, float]]:
    """
    (key, value, moment) of each series in a file.

    Raises: OSError; ValueError for a file that no meter wrote.
    Blocks: for the reading of a file in memory.
    """
    data = Path(path).read_bytes()
    # Without any it was made a moment ago.
    return [found[:3] for found in places(data)] if data else []


def places(data: Buffer) -> list[tuple[str, float, float, int]]:
    """
    As `entries`, each with the place of its value, out of a file's bytes.

    Raises: ValueError for what no meter wrote.
    """
    if len(data) < FIRST:
        raise ValueError("cut")
    (used,) = _USED.unpack_from(data)
    if used == 0:
        return []
    if not FIRST <= used <= len(data):
        raise ValueError(f"{used} bytes of {len(data)} are said to be used")
    found = []
    at = FIRST
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
        found.append((key, *_VALUE.unpack_from(data, value), value))
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
