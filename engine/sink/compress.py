"""
Compress: the records of a batch as one compressed block, and back.

Owns Kafka's codecs and their framing, and nothing of the batch around them.

Path: `sink.batch` calls it when a batch is closed, `sink.scan` when one is read.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from typing import TypeAlias

import lz4.frame
from msgspec import Struct

from engine.errors import Misconfigured

# Both come with the extra "compression".
try:
    import snappy
    import zstandard
except ImportError:
    EXTRA = False
else:
    EXTRA = True

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
    packed: bytes = lz4.frame.compress(records, block_linked=False)
    return packed


def _zstd(records: bytes) -> bytes:
    packed: bytes = zstandard.ZstdCompressor().compress(records)
    return packed


def _snappy(records: bytes) -> bytes:
    stream = [XERIAL]
    for at in range(0, len(records), XERIAL_BLOCK):
        block = snappy.compress(records[at : at + XERIAL_BLOCK])
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
    if kind in ("zstd", "snappy") and not EXTRA:
        raise Misconfigured(
            f"producer.compression.type={kind} needs the extra: "
            "pip install 'kafka-http-source[compression]'"
        )
    codecs = {"gzip": _gzip, "snappy": _snappy, "lz4": _lz4, "zstd": _zstd}
    return Packing(kind, codecs[kind])


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
        records: bytes = lz4.frame.decompress(block)
        return records
    if number not in NUMBERS.values():
        raise Misconfigured(f"a batch is compressed with the unknown codec {number}")
    if number == NUMBERS["zstd"]:
        return _unzstd(block)
    return _unsnapped(block)


def _unsnapped(block: bytes) -> bytes:
    try:
        from snappy import UncompressError, uncompress
    except ImportError as error:
        raise _needing("snappy") from error
    try:
        if not block.startswith(XERIAL[:8]):
            records: bytes = uncompress(block)
            return records
        parts, at = [], len(XERIAL)
        while at < len(block):
            (size,) = struct.unpack_from(">i", block, at)
            at += 4
            parts.append(uncompress(block[at : at + size]))
            at += size
        return b"".join(parts)
    except UncompressError as error:
        raise ValueError(f"a damaged block: {error}") from error


def _unzstd(block: bytes) -> bytes:
    """Of several frames, too: Kafka's Java client writes one, others may not."""
    records: bytes
    try:
        import zstandard as library
    except ImportError:
        try:
            from backports.zstd import ZstdError, decompress
        except ImportError as error:
            raise _needing("zstd") from error
        try:
            records = decompress(block)
        except ZstdError as error:
            raise ValueError(str(error)) from error
        return records
    try:
        decompressor = library.ZstdDecompressor()
        with decompressor.stream_reader(block, read_across_frames=True) as reader:
            records = reader.read()
    except library.ZstdError as error:
        raise ValueError(str(error)) from error
    return records


def _needing(kind: str) -> Misconfigured:
    return Misconfigured(
        f"a batch that is compressed with {kind} needs the extra: "
        "pip install 'kafka-http-source[compression]'"
    )
