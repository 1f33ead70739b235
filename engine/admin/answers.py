"""
Answers: what every family of endpoints takes and gives back.

Owns the shapes of a request to the admin process and of its response, and how numbers
are written; it knows no socket and no route.

Each file of endpoints beside it is a function from (request, view) to a response, tested
without a network; `admin.server` alone speaks HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

JSON = "application/json"

#: Nesting of a request's JSON; what is asked for here has three levels.
DEPTH = 32

#: JSON whose decimals are numbers and stand as `plain` wrote them.
_ENCODER = msgspec.json.Encoder(decimal_format="number")


class AdminRequest(Struct, frozen=True):
    """
    A request to the admin process, read to its end and within its bounds.

    Attributes:
        method: GET, HEAD, POST, PUT ...
        path: Decoded, from the first slash, without the query.
        query: Name -> values, in order.
        headers: Names in lower case.
        body: At most `channels.BODY_LIMIT` bytes.
    """

    method: str
    path: str
    query: Mapping[str, Sequence[str]] = {}
    headers: Mapping[str, str] = {}
    body: bytes = b""

    def flag(self, name: str) -> str | None:
        """The last value of a query parameter, or None."""
        values = self.query.get(name)
        return values[-1] if values else None


class RequestLimits(Struct, frozen=True):
    """
    The most that one request may ask for, whoever sends it.

    Attributes:
        requests: Of Jolokia in one bulk; `admin.jolokia.max.requests`.
        answer: Bytes of one answer of Jolokia's; `admin.jolokia.max.answer.bytes`.
        loggers: Whose level is set; `admin.max.loggers`.
    """

    requests: int = 100
    answer: int = 8 * 1024 * 1024
    loggers: int = 200


#: The defaults of the keys.
BOUNDS = RequestLimits()


class AdminResponse(Struct, frozen=True):
    """
    Attributes:
        status: Status code.
        body: Bytes.
        content_type: Its type.
        headers: Further headers.
    """

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


def json_answer(status: int, value: Any) -> AdminResponse:
    """A value as JSON, keys in the order given."""
    return AdminResponse(status, _ENCODER.encode(value))


class Malformed(ValueError):
    """A body that is not the JSON that was wanted; the message is for its sender."""


def read_json(body: bytes) -> Any:
    """
    The JSON value in a request's body.

    Raises: Malformed: no JSON, or JSON nested deeper than `DEPTH`.
    """
    try:
        value = msgspec.json.decode(body or b"null")
    except (msgspec.DecodeError, UnicodeError, ValueError, RecursionError) as problem:
        raise Malformed(f"Invalid JSON: {problem}") from problem
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEPTH + 1):
        if not level:
            return value
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    raise Malformed(f"Invalid JSON: nested deeper than {DEPTH}")


def read_object(body: bytes) -> dict[str, Any]:
    """
    A request's body that is a JSON object.

    Raises: Malformed.
    """
    value = read_json(body)
    if not isinstance(value, dict):
        found = "nothing" if value is None else f"a {_JSON_NAMES[type(value)]}"
        raise Malformed(f"a JSON object is needed, not {found}")
    return value


_JSON_NAMES = {
    list: "list",
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
}


def refusal(status: int, message: str) -> AdminResponse:
    """An error in Kafka Connect's shape."""
    return json_answer(status, {"error_code": status, "message": message})


def plain(value: float) -> Decimal:
    """
    A number that jq, bc and bash can all read.

    At most four places, no exponent, no sign for zero, 0 for what is no
    number: jq 1.6 reprints anything smaller than 0.0001 as 1e-05, which bc
    refuses.
    """
    if not math.isfinite(value):
        return Decimal(0)
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return Decimal("0" if text in ("-0", "") else text)
