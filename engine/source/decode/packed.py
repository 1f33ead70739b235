"""
Packed: a body that is a gzip or zip file, without a Content-Encoding that says so.

Owns what is unpacked, and the bounds of it: no more than a body may have, no
bomb, no more files than `MOST_FILES`.  Writes nothing but the unlinked file of
`source.wire.body`.

Path: `source.decode.readable` (a body) -> here -> the bodies inside
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from typing import TYPE_CHECKING, Final, TypeAlias

from engine.errors import BadPage, Forbidden, Unreachable
from engine.later import later
from engine.source.wire.body import MAX_RATIO, RATIO_FREE, Collector
from engine.source.wire.inflate import gzip
from engine.source.wire.pieces import BodyLimits, Pieces, too_large

if TYPE_CHECKING:
    import lzma
    import zipfile
else:
    lzma, zipfile = later("lzma"), later("zipfile")

Body: TypeAlias = bytes | bytearray | memoryview

_GZIP: Final = b"\x1f\x8b"
#: Of the first file, and of an archive without one (APPNOTE 4.3.7, 4.3.16).
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")

#: Files of one archive.
MOST_FILES: Final = 1000
#: Bytes that are unpacked in one go.
STRIDE: Final = 64 * 1024


def packed(body: Body) -> bool:
    """True if a body begins as a gzip or zip file does: no text does."""
    head = bytes(body[:4])
    return head[:2] == _GZIP or head in _ZIP


def _broken() -> tuple[type[Exception], ...]:
    """
    What the libraries raise for a damaged file; NotImplementedError is zipfile's word for
    a method of compression that it does not know.
    """
    return (
        zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError,
        NotImplementedError, RuntimeError, ValueError, OverflowError, KeyError,
    )  # fmt: skip


def unpacked(body: Body, bounds: BodyLimits) -> list[Body]:
    """
    What is inside, unpacked; the files of a zip archive in its order.

    Folders and what systems leave behind (`__MACOSX`, `.DS_Store`) are not files
    of it; a gzip file inside of a zip archive is unpacked, too.

    Raises:
        BadPage: Broken, cut, encrypted, or nothing in it.
        Forbidden: It unpacks to more than `bounds` allow.
    """
    if bytes(body[:2]) == _GZIP:
        return [_gunzipped(body, bounds)]
    try:
        return _unzipped(body, bounds)
    except _broken() as error:
        raise BadPage(f"the zip file cannot be read: {error}") from error


def _gunzipped(body: Body, bounds: BodyLimits) -> Body:
    collector = Collector(gzip(bounds.piece), bounds, math.inf)
    view = memoryview(body)
    try:
        for at in range(0, len(view), STRIDE):
            collector.add(bytes(view[at : at + STRIDE]))
        return collector.finish()
    except Unreachable as error:
        raise BadPage(f"the gzip file cannot be read: {error}") from error


def _unzipped(body: Body, bounds: BodyLimits) -> list[Body]:
    found: list[Body] = []
    left = bounds.size
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        files = [info for info in archive.infolist() if _counts(info.filename)]
        if not files:
            raise BadPage("the zip file holds no file")
        if len(files) > MOST_FILES:
            raise Forbidden(f"the zip file holds more than {MOST_FILES} files")
        for info in files:
            if info.flag_bits & 1:
                raise BadPage("the zip file is encrypted")
            pieces, length = Pieces(bounds), 0
            with archive.open(info) as file:
                # Read to its end: there its checksum is compared.
                while piece := file.read(STRIDE):
                    length += len(piece)
                    if length > left:
                        raise too_large(bounds.size, "zip file")
                    if length > RATIO_FREE and length > MAX_RATIO * len(body):
                        raise Forbidden(f"the zip file inflates over {MAX_RATIO}:1")
                    pieces.add(piece)
            left -= length
            part = pieces.whole()
            found.append(_gunzipped(part, bounds) if part[:2] == _GZIP else part)
    return found


def _counts(name: str) -> bool:
    base = name.rstrip("/").rpartition("/")[2]
    return not (
        name.endswith("/") or name.startswith("__MACOSX/") or base.startswith(".")
    )
