"""
Server: sockets, sizes and deadlines of the admin process.

Owns every listener and the loop that drives them (GATE waitress); what one connection may
take is `admin.channels`.  It knows no path; what is asked goes to `routes` and comes back.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.task import ThreadedTaskDispatcher

from engine.admin.answers import AdminRequest, AdminResponse, refusal
from engine.admin.channels import BODY_LIMIT, HEADER_LIMIT, IDLE, BoundedListener
from engine.admin.guard import ConnectionEnds
from engine.clock import SYSTEM, Clock

LOG = logging.getLogger(__name__)

#: Parameters of a query.
PARAMETERS = 50

#: Seconds after which a port that was taken is tried again.
AGAIN = 10.0

#: Threads that answer; one waits for a slow picture, others go on.
THREADS = 4

Answering = Callable[[AdminRequest, ConnectionEnds], AdminResponse]


class Address(Struct, frozen=True):
    """
    One entry of `listeners`.

    Attributes:
        host: Name or address; "" is every interface.
        port: 0 is any.
    """

    host: str
    port: int


def address(listener: str) -> Address:
    """
    Read one entry of `listeners`, `http://host:port`.

    Raises: ValueError.
    """
    parts = urlsplit(listener.strip())
    if parts.scheme.lower() != "http" or parts.path.strip("/") or parts.query:
        raise ValueError(f"{listener!r} is not of the form http://host:port")
    return Address(parts.hostname or "", 8080 if parts.port is None else parts.port)


class _Wake:
    """Ends a turn of the loop when a descriptor is readable; its owner reads it."""

    def __init__(self, fd: int, sockets: dict[int, Any]) -> None:
        self._fd = fd
        self._map = sockets
        sockets[fd] = self

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        """Nothing: that the turn is over is all that is wanted."""

    def handle_close(self) -> None:
        self._map.pop(self._fd, None)

    close = handle_expt_event = handle_close


class AdminServer:
    """
    Listens, until it is closed.  To be made after the fork: it has threads.

    A port that is taken is a warning and is tried again every 10 seconds; an
    address this machine does not have (no IPv6) is passed over.

    Args:
        listeners: Entries of `listeners`.
        answering: What answers.
        ports: File to write the bound addresses to, one URL a line, or None.
        wake: Descriptor that ends `run_once` when it is readable, or None.
        clock: Where time comes from.
    """

    def __init__(
        self,
        listeners: Iterable[str],
        answering: Answering,
        *,
        ports: str | Path | None = None,
        wake: int | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        # One line a request that had to queue is no news.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._answering = answering
        self._ports = ports
        self._clock = clock
        self._map: dict[int, Any] = {}
        if wake is not None:
            _Wake(wake, self._map)
        self._adjustments = Adjustments(
            threads=THREADS,
            connection_limit=1_000_000,
            cleanup_interval=1,
            channel_timeout=int(IDLE),
            max_request_header_size=HEADER_LIMIT,
            max_request_body_size=BODY_LIMIT,
            backlog=128,
            ident=None,
            log_socket_errors=False,
            clear_untrusted_proxy_headers=False,
        )
        self._dispatcher = ThreadedTaskDispatcher()
        self._dispatcher.set_thread_count(THREADS)
        self._open: list[str] = []
        self._missing = [address(listener) for listener in listeners]
        self._again_at = 0.0
        self._bind(first=True)

    @property
    def urls(self) -> Sequence[str]:
        """Where it listens, ports filled in."""
        return tuple(self._open)

    def run_once(self, seconds: float) -> None:
        """
        Serve what is ready.

        Blocks: at most `seconds`, less when something arrives.
        """
        if self._missing and self._clock.monotonic() >= self._again_at:
            self._bind(first=False)
        wasyncore.loop(timeout=seconds, use_poll=True, map=self._map, count=1)

    @property
    def listening(self) -> bool:
        """True if there is any socket to wait for."""
        return bool(self._map)

    def close(self) -> None:
        """Close every connection; waits at most 5 seconds for answers."""
        self._dispatcher.shutdown()
        wasyncore.close_all(self._map)

    def _bind(self, *, first: bool) -> None:
        missing, self._missing = self._missing, []
        for wanted in missing:
            for family, where in _resolved(wanted):
                self._listen(wanted, family, where, first=first)
        self._again_at = self._clock.monotonic() + AGAIN
        if self._ports is not None and (first or len(self._missing) < len(missing)):
            _write(Path(self._ports), "".join(f"{url}\n" for url in self._open))

    def _listen(
        self,
        wanted: Address,
        family: socket.AddressFamily,
        where: tuple[Any, ...],
        *,
        first: bool,
    ) -> None:
        found = socket.socket(family, socket.SOCK_STREAM)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            found.bind(where)
        except OSError as problem:
            found.close()
            self._not_bound(wanted, where, problem, first=first)
            return
        host, port = found.getsockname()[:2]
        BoundedListener(
            partial(self._application, host),
            self._map,
            True,
            found,
            dispatcher=self._dispatcher,
            adj=self._adjustments,
            bind_socket=False,
            sockinfo=(family, socket.SOCK_STREAM, 0, where),
        )
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        self._open.append(f"http://{shown}:{port}")
        LOG.info("Health, metrics and status at http://%s:%d/.", shown, port)

    def _not_bound(
        self,
        wanted: Address,
        where: tuple[Any, ...],
        problem: OSError,
        *,
        first: bool,
    ) -> None:
        if problem.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            if first:
                LOG.info("This machine has no address %s.", where[0])
            return
        self._missing.append(Address(where[0], wanted.port))
        if first:
            LOG.warning(
                "Cannot listen on %s port %d: %s; records flow, and it is tried "
                "again every %g s.",
                where[0],
                wanted.port,
                os.strerror(problem.errno or 0),
                AGAIN,
            )

    def _application(
        self,
        listener: str,
        environ: dict[str, Any],
        start_response: Callable[..., Any],
    ) -> list[bytes]:
        """WSGI (PEP 3333), for the listener of that address."""
        caller = ConnectionEnds(listener=listener, peer=environ["REMOTE_ADDR"])
        try:
            request = _question(environ)
        except ValueError:
            request = None
        try:
            answer = (
                self._answering(request, caller)
                if request is not None
                else refusal(400, f"More than {PARAMETERS} query parameters.")
            )
        except Exception:
            # The boundary of the process: one bad answer must not end it.
            LOG.exception("An answer could not be made.")
            answer = refusal(500, "Internal Server Error")
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *answer.headers,
        ]
        if answer.status == 204:
            headers = [pair for pair in headers if not pair[0].startswith("Content-")]
        elif not answer.content_type:
            headers = [pair for pair in headers if pair[0] != "Content-Type"]
        start_response(
            f"{answer.status} {_REASONS.get(answer.status, 'Other')}", headers
        )
        # The length is that of the body GET would bring (RFC 9110, 8.6).
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]


_REASONS = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    303: "See Other",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def _resolved(
    wanted: Address,
) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    try:
        found = socket.getaddrinfo(
            wanted.host or None,
            wanted.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
    except OSError as problem:
        LOG.warning("Cannot listen on %s: %s.", wanted.host, problem)
        return []
    return list({where: (family, where) for family, _, _, _, where in found}.values())


def _question(environ: dict[str, Any]) -> AdminRequest:
    headers = {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    # CGI, and WSGI after it, names this one without HTTP_.
    headers["content-type"] = environ.get("CONTENT_TYPE", "")
    path = environ.get("PATH_INFO", "/").encode("latin-1").decode("utf-8", "replace")
    return AdminRequest(
        method=environ["REQUEST_METHOD"],
        path=path,
        query=parse_qs(
            environ.get("QUERY_STRING", ""),
            keep_blank_values=True,
            max_num_fields=PARAMETERS,
        ),
        headers=headers,
        body=environ["wsgi.input"].read(BODY_LIMIT),
    )


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole; one that cannot be written is a warning."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=path.name, delete=False
        ) as file:
            file.write(text)
        os.replace(file.name, path)
    except OSError as problem:
        LOG.warning("Cannot write %s: %s.", path, problem)
