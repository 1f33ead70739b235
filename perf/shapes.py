"""Records of other shapes than an order's: small and large, flat and nested, any text."""

from __future__ import annotations

import json

#: Letters of one, two, three and four bytes, quotes and control characters.
TEXT = 'aé漢𝄞"\\\n\u2028ß'


def dumped(value: object, *, ascii_only: bool = False) -> bytes:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only)
    return text.encode()


def tiny(number: int, size: int) -> bytes:
    """About 40 bytes; `size` says nothing."""
    return b'{"id":%d,"at":1700000000,"ok":true}' % number


def nested(number: int, size: int) -> bytes:
    """Objects and lists in each other, 12 deep, filled up to about a size."""
    inner: object = {"id": number, "list": [number, None, 1.5, [[]], {}]}
    for depth in range(12):
        inner = {"depth": depth, "in": [inner], "name": f"level {depth}"}
    found = dumped({"id": number, "tree": inner})
    fill = max(0, size - len(found) - 11)
    return found[:-1] + b',"fill":"' + b"y" * fill + b'"}'


def unicode(number: int, size: int) -> bytes:
    """Text beyond ASCII, as bytes in every other record and escaped in the rest."""
    times = max(1, size // (4 * len(TEXT)))
    value = {"id": number, "ключ": TEXT * times, "": number % 7}
    return dumped(value, ascii_only=number % 2 == 0)


def uneven(number: int, size: int) -> bytes:
    """From 40 bytes to several times a size, by the record."""
    fill = number * 7919 % (4 * size)
    return b'{"id":%d,"fill":"' % number + b"z" * fill + b'"}'
