"""
Paging: APIs as the world has them, each a row of a table.

Owns one server on which every row is an API of its own, and the run that reads all
of them: one engine process, one api and one topic for each row.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit


class Asked(NamedTuple):
    """A request as a row's API sees it."""

    base: str
    path: str
    query: dict[str, str]
    pairs: list[tuple[str, str]]
    headers: Mapping[str, str]
    method: str
    body: bytes
    before: int

    def number(self, name: str, default: int = 0) -> int:
        return int(self.query.get(name, default))


#: (status, headers, body): a dict becomes JSON.
Answer = tuple[int, dict[str, str], Any]


class Row(NamedTuple):
    """
    One API with a configuration, and what is to come of it.

    Attributes:
        requests: How many, or the most of them.
        error: A pattern of the api's error, or None.
        words: A pattern of what is said in the log, or None.
        silent: Nothing may be said about the poll.
        start: What stands behind the row's URL.
    """

    name: str
    api: Callable[[Asked], Answer]
    keys: dict[str, object]
    records: Sequence[object]
    requests: int | tuple[int, int]
    error: str | None = None
    words: str | None = None
    start: str = ""


def ok(items: Sequence[object], **envelope: object) -> Answer:
    headers = {
        name[2:].replace("_", "-"): str(value)
        for name, value in envelope.items()
        if name.startswith("h_")
    }
    inside = {k: v for k, v in envelope.items() if not k.startswith("h_")}
    return 200, headers, {"items": list(items), **inside}


class World:
    """The server of a table."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.counts: Counter[str] = Counter()
        self.asked: dict[str, list[str]] = {}
        by_name = {row.name: row for row in rows}
        lock = threading.Lock()
        world = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                _, name, *rest = parts.path.split("/")
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with lock:
                    before = world.counts[name]
                    world.counts[name] += 1
                    world.asked.setdefault(name, []).append(self.path)
                pairs = parse_qsl(parts.query, keep_blank_values=True)
                status, headers, answer = by_name[name].api(
                    Asked(
                        f"{world.url}/{name}",
                        "/".join(rest),
                        dict(pairs),
                        pairs,
                        self.headers,
                        self.command,
                        body,
                        before,
                    )
                )
                data = (
                    answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                )
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                if not any(key.lower() == "content-type" for key in headers):
                    self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
