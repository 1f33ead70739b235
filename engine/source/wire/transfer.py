"""
Transfer: one request under way over HTTP/2, and the proof that its answer is whole.

Owns what becomes of the lines and pieces that libcurl hands over: heads, lengths,
encodings, silence, the end.

Path: `source.wire.http2` -> here -> `source.wire.body`, `source.wire.inflate`
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from engine.clock import SYSTEM
from engine.errors import Forbidden, Unreachable
from engine.source.wire.body import (
    BODILESS,
    DIRECT_UP_TO,
    MAX_HEAD,
    MAX_HEADERS,
    Collector,
    WireResponse,
    header_name,
)
from engine.source.wire.inflate import inflated
from engine.source.wire.pieces import BodyLimits, too_large
from engine.source.wire.tls import TlsOptions


class TransferOptions(Struct, frozen=True, kw_only=True, eq=False):
    """
    What all requests of a shape have in common; compared by identity.

    Attributes:
        lines: Header lines without Host and Content-Length.
        resolve: `host:port:address,...`, checked, or None behind a proxy.
        once: True if a request must never be sent twice.
        connect: Seconds for establishing a connection.
        proxy: URL, or "".
        proxy_auth: `user:password`, or None.
    """

    method: str
    lines: Sequence[str]
    asked: frozenset[str]
    bounds: BodyLimits
    connect: float
    resolve: str | None
    tls: TlsOptions
    once: bool = False
    proxy: str = ""
    proxy_auth: str | None = None


class Transfer:
    """
    One request under way: what libcurl hands over, and what becomes of it.

    Hot path: libcurl's callbacks are the appends of two lists that stay with the
    handle, no frame a piece; `take` looks at what they hold after each turn.

    Attributes:
        handle: libcurl's, once it is begun.
        lines, pieces: What it appends to.
        heard: How much of them has been seen.
        ends: Monotonic seconds at which it is cut if nothing more is heard.
        failure, answer: One of them once it is done.
    """

    handle: Any = None
    lines: list[bytes]
    pieces: list[bytes]
    heard = 0
    done = cut = False
    failure: Exception | None = None
    answer: WireResponse | None = None
    _status = 0
    _headers: list[tuple[str, str]]
    #: Length of a body that comes as it is and stays in pieces, else -1.
    _length = -1
    _collector: Collector | None = None

    def __init__(
        self, way: TransferOptions, url: str, body: bytes | None, deadline: float
    ):
        self.way = way
        self.url = url
        self.body = body
        self.deadline = deadline
        self.ends = min(deadline, SYSTEM.monotonic() + way.bounds.silence)
        # A lock as a flag: an Event costs more than all else a caller alone pays.
        self._flag = threading.Lock()
        self._flag.acquire()

    def wake(self) -> None:
        """Let its caller look again."""
        if self._flag.locked():
            # Only whoever leads wakes: nobody else releases it meanwhile.
            self._flag.release()

    def sleep(self, seconds: float) -> None:
        """Until `wake`, at most so long."""
        self._flag.acquire(timeout=seconds)

    def take(self, now: float) -> None:
        """
        Look at what came since the last time, if anything did.

        Raises: Unreachable, BadPage, Forbidden.
        """
        heard = len(self.lines) + len(self.pieces)
        if heard == self.heard:
            return
        self.heard = heard
        self.ends = now + self.way.bounds.silence
        self.ends = min(self.ends, self.deadline)
        if self._length >= 0:
            return
        if self._collector is None:
            lines = self.lines
            if sum(map(len, lines)) > MAX_HEAD:
                raise Forbidden(f"the headers are over {MAX_HEAD} bytes")
            if not lines or lines[-1] not in (b"\r\n", b"\n"):
                if not self.pieces:
                    return
                raise Unreachable("not an HTTP answer")
            self._read_head()
        if self._collector is not None:
            self._collector.extend(self.pieces)
            self.heard -= len(self.pieces)
            self.pieces.clear()

    def _read_head(self) -> None:
        """The last head among the lines; interim ones are skipped."""
        lines = self.lines
        first = 0
        if len(lines) > lines.index(lines[-1]) + 1:
            heads = [n for n, line in enumerate(lines) if line.startswith(b"HTTP/")]
            first = heads[-1] if heads else 0
        self._status = _status(lines[first])
        self._headers = list(map(_field, lines[first + 1 : -1]))
        if self._status < 200:
            return
        if len(self._headers) > MAX_HEADERS:
            raise Forbidden(f"more than {MAX_HEADERS} headers")
        self._judge()

    def _judge(self) -> None:
        """Length, encoding, and whether the body may be read at all."""
        headers, bounds = self._headers, self.way.bounds
        known = dict(headers)
        length = known.get("content-length", "")
        if length:
            if not length.isascii() or not length.isdigit():
                raise Unreachable("a length that is no number")
            if int(length) > bounds.size:
                raise too_large(bounds.size)
        inflater = None
        if "content-encoding" in known and self._status not in BODILESS:
            names = [value for name, value in headers if name == "content-encoding"]
            inflater = inflated(",".join(names), self.way.asked, bounds)
        if inflater is None and length and int(length) <= DIRECT_UP_TO:
            self._length = int(length)
            return
        self._collector = Collector(inflater, bounds, self.deadline)

    def finish(self, now: float) -> None:
        """
        The stream came to its end.

        Raises: Unreachable, BadPage, Forbidden.
        """
        self.take(now)
        body: bytes | memoryview
        if self._length >= 0:
            # Hot path: libcurl has compared the lengths; we look once more.
            body = b"".join(self.pieces)
            wire = len(body)
            if wire != self._length and self._status not in BODILESS:
                raise Unreachable("the answer is cut")
        elif self._collector is not None:
            body, wire = self._collector.finish(), self._collector.wire
        else:
            raise Unreachable("no answer")
        self.answer = WireResponse(self._status, self._headers, body, wire, True)

    def overdue(self, now: float) -> str:
        """Why this transfer is cut now."""
        if self.cut:
            return "the request was cut"
        if now >= self.deadline:
            return "the request's time is up"
        return f"silence for {self.way.bounds.silence:g} s"


@functools.lru_cache(16)
def _status(line: bytes) -> int:
    """The code of a status line; raises Unreachable."""
    words = line.split(None, 2)
    if len(words) < 2 or not line.startswith(b"HTTP/") or not words[1][:3].isdigit():
        raise Unreachable("not an HTTP answer")
    return int(words[1][:3])


@functools.lru_cache(256)
def _field(line: bytes) -> tuple[str, str]:
    """
    A header line in two.

    Hot path: a server says most of them again with each page.
    """
    name, _, value = line.partition(b":")
    return header_name(name), value.strip().decode("latin-1")
