"""A table behind an API: rows that change between requests, in pages of all kinds."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


class Table:
    """
    Rows by id, served as `{"items":[...]}`.

    `/all` has them in one page, `/page?page=N&limit=L` by number, `/cursor?cursor=C`
    behind the last id, with `next` and `Link`.

    Attributes:
        rows: What there is; to be changed under `lock`.
        asked: Targets, in order.
        before: Called before each answer, without the lock.
    """

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}
        self.lock = threading.Lock()
        self.asked: list[str] = []
        self.before: Callable[[str], None] = lambda target: None
        table = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                table.asked.append(self.path)
                table.before(self.path)
                status, headers, body = table.answer(self.path)
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            disable_nagle_algorithm = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def answer(self, target: str) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body for a target."""
        url = urlsplit(target)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        limit = int(asked.get("limit", 3))
        with self.lock:
            rows = [self.rows[n] for n in sorted(self.rows)]
        document: dict[str, Any] = {}
        headers: list[tuple[str, str]] = []
        if url.path == "/page":
            start = (int(asked.get("page", 1)) - 1) * limit
            rows = rows[start : start + limit]
        elif url.path == "/cursor":
            after = int(asked.get("cursor", -1))
            left = [row for row in rows if row["id"] > after]
            rows = left[:limit]
            if len(left) > limit:
                document["next"] = str(rows[-1]["id"])
                link = f"<{url.path}?limit={limit}&cursor={rows[-1]['id']}>"
                headers.append(("Link", f'{link}; rel="next"'))
        document["items"] = rows
        return 200, headers, json.dumps(document, separators=(",", ":")).encode()

    def put(self, *rows: int, **fields: Any) -> None:
        """Rows of these ids, with these fields."""
        with self.lock:
            for row in rows:
                self.rows[row] = {"id": row, **fields}

    def take(self, *rows: int) -> None:
        """These rows are gone."""
        with self.lock:
            for row in rows:
                self.rows.pop(row, None)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
