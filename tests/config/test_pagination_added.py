"""A pagination type is added: two files, and it is there for every command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

ENGINE = Path(__file__).parent.parent.parent / "engine"

#: What the first file gets: the type as all but its walk know it.
DECLARED = """
    "token_header": PaginationType(
        meaning="The next cursor stands in the X-Next-Token header.",
        position=("cursor", *_CHAINED),
        chained=True,
        asks="cursor",
    ),
"""

#: What the second one gets: how it is walked.
WALKED = '''
class TokenHeaderPager(CursorPager):
    """Cursors in a header of the answer."""

    TYPE = "token_header"

    def _onward(self, request: Request, response: Response, decoded: Decoded) -> object:
        return response.header("x-next-token")


PAGERS'''

FIRST, SECOND = "config/pagination.py", "source/paging/by_cursor.py"

PAGES = {"": ([1, 2], "b"), "b": ([3, 4], "c"), "c": ([5], None)}


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert 1 == text.count(old)
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """The engine with one type more."""
    root = tmp_path_factory.mktemp("added")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ENGINE, root / "engine", ignore=ignored)
    changed(root / "engine" / FIRST, '    "odata": Pag', f'{DECLARED}    "odata": Pag')
    place = root / "engine" / SECOND
    changed(place, "\nPAGERS", WALKED)
    changed(place, "CursorPager)\n", "CursorPager, TokenHeaderPager)\n")
    return root


@pytest.fixture
def url() -> Iterator[str]:
    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            records, onward = PAGES[query.get("cursor", [""])[0]]
            body = json.dumps([{"id": n} for n in records]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if onward:
                self.send_header("X-Next-Token", onward)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/records"
    server.shutdown()
    server.server_close()


def asked(root: Path, *arguments: str) -> str:
    """What a command of the tree says; it ends well."""
    done = subprocess.run(
        [sys.executable, "-m", "engine", *arguments],
        check=False,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def test_a_type_is_added_in_two_files(tree, tmp_path, url):
    config = tmp_path / "c.properties"
    config.write_text(
        "name=added\nkafka.topic=t\n"
        "bootstrap.servers=127.0.0.1:9\n"
        f"http.source.url={url}\npagination.type=token_header\n"
    )

    assert "token_header" in asked(tree, "explain", "pagination.type")
    asked(tree, "check", str(config))
    shown = asked(tree, "preview", str(config), "--records", "10")

    assert [f'"id":{n}' in shown.replace(" ", "") for n in range(1, 6)] == [True] * 5
    before = {path.relative_to(ENGINE): path for path in ENGINE.rglob("*.py")}
    differ = [
        str(name)
        for name, path in before.items()
        if path.read_bytes() != (tree / "engine" / name).read_bytes()
    ]
    assert [FIRST, SECOND] == sorted(differ)
