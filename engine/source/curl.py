"""
Curl: many requests at once on one HTTP/2 connection.

Owns the multiplexed transport behind the verb of `source.http`: streams,
deadlines, and the proof that an answer is whole.  GATE pycurl, of the extra
[http2].  Knows no redirect, no credentials and no retry; addresses come
checked.

Path: `source.http` (a prepared shape) -> here -> `source.body` -> Answer
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import ssl
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from engine.clock import SYSTEM
from engine.errors import Forbidden, SourceError, Unreachable
from engine.source.body import (
    BODILESS,
    MAX_HEAD,
    MAX_HEADERS,
    Answer,
    Bounds,
    Collector,
    Silent,
    header_name,
    inflated,
)
from engine.source.tls import TlsOptions

try:
    import pycurl
except ImportError:  # the extra [http2] is not installed
    pycurl = None

#: Longest sleep of whoever drives, in seconds: silence is looked at so often.
LONGEST_SLEEP = 0.25

#: Longest sleep where libcurl names no socket, in seconds.
UNSEEN = 0.01

#: Codes of libcurl after which nothing can have been sent.
_UNSENT = ("E_COULDNT_RESOLVE_HOST", "E_COULDNT_CONNECT", "E_SSL_CONNECT_ERROR",
           "E_PEER_FAILED_VERIFICATION", "E_COULDNT_RESOLVE_PROXY",
           "E_SSL_CERTPROBLEM", "E_SSL_CIPHER", "E_SSL_CACERT_BADFILE")  # fmt: skip

_TLS = {"TLSv1.2": "TLSv1_2", "TLSv1.3": "TLSv1_3"}


def installed() -> bool:
    """True if the extra [http2] is there, with HTTP/2 in its libcurl."""
    return pycurl is not None and bool(
        pycurl.version_info()[4] & getattr(pycurl, "VERSION_HTTP2", 1 << 16)
    )


class Order:
    """
    One request for the multiplexer.

    Attributes:
        url: Absolute, encoded.
        lines: Header lines without Host and Content-Length.
        resolve: `host:port:address,...`, checked, or None behind a proxy.
        once: True if it must never be sent twice.
    """

    __slots__ = (
        "asked", "body", "bounds", "connect", "deadline", "lines", "method",
        "once", "proxy", "proxy_auth", "resolve", "tls", "url",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        url: str,
        lines: Sequence[str],
        body: bytes | None,
        *,
        asked: frozenset[str],
        bounds: Bounds,
        deadline: float,
        connect: float,
        resolve: str | None,
        tls: TlsOptions,
        once: bool = False,
        proxy: str = "",
        proxy_auth: str | None = None,
    ):
        self.method = method
        self.url = url
        self.lines = lines
        self.body = body
        self.asked = asked
        self.bounds = bounds
        self.deadline = deadline
        self.connect = connect
        self.resolve = resolve
        self.tls = tls
        self.once = once
        self.proxy = proxy
        self.proxy_auth = proxy_auth


class _Transfer:
    """
    One order under way: what libcurl hands over, and what becomes of it.

    Hot path: libcurl's callbacks are the appends of two lists, no frame a piece;
    `take` looks at what they hold after each turn of the loop.
    """

    def __init__(self, order: Order):
        self.order = order
        self.done = False
        self.cut = False
        self.failure: Exception | None = None
        self.answer: Answer | None = None
        self.heard = SYSTEM.monotonic()
        self.handle: Any = None
        self.lines: list[bytes] = []
        self.pieces: list[bytes] = []
        # A lock as a flag: an Event costs more than all else a caller alone pays.
        self._flag = threading.Lock()
        self._flag.acquire()
        self._status = 0
        self._headers: list[tuple[str, str]] = []
        self._collector: Collector | None = None

    def wake(self) -> None:
        """Let its caller look again."""
        with contextlib.suppress(RuntimeError):
            self._flag.release()

    def sleep(self, seconds: float) -> None:
        """Until `wake`, at most so long."""
        self._flag.acquire(timeout=seconds)

    @property
    def fresh(self) -> bool:
        """True while its head is not read."""
        return self._collector is None

    @property
    def answering(self) -> bool:
        """True once the first byte of an answer is there."""
        return bool(self.lines)

    def take(self, now: float) -> None:
        """
        Look at what came.

        Raises: Unreachable, BadPage, Forbidden.
        """
        self.heard = now
        if self._collector is None:
            if sum(map(len, self.lines)) > MAX_HEAD:
                raise Forbidden(f"the headers are over {MAX_HEAD} bytes")
            if not self.lines or self.lines[-1] not in (b"\r\n", b"\n"):
                if not self.pieces:
                    return
                raise Unreachable("not an HTTP answer")
            self._read_head()
        if self.pieces and self._collector is not None:
            self._collector.extend(self.pieces)
            self.pieces.clear()

    def _read_head(self) -> None:
        """The last head among the lines; interim ones are skipped."""
        headers: list[tuple[str, str]] = []
        for line in self.lines:
            name, colon, value = line.partition(b":")
            if colon:
                headers.append((header_name(name), value.strip().decode("latin-1")))
            elif line.startswith(b"HTTP/"):
                words = line.split(None, 2)
                if len(words) < 2 or not words[1][:3].isdigit():
                    raise Unreachable("not an HTTP answer")
                self._status = int(words[1][:3])
                headers.clear()
        self._headers = headers
        if self._status < 200:
            return
        if len(self._headers) > MAX_HEADERS:
            raise Forbidden(f"more than {MAX_HEADERS} headers")
        self._judge()

    def _judge(self) -> None:
        order = self.order
        lengths: set[str] = set()
        encoding = ""
        for name, value in self._headers:
            if name == "content-length":
                lengths.add(value)
            elif name == "content-encoding":
                encoding = f"{encoding},{value}"
        if lengths:
            length = lengths.pop()
            if lengths or not length.isascii() or not length.isdigit():
                raise Unreachable("a length that is no number")
            if int(length) > order.bounds.size:
                raise Forbidden(f"the body is over {order.bounds.size} bytes")
        inflater = None
        if encoding and self._status not in BODILESS:
            inflater = inflated(encoding, order.asked, order.bounds)
        self._collector = Collector(inflater, order.bounds, order.deadline)

    def finish(self, now: float) -> None:
        """
        The stream came to its end.

        Raises: Unreachable, BadPage, Forbidden.
        """
        self.take(now)
        if self._collector is None:
            raise Unreachable("no answer")
        self.answer = Answer(
            status=self._status,
            headers=self._headers,
            body=self._collector.finish(),
            wire_bytes=self._collector.wire,
            keep=True,
        )

    def ends(self) -> float:
        """Monotonic seconds at which it is cut if nothing more is heard."""
        return min(self.order.deadline, self.heard + self.order.bounds.silence)

    def overdue(self, now: float) -> str | None:
        """Why this transfer is to be cut, or None."""
        if self.cut:
            return "the request was cut"
        if now >= self.order.deadline:
            return "the request's time is up"
        silence = self.order.bounds.silence
        if now - self.heard >= silence:
            return f"silence for {silence:g} s"
        return None


class Multiplexer:
    """
    The HTTP/2 connections of a task.  Thread-safe, and without a thread.

    Whoever waits for an answer drives the transfers of all: one of the waiting
    threads leads, and when its own answer is there the next one does.  A single
    caller pays for no hand-over.

    Args:
        streams: `http.client.http2.max.concurrent.streams`, of one connection.
        connections: To all hosts.
        idle: Seconds after which a connection is not used again.
        buffer_size: Largest read.
        reuse: False: each request has a connection of its own.
    """

    def __init__(
        self,
        *,
        streams: int,
        connections: int,
        idle: float,
        buffer_size: int,
        reuse: bool = True,
    ):
        self._buffer_size = min(max(buffer_size, 16 * 1024), 512 * 1024)
        self._idle = idle
        self._reuse = reuse and idle > 0
        self._streams = streams
        self._connections = connections
        self._multi = self._connected()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lead = threading.Lock()
        self._new: deque[_Transfer] = deque()
        self._running: dict[Any, _Transfer] = {}
        self._spare: list[Any] = []
        self._used = math.inf

    def send(self, order: Order) -> Answer:
        """
        One request, one complete answer.

        Raises: Unreachable, BadPage, Forbidden; Silent if the connection ended
            before the first byte.
        Blocks: until the order's deadline.
        """
        transfer = _Transfer(order)
        self._new.append(transfer)
        while not transfer.done:
            if self._lead.acquire(blocking=False):
                try:
                    self._drive(transfer)
                finally:
                    self._lead.release()
                    self._pass_on()
            else:
                os.eventfd_write(self._wake, 1)
                transfer.sleep(LONGEST_SLEEP)
        if transfer.failure is not None:
            raise transfer.failure
        assert transfer.answer is not None
        return transfer.answer

    def tick(self, now: float) -> None:
        """
        Close the connections once nothing was asked for the idle time.

        Never blocks.  libcurl itself looks only when it is asked for something.
        """
        if now - self._used < self._idle or not self._lead.acquire(blocking=False):
            return
        try:
            if not self._running and not self._new:
                self._used = math.inf
                self._multi.close()
                self._multi = self._connected()
        finally:
            self._lead.release()

    def cut(self) -> None:
        """As `Pool.cut`: whoever waits for an answer sees its stream end."""
        for transfer in (*tuple(self._running.values()), *tuple(self._new)):
            transfer.cut = True
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Close all connections; what is under way is cut."""
        self.cut()
        with self._lead:
            for handle in self._spare:
                handle.close()
            self._spare.clear()
            self._multi.close()
            os.close(self._wake)

    def _connected(self) -> Any:
        """A set of connections, none of them open yet."""
        multi = pycurl.CurlMulti()
        multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, self._streams)
        multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, 1 if self._reuse else 0)
        multi.setopt(pycurl.M_MAX_TOTAL_CONNECTIONS, self._connections)
        return multi

    # -- driving: only whoever holds the lead -----------------------------

    def _pass_on(self) -> None:
        """Wake one of those who wait, so that it leads."""
        for transfer in [*self._running.values(), *self._new]:
            transfer.wake()
            return

    def _drive(self, own: _Transfer) -> None:
        # Hot path: perform and select cost two thirds of libcurl's callbacks for
        # sockets and timers, which run in Python; an HTTP/2 host is one socket.
        multi = self._multi
        while True:
            while self._new:
                self._start(self._new.popleft())
            multi.perform()
            now = SYSTEM.monotonic()
            for transfer in list(self._running.values()):
                self._look_at(transfer, now)
            self._collect(now)
            if own.done:
                return
            wait = LONGEST_SLEEP
            for transfer in self._running.values():
                wait = min(wait, transfer.ends() - now)
            timer = multi.timeout()
            if timer >= 0:
                wait = min(wait, timer / 1000)
            if wait > 0 and not self._new:
                self._wait(wait)

    def _wait(self, seconds: float) -> None:
        """Until a socket is ready, somebody has an order, or a timer is due."""
        readers, writers, _ = self._multi.fdset()
        if not readers and not writers:
            # Resolving or connecting in libcurl, or a descriptor beyond select.
            seconds = min(seconds, UNSEEN)
        ready, _, _ = select.select([self._wake, *readers], writers, (), seconds)
        if self._wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)

    def _look_at(self, transfer: _Transfer, now: float) -> None:
        """Take what came, and cut what is over its time or its bounds."""
        try:
            if transfer.pieces or (transfer.lines and transfer.fresh):
                transfer.take(now)
            why = transfer.overdue(now)
            if why is not None:
                raise Unreachable(why)
        except SourceError as error:
            transfer.failure = error
            self._end(transfer, broken=True)

    def _collect(self, now: float) -> None:
        """End the transfers that libcurl is through with."""
        while True:
            left, good, bad = self._multi.info_read()
            for handle in good:
                transfer = self._running[handle]
                try:
                    transfer.finish(now)
                except SourceError as error:
                    transfer.failure = error
                self._end(transfer, broken=transfer.failure is not None)
            for handle, code, message in bad:
                transfer = self._running[handle]
                transfer.failure = _renamed(code, message, transfer.answering)
                self._end(transfer, broken=True)
            if not left:
                return

    def _start(self, transfer: _Transfer) -> None:
        handle = self._spare.pop() if self._spare else self._handle()
        transfer.handle = handle
        self._set(handle, transfer)
        self._running[handle] = transfer
        self._multi.add_handle(handle)

    def _end(self, transfer: _Transfer, *, broken: bool) -> None:
        handle = transfer.handle
        del self._running[handle]
        self._multi.remove_handle(handle)
        if broken:
            handle.close()
        else:
            self._spare.append(handle)
        transfer.done = True
        transfer.wake()

    def _handle(self) -> Any:
        handle = pycurl.Curl()
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.FOLLOWLOCATION, 0)
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        handle.setopt(pycurl.PIPEWAIT, 1)
        handle.setopt(pycurl.NETRC, pycurl.NETRC_IGNORED)
        handle.setopt(pycurl.NOPROXY, "")
        handle.setopt(pycurl.BUFFERSIZE, self._buffer_size)
        handle.setopt(pycurl.TCP_NODELAY, 1)
        handle.setopt(pycurl.MAXAGE_CONN, max(1, int(self._idle)))
        return handle

    def _set(self, handle: Any, transfer: _Transfer) -> None:
        # Hot path: a handle keeps what it was told; only what differs is set.
        order = transfer.order
        handle.setopt(pycurl.URL, order.url)
        handle.setopt(pycurl.HEADERFUNCTION, transfer.lines.append)
        handle.setopt(pycurl.WRITEFUNCTION, transfer.pieces.append)
        if order.body is not None:
            handle.setopt(pycurl.POST, 1)
            handle.setopt(pycurl.POSTFIELDSIZE_LARGE, len(order.body))
            handle.setopt(pycurl.COPYPOSTFIELDS, order.body)
        shape = order.method, id(order.lines), order.body is None, order.resolve
        if getattr(handle, "known", None) == shape:
            return
        handle.known = shape
        handle.lines = order.lines  # keeps the id above from being used again
        handle.setopt(pycurl.HTTPHEADER, [*order.lines, "Expect:"])
        if order.body is None:
            handle.setopt(pycurl.HTTPGET, 1)
        handle.setopt(pycurl.CUSTOMREQUEST, order.method)
        # libcurl sends again by itself what an ended connection did not answer.
        handle.setopt(pycurl.FRESH_CONNECT, int(order.once or not self._reuse))
        handle.setopt(pycurl.FORBID_REUSE, int(not self._reuse))
        # The deadline of the whole is ours to watch.
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(order.connect * 1000)))
        if order.resolve is not None:
            # "-host:port" first: an address that is out of date goes.
            host_port = order.resolve.rpartition("|")[0]
            handle.setopt(
                pycurl.RESOLVE,
                [f"-{host_port}", f"+{order.resolve.replace('|', ':')}"],
            )
        handle.setopt(pycurl.PROXY, order.proxy)
        if order.proxy_auth is not None:
            handle.setopt(pycurl.PROXYAUTH, pycurl.HTTPAUTH_BASIC)
            handle.setopt(pycurl.PROXYUSERPWD, order.proxy_auth)
        _set_tls(handle, order.tls)


def _set_tls(handle: Any, tls: TlsOptions) -> None:
    low, high = (_TLS[min(tls.protocols)], _TLS[max(tls.protocols)])
    handle.setopt(
        pycurl.SSLVERSION,
        getattr(pycurl, f"SSLVERSION_{low}")
        | getattr(pycurl, f"SSLVERSION_MAX_{high}"),
    )
    handle.setopt(pycurl.SSL_VERIFYPEER, 1 if tls.verify else 0)
    handle.setopt(pycurl.SSL_VERIFYHOST, 2 if tls.verify and tls.check_hostname else 0)
    if tls.ca_file:
        handle.setopt(pycurl.CAINFO, tls.ca_file)
    elif tls.ca_pem:
        handle.setopt(pycurl.CAINFO_BLOB, tls.ca_pem)
    else:
        # The wheel's libcurl knows nobody's store: the system's, as ssl has it.
        places = ssl.get_default_verify_paths()
        if places.cafile:
            handle.setopt(pycurl.CAINFO, places.cafile)
        if places.capath:
            handle.setopt(pycurl.CAPATH, places.capath)
    if tls.cert_file:
        handle.setopt(pycurl.SSLCERT, tls.cert_file)
        handle.setopt(pycurl.SSLKEY, tls.key_file or tls.cert_file)
    elif tls.cert_pem:
        handle.setopt(pycurl.SSLCERT_BLOB, tls.cert_pem)
        handle.setopt(pycurl.SSLKEY_BLOB, tls.key_pem or tls.cert_pem)
    if tls.key_password:
        handle.setopt(pycurl.KEYPASSWD, tls.key_password)
    if tls.ciphers:
        handle.setopt(pycurl.SSL_CIPHER_LIST, ":".join(tls.ciphers))
    if tls.pins:
        pins = ";".join(pin.replace("sha256/", "sha256//", 1) for pin in tls.pins)
        handle.setopt(pycurl.PINNEDPUBLICKEY, pins)


def _renamed(code: int, message: str, answering: bool) -> Exception:
    """libcurl's failure as one of ours; its text shows no header and no body."""
    if code == pycurl.E_SSL_PINNEDPUBKEYNOTMATCH:
        return Forbidden("the server's key is not pinned")
    if code in (pycurl.E_SEND_ERROR, pycurl.E_GOT_NOTHING) and not answering:
        return Silent(message)
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return Unreachable("no connection in time", sent=False)
    if code in (pycurl.E_PARTIAL_FILE, getattr(pycurl, "E_HTTP2_STREAM", 92)):
        return Unreachable(f"the answer is cut: {message}")
    unsent = {getattr(pycurl, name, -1) for name in _UNSENT}
    return Unreachable(message or f"libcurl {code}", sent=code not in unsent)
