"""
Sample: a small API to try the engine on, made of orders that do not exist.

    python -m engine.cli.sample --records 200000 --port 8099

Owns its pages, made once at start.  Listens on 127.0.0.1 only and prints its
address; it is for trying out and for nothing else.

    GET /records?cursor=TOKEN&limit=500     pages that chain by `next`
    GET /numbered?page=1&limit=500          pages that can be addressed
"""

from __future__ import annotations

import argparse
import functools
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import msgspec

#: Records of a page if the request does not say.
PAGE = 500

CITIES = ("Lyon", "Porto", "Gdansk", "Turku", "Graz", "Brno", "Ghent", "Cork")


def order(number: int) -> dict[str, object]:
    """The order of that number; the same each time."""
    return {
        "id": number,
        "customer": f"customer-{number * 7919 % 5000:04d}",
        "city": CITIES[number % len(CITIES)],
        "amount": f"{number * 37 % 100_000 / 100:.2f}",
        "currency": "EUR",
        "paid": number % 3 == 0,
        "note": "left at the door, please ring twice " * 4,
    }


@functools.lru_cache(maxsize=4096)
def body(start: int, limit: int, total: int) -> bytes:
    """The page of records start .. start + limit."""
    end = min(start + limit, total)
    return msgspec.json.encode(
        {
            "records": [order(number) for number in range(start, end)],
            "next": str(end) if end < total else None,
            "total": total,
        }
    )


class SampleAnswer(BaseHTTPRequestHandler):
    """One connection of the sample API."""

    protocol_version = "HTTP/1.1"
    server_version = "sample"
    total = 0

    def do_GET(self) -> None:
        """Answer one page, or 404, or 400 for numbers that are none."""
        url = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        try:
            limit = int(asked.get("limit", PAGE))
            if url.path == "/records":
                start = int(asked.get("cursor", 0))
            elif url.path == "/numbered":
                start = (int(asked.get("page", 1)) - 1) * limit
            else:
                self.reply(404, b'{"error":"no such path"}')
                return
            if start < 0 or not 0 < limit <= 10_000:
                raise ValueError("out of range")
        except ValueError:
            self.reply(400, b'{"error":"cursor, page and limit are numbers"}')
            return
        self.reply(200, body(start, limit, self.total))

    def reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing per request: the engine is what is to be watched."""


def main() -> None:
    """Serve until ended by a signal."""
    words = argparse.ArgumentParser(description="A sample API on 127.0.0.1.")
    words.add_argument("--records", type=int, default=200_000)
    words.add_argument("--port", type=int, default=0, help="0: any free one")
    args = words.parse_args()
    SampleAnswer.total = args.records
    # The reply is written in two pieces; without this each waits for an ACK.
    SampleAnswer.disable_nagle_algorithm = True
    SampleAnswer.wbufsize = -1
    with ThreadingHTTPServer(("127.0.0.1", args.port), SampleAnswer) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
