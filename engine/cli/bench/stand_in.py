"""
Stand-in: an API on 127.0.0.1 that answers as a configuration expects.

    python -m engine.cli.bench.stand_in JOB

Owns its pages: records made up or recorded, paged in the way each api is
configured to page, the same answer to the same request.  Every api has a path
of its own, `/<connector>.<api>/`, in front of the configured one.  It prints
its address and serves until it is ended; it is for `bench` and for nothing else.

Path: ``bench`` starts it -> here -> ``made_up``
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Struct

from engine import config
from engine.cli.bench.made_up import EPOCH, Records, made_up, place, recorded
from engine.config import Api, Loaded
from engine.config.pagination import TYPES
from engine.config.sections.offsets import OffsetsConfig
from engine.config.sections.paging import PaginationConfig
from engine.config.sections.response import AnswersConfig
from engine.config.sections.shapes import ShapesConfig
from engine.errors import ConfigError
from engine.later import pattern
from engine.source.paging.pager import Paging
from engine.task.build.http import url_of
from engine.task.build.paging import paging_of

#: Pages of a poll where the offset mode starts each poll anew.
PAGES_A_POLL = 200

#: Pages where it does not: without end.
ENDLESS = 1 << 40

#: Records of a page where the configuration does not say.
PER_PAGE = 500

#: Keys that say where a link to the next page stands.
_ODATA_LINK, _LINK_HEADER = "odata.nextlink.field", "pagination.link.header"

_RECORDS, _NEXT, _MORE = "@records@", "@next@", "@more@"
_PLACE = pattern(rb"stand-in-(\d+)")


class Job(Struct, frozen=True):
    """
    What the processes of a bench are told.

    Attributes:
        files, overrides: The configuration, as it was given to `bench`.
        folder: Where everything that is written lies.
        recording: File of recorded records, or None.
        latency: Seconds before each answer.
        url: Of the stand-in, once it listens.
        bootstrap: Brokers to write to, or None: the embedded one.
        paced: Schedules and rate limits hold as they are configured.
    """

    files: tuple[str, ...]
    overrides: tuple[str, ...]
    folder: str
    recording: str | None = None
    latency: float = 0.0
    url: str = ""
    bootstrap: tuple[str, ...] | None = None
    paced: bool = False

    def load(self) -> Loaded:
        """Raises: ConfigError."""
        return config.load(self.files, self.overrides)


def prefix(connector: int, api: Api) -> str:
    """The path in front of an api's own."""
    return f"/{connector}.{api.index}"


class StandInPages:
    """
    The pages of one api.

    Raises: ConfigError if its answers cannot be made.
    """

    def __init__(self, api: Api, records: Records, base: str):
        values = api.values
        self._records = records
        self._paging: Paging = paging_of(api, url_of(api.values))
        self._type = TYPES[values.of(PaginationConfig).type]
        self._base = base
        limits = values.stated("pagination.limit.value") or self._type.sized
        self._count = values.of(PaginationConfig).limit if limits else PER_PAGE
        anew = values.of(OffsetsConfig).rereads
        self._pages = PAGES_A_POLL if anew else ENDLESS
        self._lines = values.of(AnswersConfig).format == "ndjson"
        if values.of(AnswersConfig).format not in ("json", "ndjson"):
            raise ConfigError(
                f"{api.name}: bench answers json and ndjson, not "
                f"http.response.format={values.of(AnswersConfig).format}"
            )
        pointer = values.of(AnswersConfig).data_pointer or ""
        if values.of(ShapesConfig).rows != "OBJECTS" or pointer[-2:] in ("*", ".*"):
            raise ConfigError(
                f"{api.name}: bench answers arrays of objects, not "
                "http.response.rows or the members of an object"
            )
        # Polls that start anew ask for the same pages again and again.
        self._block = functools.lru_cache(PAGES_A_POLL)(self._made_block)
        self._envelope = b"" if self._lines else self._made(api)

    def _made(self, api: Api) -> bytes:
        """The page around its records, with marks in the places to fill."""
        values = api.values
        pointer = values.of(AnswersConfig).data_pointer
        if not pointer:
            return msgspec.json.encode(_RECORDS)
        document: dict[str, Any] = {}
        place(document, pointer, _RECORDS)
        paging, told_by = values.of(PaginationConfig), self._type.told_by
        for path, value in (
            (paging.cursor_field, _NEXT),
            (paging.nextlink_field, _NEXT if told_by == _ODATA_LINK else None),
            (paging.has_more_field, _MORE),
            (paging.total_field, self._pages * self._count),
            (paging.total_pages_field, self._pages),
        ):
            if path and value is not None and not path.startswith("header:"):
                place(document, path, value)
        return msgspec.json.encode(document)

    def answer(self, target: str, body: bytes) -> tuple[bytes, dict[str, str]]:
        """The answer to a request: its body, and further headers."""
        page = self._asked(target, body)
        more = page + 1 < self._pages
        records = self._block(page)
        following, headers = self._following(page + 1 if more else None, target)
        if self._lines:
            return records, headers
        whole = self._envelope
        for mark, value in (
            (_MORE, b"true" if more else b"false"),
            (_NEXT, msgspec.json.encode(following)),
            (_RECORDS, b"[" + records + b"]"),
        ):
            whole = whole.replace(b'"' + mark.encode() + b'"', value)
        return whole, headers

    def _made_block(self, page: int) -> bytes:
        count = self._count if page < self._pages else 0
        records = self._records.some(page * self._count, count)
        return (b"\n" if self._lines else b",").join(records)

    def _asked(self, target: str, body: bytes) -> int:
        """Which page is asked for, from 0."""
        found = _PLACE.search(target.encode() + b" " + body)
        if found is not None:
            return int(found[1])
        paging = self._paging
        asked = {
            name: values[-1]
            for name, values in parse_qs(urlsplit(target).query).items()
        }
        if body[:1] == b"{":
            asked |= {k: str(v) for k, v in msgspec.json.decode(body).items()}
        if self._type.by_record:
            return (_number(asked.get(paging.cursor_param, "")) + 1) // self._count
        if not self._type.addressable:
            return 0
        if self._type.asks == "page":
            start = paging.page_start
            return int(asked.get(paging.page_param, start)) - start
        return int(asked.get(paging.offset_param, 0)) // self._count

    def _following(
        self, page: int | None, target: str
    ) -> tuple[str | None, dict[str, str]]:
        """How the next page is told, and the headers that tell it."""
        place = None if page is None else f"stand-in-{page}"
        if place is not None and self._type.links:
            place = f"{self._base}{urlsplit(target).path}?at={place}"
        if place is not None and self._type.told_by == _LINK_HEADER:
            link = f'<{place}>; rel="{self._paging.link_rel}"'
            return None, {self._paging.link_header: link}
        field = self._paging.cursor_field or ""
        if place is not None and field.startswith("header:"):
            return None, {field.removeprefix("header:"): place}
        return place, {}


def _number(last: str) -> int:
    """The number of the record whose offset this is; -1 for none."""
    if last.isdigit():
        return int(last)
    try:
        stamp = datetime.fromisoformat(last)
    except ValueError:
        return -1
    if stamp.tzinfo is None:
        stamp = stamp.replace(tzinfo=UTC)
    return max(-1, int((stamp - EPOCH).total_seconds()))


def read_recording(path: Path) -> Mapping[str, Sequence[Any]]:
    """
    Recorded records by `connector/api`.

    Raises: OSError; ConfigError if it is no recording.
    """
    found: dict[str, list[Any]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            page = msgspec.json.decode(line)
            found.setdefault(page["api"], []).extend(page["records"])
        except (msgspec.DecodeError, KeyError, TypeError) as failure:
            raise ConfigError(f"{path}:{number}: not a recorded page") from failure
    return found


def pages_of(job: Job, loaded: Loaded, base: str) -> dict[str, StandInPages]:
    """
    The pages of every api, by its prefix.

    Raises: OSError; ConfigError, also if the recording has nothing of an api that
        is polled for itself.  Children are not recorded: theirs are made up.
    """
    found: Mapping[str, Sequence[Any]] = {}
    if job.recording is not None:
        found = read_recording(Path(job.recording))
    made = {}
    for number, connector in enumerate(loaded.connectors):
        for api in connector.apis:
            label = f"{connector.name}/{api.name}"
            kept = found.get(label)
            if job.recording is not None and not kept and not connector.parent(api):
                raise ConfigError(
                    f"{job.recording}: no records of {label} in it; --record {job.recording} "
                    "asks the API for some"
                )
            records = recorded(api, kept) if kept else made_up(connector, api)
            made[prefix(number, api)] = StandInPages(api, records, base)
    return made


class StandInConnection(BaseHTTPRequestHandler):
    """One client's connection to the API that stands in."""

    protocol_version = "HTTP/1.1"
    server_version = "stand-in"
    # The reply is written in two pieces; without this each waits for an ACK.
    disable_nagle_algorithm = True
    wbufsize = -1
    pages: Mapping[str, StandInPages] = {}
    latency = 0.0

    def reply(self) -> None:
        """Answer with a page, or 404 where there is no api."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = self.pages.get("/" + self.path.split("/", 2)[1])
        if self.latency:
            threading.Event().wait(self.latency)
        content, headers = b"", dict[str, str]()
        if found is None:
            self.send_response(404)
        else:
            self.send_response(200)
            content, headers = found.answer(self.path, body)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = reply

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing per request: the engine is what is to be watched."""


class StandInServer(ThreadingHTTPServer):
    """Takes as many connections as come at once."""

    request_queue_size = 512
    daemon_threads = True


def main() -> None:
    """Serve until ended by a signal."""
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job)
    StandInConnection.latency = job.latency
    with StandInServer(("127.0.0.1", 0), StandInConnection) as server:
        base = f"http://127.0.0.1:{server.server_address[1]}"
        StandInConnection.pages = pages_of(job, job.load(), base)
        print(base, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
