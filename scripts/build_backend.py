"""
The build backend: setuptools', with archives that are equal byte for byte.

Two builds of the same tree give the same sdist and the same wheel: every time in
them is one fixed time, owners and orders are the same, and no umask shows.  A caller
who sets SOURCE_DATE_EPOCH has that time instead.

Source: PEP 517; reproducible-builds.org's SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

#: 1 January 1980, the earliest that a zip archive can hold.
EARLIEST = "315532800"


def build_wheel(directory: str, *settings: Any, **more: Any) -> str:
    """PEP 517's hook; the wheel library reads SOURCE_DATE_EPOCH."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", EARLIEST)
    os.umask(0o022)
    return build_meta.build_wheel(directory, *settings, **more)


def build_sdist(directory: str, *settings: Any, **more: Any) -> str:
    """PEP 517's hook; what setuptools made is packed again in order."""
    name = build_meta.build_sdist(directory, *settings, **more)
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", EARLIEST))
    repack(Path(directory) / name, epoch)
    return name


def repack(path: Path, epoch: int) -> None:
    """The same members, sorted, without owners and with one time."""
    packed = io.BytesIO()
    with (
        tarfile.open(path) as old,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            content = old.extractfile(member) if member.isfile() else None
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = epoch
            member.mode = 0o755 if member.mode & stat.S_IXUSR else 0o644
            member.pax_headers = {}
            new.addfile(member, content)
    with (
        open(path, "wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as compressed,
    ):
        compressed.write(packed.getvalue())
