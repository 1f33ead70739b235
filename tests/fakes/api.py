"""
Api: an HTTP API on loopback that knows every record it ever served.

Owns the data and the log of what was asked.  Each record can be computed from
its source and its number (`record`), so that a test can compare all that
arrived with all there was, byte for byte.  Speaks HTTP/1.1 with keep-alive in
a thread for each connection, every pagination type under a path of its own.

Path: tests, perf -> here; `python -m tests.fakes.api --help` runs it alone

    GET /none/0            everything in one page
    GET /offset/0          ?offset=&limit=
    GET /page/0            ?page=&limit=            (from page 1)
    GET /cursor/0          ?cursor=&limit=          "next": a token
    GET /next_url/0        ?at=                     "next": a reference
    GET /link_header/0     ?at=                     Link: <...>; rel="next"
    GET /keyset/0          ?cursor=&limit=          records with n above it
    GET /odata/0           ?$skiptoken=             "@odata.nextLink"
    GET /-/log, /-/counts  what has been asked so far, as JSON
    GET /-/grow?source=&count=   append records
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

#: Status, header lines and body of an answer.
Answer = tuple[int, list[tuple[str, str]], bytes]

_REASONS = {200: "OK", 204: "No Content", 400: "Bad Request", 404: "Not Found"}


def record(source: int, number: int, size: int = 0, ties: int = 1) -> bytes:
    """
    One record: at least `size` bytes of JSON, the same for ever.

    Its `n` is the number divided by `ties`, so that neighbours can share it.
    """
    start = b'{"id":"s%d-%07d","source":%d,"n":%d,"text":"' % (
        source,
        number,
        source,
        number // ties,
    )
    return start + b"x" * max(size - len(start) - 2, 1) + b'"}'


@dataclass
class Asked:
    """One request as it came in."""

    at: float
    method: str
    target: str
    connection: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


@dataclass
class Counts:
    """What the server saw; `most_busy` is the highest concurrency."""

    requests: int = 0
    connections: int = 0
    busy: int = 0
    most_busy: int = 0
    bytes_out: int = 0
    by_path: dict[str, int] = field(default_factory=dict)


class Api:
    """
    The server; a context manager.

    Args:
        sources: How many independent lists of records there are.
        pages, records: Each list has pages * records records; `records` is
            the page size where none is asked for.
        size: Least bytes of a record.
        latency: Seconds before each answer.
        cap: Most records on a page, whatever is asked.
        totals, has_more: Whether the envelope tells them.
        inclusive: Whether keyset answers start at the value asked with.
        ties: How many neighbours share one `n`.
        keep_log: False for benchmarks: counts only.
    """

    def __init__(
        self,
        *,
        sources: int = 1,
        pages: int = 4,
        records: int = 5,
        size: int = 0,
        latency: float = 0.0,
        cap: int | None = None,
        totals: bool = False,
        has_more: bool = False,
        inclusive: bool = False,
        ties: int = 1,
        page_start: int = 1,
        keep_log: bool = True,
        port: int = 0,
    ):
        self.per_page = records
        self.size = size
        self.latency = latency
        self.cap = cap
        self.totals = totals
        self.has_more = has_more
        self.inclusive = inclusive
        self.ties = ties
        self.page_start = page_start
        self.counts = Counts()
        self.log: list[Asked] = []
        self._keep_log = keep_log
        self._lengths = [pages * records] * sources
        self._routes: dict[str, Callable[[Asked], Answer]] = {}
        self._bodies: dict[tuple[str, int], bytes] = {}
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    # What tests do.

    def all_records(self, source: int = 0) -> list[bytes]:
        """Every record of a source, in order."""
        return [
            record(source, number, self.size, self.ties)
            for number in range(self._lengths[source])
        ]

    def grow(self, count: int, source: int = 0) -> None:
        """Append records."""
        with self._lock:
            self._lengths[source] += count
            self._bodies.clear()

    def route(self, path: str, answer: Callable[[Asked], Answer]) -> None:
        """Let a function answer a path."""
        self._routes[path] = answer

    def targets(self) -> list[str]:
        """What was asked, in order of arrival."""
        with self._lock:
            return [asked.target for asked in self.log]

    def forget(self) -> None:
        """Empty the log and the counts."""
        with self._lock:
            self.log.clear()
            self.counts = Counts(connections=self.counts.connections)

    def close(self) -> None:
        """End all connections and stop listening."""
        self._closed = True
        # Only a shutdown wakes a thread that sits in accept.
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def open(self) -> int:
        """How many connections are open now."""
        with self._lock:
            return len(self._open)

    # HTTP.

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.counts.connections += 1
                number = self.counts.connections
                self._open.add(connection)
            threading.Thread(
                target=self._serve, args=(connection, number), daemon=True
            ).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        buffered = b""
        try:
            while True:
                while b"\r\n\r\n" not in buffered:
                    more = connection.recv(65536)
                    if not more:
                        return
                    buffered += more
                head, _, buffered = buffered.partition(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                method, target, _ = lines[0].split(" ", 2)
                headers = {}
                for line in lines[1:]:
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                length = int(headers.get("content-length", "0"))
                while len(buffered) < length:
                    buffered += connection.recv(65536)
                body, buffered = buffered[:length], buffered[length:]
                asked = Asked(time.monotonic(), method, target, number, headers, body)
                self._answer(connection, asked)
                if headers.get("connection", "").lower() == "close":
                    return
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _answer(self, connection: socket.socket, asked: Asked) -> None:
        counts = self.counts
        with self._lock:
            counts.requests += 1
            counts.busy += 1
            counts.most_busy = max(counts.most_busy, counts.busy)
            path = asked.path
            if not path.startswith("/-/"):
                counts.by_path[path] = counts.by_path.get(path, 0) + 1
                if self._keep_log:
                    self.log.append(asked)
        try:
            if self.latency and not path.startswith("/-/"):
                time.sleep(self.latency)
            status, headers, body = self.answer(asked)
        finally:
            with self._lock:
                counts.busy -= 1
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if status != 204:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        connection.sendall(head + (body if status != 204 else b""))
        counts.bytes_out += len(body)

    # Data.

    def answer(self, asked: Asked) -> Answer:
        """What a request is answered with; also for tests without sockets."""
        route = self._routes.get(asked.path)
        if route is not None:
            return route(asked)
        _, kind, *rest = asked.path.split("/")
        if kind == "-":
            if rest[0] == "grow":
                self.grow(int(asked.query["count"]), int(asked.query["source"]))
            return self._told(rest[0])
        try:
            source = int(rest[0])
            length = self._lengths[source]
            serve = getattr(self, f"_serve_{kind}")
        except (ValueError, IndexError, AttributeError):
            return _json(404, b'{"error":"no such list"}')
        answer: Answer = serve(source, length, asked.query)
        return answer

    def _told(self, what: str) -> Answer:
        with self._lock:
            if what == "counts":
                told: object = vars(self.counts)
            else:
                told = [
                    [asked.at, asked.target, asked.connection] for asked in self.log
                ]
            return _json(200, json.dumps(told).encode())

    def _width(self, query: Mapping[str, str]) -> int:
        width = int(query.get("limit", self.per_page))
        return min(width, self.cap) if self.cap is not None else width

    def _body(
        self,
        source: int,
        start: int,
        end: int,
        *,
        onward: object = None,
        key: str = "items",
        link: str = "next",
    ) -> bytes:
        """The page with records start..end; built once for each question."""
        question = (f"{source} {start} {end} {onward} {key}", self._lengths[source])
        body = self._bodies.get(question)
        if body is None:
            length = self._lengths[source]
            parts = [
                b'{"%s":[' % key.encode(),
                b",".join(
                    record(source, number, self.size, self.ties)
                    for number in range(start, end)
                ),
                b"]",
            ]
            if onward is not None:
                parts.append(b',"%s":%s' % (link.encode(), json.dumps(onward).encode()))
            if self.totals:
                pages = -(-length // self.per_page)
                parts.append(b',"total":%d,"pages":%d' % (length, pages))
            if self.has_more:
                more = b"true" if end < length else b"false"
                parts.append(b',"has_more":' + more)
            body = b"".join([*parts, b"}"])
            self._bodies[question] = body
        return body

    def _slice(self, start: int, width: int, length: int) -> tuple[int, int]:
        start = min(max(start, 0), length)
        return start, min(start + width, length)

    def _serve_none(self, source: int, length: int, query: Mapping[str, str]) -> Answer:
        return _json(200, self._body(source, 0, length))

    def _serve_offset(
        self, source: int, length: int, query: Mapping[str, str]
    ) -> Answer:
        start, end = self._slice(
            int(query.get("offset", "0")), self._width(query), length
        )
        return _json(200, self._body(source, start, end))

    def _serve_page(self, source: int, length: int, query: Mapping[str, str]) -> Answer:
        width = self._width(query)
        page = int(query.get("page", str(self.page_start))) - self.page_start
        start, end = self._slice(page * width, width, length)
        return _json(200, self._body(source, start, end))

    def _serve_cursor(
        self, source: int, length: int, query: Mapping[str, str]
    ) -> Answer:
        cursor = query.get("cursor")
        if cursor is not None and not cursor.startswith("c/"):
            return _json(400, b'{"error":"no such cursor"}')
        at = 0 if cursor is None else int(cursor.removeprefix("c/").removesuffix("=="))
        start, end = self._slice(at, self._width(query), length)
        onward = f"c/{end}==" if end < length else None
        return _json(200, self._body(source, start, end, onward=onward))

    def _serve_next_url(
        self, source: int, length: int, query: Mapping[str, str]
    ) -> Answer:
        start, end = self._slice(int(query.get("at", "0")), self._width(query), length)
        onward = f"/next_url/{source}?at={end}&sig=a%2Fb" if end < length else None
        return _json(200, self._body(source, start, end, onward=onward))

    def _serve_link_header(
        self, source: int, length: int, query: Mapping[str, str]
    ) -> Answer:
        start, end = self._slice(int(query.get("at", "0")), self._width(query), length)
        status, headers, body = _json(200, self._body(source, start, end))
        headers.append(("Link", f'<{source}?at=0>; rel="first"'))
        if end < length:
            headers.append(("Link", f'<{source}?at={end}>; rel="next"; title="a, b"'))
        return status, headers, body

    def _serve_keyset(
        self, source: int, length: int, query: Mapping[str, str]
    ) -> Answer:
        after = query.get("cursor")
        at = 0
        if after is not None:
            at = (int(after) + (0 if self.inclusive else 1)) * self.ties
        start, end = self._slice(at, self._width(query), length)
        return _json(200, self._body(source, start, end))

    def _serve_odata(
        self, source: int, length: int, query: Mapping[str, str]
    ) -> Answer:
        at = int(query.get("$skiptoken", "0"))
        start, end = self._slice(at, self._width(query), length)
        onward = f"{source}?$skiptoken={end}" if end < length else None
        body = self._body(
            source, start, end, onward=onward, key="value", link="@odata.nextLink"
        )
        return _json(200, body)


def _json(status: int, body: bytes) -> Answer:
    return status, [("Content-Type", "application/json")], body


def main() -> None:
    """Serve until killed; the URL is the first line of the output."""
    parser = argparse.ArgumentParser(description="An HTTP API with known records.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--sources", type=int, default=1)
    parser.add_argument("--pages", type=int, default=100)
    parser.add_argument("--records", type=int, default=500)
    parser.add_argument("--bytes", type=int, default=290)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--cap", type=int)
    parser.add_argument("--ties", type=int, default=1)
    parser.add_argument("--totals", action="store_true")
    parser.add_argument("--has-more", action="store_true")
    parser.add_argument("--inclusive", action="store_true")
    parser.add_argument("--log", action="store_true", help="keep all requests")
    given = parser.parse_args()
    api = Api(
        sources=given.sources,
        pages=given.pages,
        records=given.records,
        size=given.bytes,
        latency=given.latency,
        cap=given.cap,
        totals=given.totals,
        has_more=given.has_more,
        inclusive=given.inclusive,
        ties=given.ties,
        keep_log=given.log,
        port=given.port,
    )
    print(api.url, flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        api.close()


if __name__ == "__main__":
    main()
