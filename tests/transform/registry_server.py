"""A Schema Registry on loopback, and the way there for our side."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from engine.errors import Unreachable
from engine.records import Request, Response


class RegistryServer:
    """
    Subjects, versions and ids in memory; the REST paths that clients use.

    Attributes:
        asked: Method and path of each request.
        refuse: Subject -> (status, message) for its next registrations.
        login: Authorization header it insists on, or None.
        down: Answers 503 to everything.
        judge: Looks at each new schema's text; what it says refuses it (409).
        instead: A status and a body that answer everything.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refuse: dict[str, tuple[int, str]] = {}
        self.login: str | None = None
        self.down = False
        self.judge: Callable[[str], str | None] = lambda schema: None
        self.instead: tuple[int, bytes] | None = None
        self.schemas: list[dict[str, Any]] = []
        self.subjects: dict[str, list[int]] = {}
        self.url = ""

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        parts = [unquote(part) for part in path.split("?")[0].strip("/").split("/")]
        if parts[:2] == ["schemas", "ids"]:
            return 200, self.schemas[int(parts[2]) - 1]
        if parts[0] != "subjects":
            return 404, {"error_code": 404, "message": "no such path"}
        subject = parts[1]
        versions = self.subjects.get(subject, [])
        if method == "POST" and subject in self.refuse:
            status, message = self.refuse[subject]
            return status, {"error_code": status, "message": message}
        if method == "GET":
            if not versions:
                return 404, {"error_code": 40401, "message": "Subject not found."}
            number = len(versions) if parts[3] == "latest" else int(parts[3])
            found = self.schemas[versions[number - 1] - 1]
            return 200, {
                **found,
                "subject": subject,
                "version": number,
                "id": versions[number - 1],
            }
        # AVRO is what no type means.
        schema = {k: body[k] for k in sorted(body) if body[k] and body[k] != "AVRO"}
        if schema in self.schemas:
            number = self.schemas.index(schema) + 1
        elif len(parts) == 3:
            if (said := self.judge(schema["schema"])) is not None:
                return 409, {"error_code": 409, "message": said}
            self.schemas.append(schema)
            number = len(self.schemas)
        else:
            number = 0
        if len(parts) == 3:
            if number not in versions:
                self.subjects.setdefault(subject, []).append(number)
            return 200, {"id": number}
        if number not in versions:
            return 404, {"error_code": 40403, "message": "Schema not found"}
        return 200, {
            **schema,
            "subject": subject,
            "version": versions.index(number) + 1,
            "id": number,
        }


@contextlib.contextmanager
def registry_server() -> Iterator[RegistryServer]:
    server = RegistryServer()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

        def respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"null")
            server.asked.append(f"{self.command} {self.path}")
            if server.down:
                status, answer = 503, {"message": "down"}
            elif server.login and self.headers.get("Authorization") != server.login:
                status, answer = 401, {"message": "who are you"}
            else:
                status, answer = server.answer(self.command, self.path, body)
            data = json.dumps(answer).encode()
            if server.instead is not None:
                status, data = server.instead
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = respond

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{listener.server_port}"
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


def fetch(request: Request) -> Response:
    """`engine.seams.Fetch` over urllib: any status is an answer."""
    asked = urllib.request.Request(
        request.url,
        data=request.body,
        headers=dict(request.headers),
        method=request.method,
    )
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return Response(
                request=request,
                url=request.url,
                status=answer.status,
                headers=[],
                body=answer.read(),
                sent_at=0.0,
                received_ms=0,
            )
    except urllib.error.HTTPError as error:
        return Response(
            request=request,
            url=request.url,
            status=error.code,
            headers=[],
            body=error.read(),
            sent_at=0.0,
            received_ms=0,
        )
    except OSError as error:
        raise Unreachable(f"no answer: {error}") from error
