"""
HTTP/2: many requests at once on one HTTP/2 connection.

Owns the multiplexed transport behind the verb of `source.wire.http1`: streams,
deadlines, and the proof that an answer is whole.  GATE pycurl, of the extra
[http2].  Knows no redirect, no credentials and no retry; addresses come
checked.

Path: `source.wire.http1` (a prepared shape) -> here -> `source.wire.body` -> Answer
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import ssl
import threading
from collections import deque
from typing import Any

from engine.clock import SYSTEM
from engine.config.libraries import load
from engine.errors import Forbidden, SourceError, Unreachable
from engine.later import later
from engine.source.wire.body import WireResponse
from engine.source.wire.exchange import Silent
from engine.source.wire.tls import TlsOptions
from engine.source.wire.transfer import Transfer, TransferOptions

pycurl: Any = later("pycurl")

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
    return load("HTTP/2") is not None


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
        # libcurl's multi handle is for one thread at a time. Whoever holds this drives the
        # transfers of all callers until its own is done, and then wakes another to lead. The
        # others sleep on their transfers; a new one is put into `_new`, a deque whose append
        # needs no lock, and the eventfd interrupts the leader's wait so that it is seen.
        self._lead = threading.Lock()
        self._new: deque[Transfer] = deque()
        self._running: dict[Any, Transfer] = {}
        self._spare: list[Any] = []
        self._used = math.inf

    def send(
        self, way: TransferOptions, url: str, body: bytes | None, deadline: float
    ) -> WireResponse:
        """
        One request, one complete answer.

        Args:
            url: Absolute, encoded.
            deadline: Monotonic seconds.

        Raises: Unreachable, BadPage, Forbidden; Silent if a connection used
            before ended ahead of the first byte.
        Blocks: until the deadline.
        """
        transfer = Transfer(way, url, body, deadline)
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
        for transfer in (*self._running.values(), *self._new):
            transfer.wake()
            return

    def _drive(self, own: Transfer) -> None:
        # Hot path: perform and select cost two thirds of libcurl's callbacks for
        # sockets and timers, which run in Python; an HTTP/2 host is one socket.
        multi, running = self._multi, self._running
        while True:
            while self._new:
                self._start(self._new.popleft())
            _, active = multi.perform()
            now = SYSTEM.monotonic()
            wait = LONGEST_SLEEP
            for transfer in tuple(running.values()):
                try:
                    transfer.take(now)
                    if transfer.cut or now >= transfer.ends:
                        raise Unreachable(transfer.overdue(now))
                except SourceError as error:
                    transfer.failure = error
                    self._end(transfer, broken=True)
                wait = min(wait, transfer.ends - now)
            if active < len(running):
                self._collect(now)
            if own.done:
                self._used = now
                return
            timer = multi.timeout()
            if 0 <= timer < wait * 1000:
                wait = timer / 1000
            if wait > 0 and not self._new:
                self._wait(wait)

    def _wait(self, seconds: float) -> None:
        """Until a socket is ready, somebody has an order, or a timer is due."""
        readers, writers, _ = self._multi.fdset()
        if not readers and not writers:
            # Resolving or connecting in libcurl, or a descriptor beyond select.
            seconds = min(seconds, UNSEEN)
        # Not select: the process may have more than a thousand descriptors, and then
        # even that of the alarm is beyond it.
        wanted = dict.fromkeys(readers, select.POLLIN)
        for number in writers:
            wanted[number] = wanted.get(number, 0) | select.POLLOUT
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        for number, events in wanted.items():
            poller.register(number, events)
        ready = {number for number, _ in poller.poll(math.ceil(1000 * seconds))}
        if self._wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)

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
                aged = not handle.getinfo(pycurl.NUM_CONNECTS)
                silent = aged and not transfer.lines
                transfer.failure = _renamed(code, message, silent)
                self._end(transfer, broken=True)
            if not left:
                return

    def _start(self, transfer: Transfer) -> None:
        handle = self._spare.pop() if self._spare else self._handle()
        transfer.handle = handle
        transfer.lines, transfer.pieces = handle.heard
        self._set(handle, transfer)
        self._running[handle] = transfer
        self._multi.add_handle(handle)

    def _end(self, transfer: Transfer, *, broken: bool) -> None:
        handle = transfer.handle
        del self._running[handle]
        self._multi.remove_handle(handle)
        if broken:
            handle.close()
        else:
            transfer.lines.clear()
            transfer.pieces.clear()
            self._spare.append(handle)
        transfer.done = True
        transfer.wake()

    def _handle(self) -> Any:
        handle = pycurl.Curl()
        lines: list[bytes] = []
        pieces: list[bytes] = []
        handle.heard = lines, pieces
        handle.setopt(pycurl.HEADERFUNCTION, lines.append)
        handle.setopt(pycurl.WRITEFUNCTION, pieces.append)
        handle.way = None
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

    def _set(self, handle: Any, transfer: Transfer) -> None:
        # Hot path: a handle keeps what it was told; only what differs is set.
        way, body = transfer.way, transfer.body
        handle.setopt(pycurl.URL, transfer.url)
        if body is not None:
            handle.setopt(pycurl.POST, 1)
            handle.setopt(pycurl.POSTFIELDSIZE_LARGE, len(body))
            handle.setopt(pycurl.COPYPOSTFIELDS, body)
        if handle.way is way:
            return
        handle.way = way
        handle.setopt(pycurl.HTTPHEADER, [*way.lines, "Expect:"])
        if body is None:
            handle.setopt(pycurl.HTTPGET, 1)
        handle.setopt(pycurl.CUSTOMREQUEST, way.method)
        # libcurl sends again by itself what an ended connection did not answer.
        handle.setopt(pycurl.FRESH_CONNECT, int(way.once or not self._reuse))
        handle.setopt(pycurl.FORBID_REUSE, int(not self._reuse))
        # The deadline of the whole is ours to watch.
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(way.connect * 1000)))
        if way.resolve is not None:
            # "-host:port" first: an address that is out of date goes.
            host_port = way.resolve.rpartition("|")[0]
            handle.setopt(
                pycurl.RESOLVE,
                [f"-{host_port}", f"+{way.resolve.replace('|', ':')}"],
            )
        handle.setopt(pycurl.PROXY, way.proxy)
        if way.proxy_auth is not None:
            handle.setopt(pycurl.PROXYAUTH, pycurl.HTTPAUTH_BASIC)
            handle.setopt(pycurl.PROXYUSERPWD, way.proxy_auth)
        _set_tls(handle, way.tls)


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


def _renamed(code: int, message: str, silent: bool) -> Exception:
    """
    libcurl's failure as one of ours; its text shows no header and no body.

    Args:
        silent: True if nothing was heard on a connection used before: the server
            may have closed it while it was idle.
    """
    if code == pycurl.E_SSL_PINNEDPUBKEYNOTMATCH:
        return Forbidden("the server's key is not pinned")
    if code in (pycurl.E_SEND_ERROR, pycurl.E_GOT_NOTHING) and silent:
        return Silent(message)
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return Unreachable("no connection in time", sent=False)
    if code in (pycurl.E_PARTIAL_FILE, getattr(pycurl, "E_HTTP2_STREAM", 92)):
        return Unreachable(f"the answer is cut: {message}")
    if code == getattr(pycurl, "E_HTTP2", 16) and "COMPRESSION_ERROR" in message:
        # What nghttp2 calls a block of headers over its own 64 KiB, too.
        return Forbidden(f"the headers cannot be read: {message}")
    unsent = {getattr(pycurl, name, -1) for name in _UNSENT}
    return Unreachable(message or f"libcurl {code}", sent=code not in unsent)
