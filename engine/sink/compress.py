"""
Compress: the records of a batch as one compressed block, and back.

Owns Kafka's codecs and their framing, and nothing of the batch around them.

Path: `sink.batch` calls it when a batch is closed, `sink.scan` when one is read.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from msgspec import Struct

from engine.config.libraries import load, missing
from engine.errors import Misconfigured
from engine.later import later

if TYPE_CHECKING:
    import gzip

    from lz4 import frame
else:
    gzip = later("gzip")
    frame = later("lz4.frame")

#: Takes the records of a batch, gives the compressed block.
Codec: TypeAlias = Callable[[bytes], bytes]

#: The low three bits of a batch's attributes, by `compression.type`.
NUMBERS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}

#: snappy-java's stream: magic, version and the oldest version that reads it.
XERIAL = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)

#: Bytes of a block of snappy-java's stream before compression.
XERIAL_BLOCK = 32 * 1024


def _gzip(records: bytes) -> bytes:
    # A time stamp of 0 keeps equal batches equal.
    return gzip.compress(records, mtime=0)


def _lz4(records: bytes) -> bytes:
    # Kafka's Java reader refuses blocks that depend on the one before.
    packed: bytes = frame.compress(records, block_linked=False)
    return packed


def _zstd(library: Any) -> Codec:
    # zstandard has a compressor to be made; the others, as in Python 3.14, a function.
    if not hasattr(library, "ZstdDecompressionReader"):
        return cast(Codec, library.compress)

    def packed(records: bytes) -> bytes:
        block: bytes = library.ZstdCompressor().compress(records)
        return block

    return packed


def _snappy(library: Any) -> Codec:
    return functools.partial(_xerial, library.compress)


def _xerial(compress: Codec, records: bytes) -> bytes:
    stream = [XERIAL]
    for at in range(0, len(records), XERIAL_BLOCK):
        block = compress(records[at : at + XERIAL_BLOCK])
        stream += [struct.pack(">i", len(block)), block]
    return b"".join(stream)


class Packing(Struct, frozen=True):
    """
    How a batch is compressed.

    Attributes:
        kind: `producer.compression.type`.
        codec: None for "none".
    """

    kind: str = "none"
    codec: Codec | None = None


PLAIN = Packing()


def packing(kind: str) -> Packing:
    """
    What `producer.compression.type` asks for.

    Raises: Misconfigured if its library is not installed.
    """
    if kind == "none":
        return PLAIN
    if kind in ("zstd", "snappy"):
        purpose = f"compression.type {kind}"
        library = load(purpose)
        if library is None:
            raise Misconfigured(f"producer.compression.type: {missing(purpose)}")
        return Packing(kind, (_zstd if kind == "zstd" else _snappy)(library))
    return Packing(kind, {"gzip": _gzip, "lz4": _lz4}[kind])


def unpacked(number: int, block: bytes) -> bytes:
    """
    The records of a compressed block.

    Args:
        number: The low three bits of the batch's attributes.

    Raises: Misconfigured if its library is not installed, or nobody knows the
        number; ValueError for a block that is damaged.
    """
    try:
        return _unpacked(number, block)
    # Each library has its own: gzip's are OSError and EOFError, zlib's its own,
    # lz4's RuntimeError; zstd and snappy are renamed below.
    except (OSError, EOFError, zlib.error, RuntimeError) as error:
        raise ValueError(f"a damaged block: {error}") from error


def _unpacked(number: int, block: bytes) -> bytes:
    if number == NUMBERS["gzip"]:
        return gzip.decompress(block)
    if number == NUMBERS["lz4"]:
        records: bytes = frame.decompress(block)
        return records
    if number not in NUMBERS.values():
        raise Misconfigured(f"a batch is compressed with the unknown codec {number}")
    if number == NUMBERS["zstd"]:
        return _unzstd(block)
    return _unsnapped(block)


def _unsnapped(block: bytes) -> bytes:
    library: Any = _needed("snappy")
    try:
        if not block.startswith(XERIAL[:8]):
            records: bytes = library.uncompress(block)
            return records
        parts, at = [], len(XERIAL)
        while at < len(block):
            (size,) = struct.unpack_from(">i", block, at)
            at += 4
            parts.append(library.uncompress(block[at : at + size]))
            at += size
        return b"".join(parts)
    except library.UncompressError as error:
        raise ValueError(f"a damaged block: {error}") from error


def _unzstd(block: bytes) -> bytes:
    """Decompress zstd, of several frames, too: Kafka's Java client writes one, others may not."""
    library: Any = _needed("zstd")
    records: bytes
    try:
        if not hasattr(library, "ZstdDecompressionReader"):
            records = library.decompress(block)
            return records
        decompressor = library.ZstdDecompressor()
        with decompressor.stream_reader(block, read_across_frames=True) as reader:
            records = reader.read()
    except library.ZstdError as error:
        raise ValueError(str(error)) from error
    return records


def _needed(kind: str) -> ModuleType:
    purpose = f"compression.type {kind}"
    library = load(purpose)
    if library is None:
        raise Misconfigured(f"a batch cannot be read: {missing(purpose)}")
    return library
