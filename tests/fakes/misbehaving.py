"""
Misbehaving: an API that does on command what APIs do in production.

Two servers on loopback, one for HTTP/1.1 bytes and one for HTTP/2 frames, with
one script: the n-th request is answered by the n-th act, the last act stays.
Both count connections and keep every request, so that a test can see what was
really sent.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Self, TypeAlias

import h2.config
import h2.connection
import h2.events
import trustme


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int
    at: float = field(default_factory=time.monotonic)

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name]
        return ", ".join(found) if found else None


@dataclass
class Say:
    """
    An answer, whole or not, in words both protocols have.

    Attributes:
        cut: Bytes of the body after which the answer ends (a reset stream in
            HTTP/2, a closed connection in HTTP/1.1); None: whole.
        code: What a stream is reset with, RFC 9113, 7; a server that fails in
            the middle of an answer says INTERNAL_ERROR.
        pause: Seconds between single bytes of the body.
        wait: Seconds before anything is said.
        hang: True: after what was said, nothing, and no end.
        gone: True: the connection ends in place of an answer.
        reset: True: in place of an answer a reset, of the stream in HTTP/2.
        interim: Statuses that are said before.
        flood: Said after the body again and again, without end.
        length: Content-Length as stated; None: the body's own, "": none is.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: Sequence[tuple[str, str]] = ()
    cut: int | None = None
    code: int = 2
    pause: float = 0.0
    wait: float = 0.0
    hang: bool = False
    gone: bool = False
    reset: bool = False
    interim: Sequence[int] = ()
    flood: bytes = b""
    length: str | None = None
    close: bool = False


class Peer:
    """One HTTP/1.1 connection, as an act sees it."""

    def __init__(self, sock: Any, asked: Asked, stopped: threading.Event):
        self.sock = sock
        self.asked = asked
        self.stopped = stopped

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes, pause: float) -> None:
        for index in range(len(data)):
            if self.stopped.wait(pause):
                return
            self.sock.sendall(data[index : index + 1])

    def hang(self, seconds: float = 30.0) -> None:
        self.stopped.wait(seconds)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.close()

    def close(self) -> None:
        """Close, without TLS' close_notify."""
        with contextlib.suppress(OSError):
            # Not sock.close(): the reader made of it keeps it open.
            os.close(self.sock.detach())


#: What answers one request: words, raw bytes, or code.
Act: TypeAlias = Say | bytes | Callable[[Peer], None]


def spoken(say: Say) -> bytes:
    """An answer's head and as much of its body as is sent at once."""
    length = str(len(say.body)) if say.length is None else say.length
    lines = [f"HTTP/1.1 {status} Wait\r\n" for status in say.interim]
    lines += [f"HTTP/1.1 {say.status} OK"]
    lines += [f"Content-Length: {length}"] if length else []
    lines += [f"{name}: {value}" for name, value in say.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Misbehaving:
    """
    The HTTP/1.1 server.

    Attributes:
        asked: Every request so far.
        connections: How many were accepted.
        open, most_open: Connections now, and at most at one time.
        busy, most_busy: Requests under way now, and at most at one time.
    """

    def __init__(
        self,
        *acts: Act,
        tls: ssl.SSLContext | None = None,
        before_tls: Callable[[socket.socket], None] | None = None,
        idle: float | None = None,
        host: str = "127.0.0.1",
    ):
        self.acts = list(acts)
        self.asked: list[Asked] = []
        self.connections = self.open = self.most_open = 0
        self.busy = self.most_busy = 0
        self.closed_at: list[float] = []
        self._tls = tls
        self._before_tls = before_tls
        self._idle = idle
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._socks: set[Any] = set()
        self._listener = socket.create_server((host, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        scheme = "http" if tls is None else "https"
        name = host if tls is None else "localhost"
        self.url = f"{scheme}://{name}:{self.port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._socks):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def drop_idle(self) -> None:
        """Close every connection from this side, as an idle time-out does."""
        for sock in list(self._socks):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        """Block until a condition holds; AssertionError after `seconds`."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the condition never held"
            time.sleep(0.005)

    def _start(self, run: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                self.open += 1
                # What its client has closed may not have been read yet.
                left = sum(map(ended, tuple(self._socks)))
                self.most_open = max(self.most_open, self.open - left)
                number = self.connections
                self._socks.add(sock)
            self._start(self._serve, sock, number)

    def _serve(self, sock: Any, number: int) -> None:
        try:
            if self._before_tls is not None:
                self._before_tls(sock)
            if self._tls is not None:
                raw = sock
                sock = self._tls.wrap_socket(raw, server_side=True)
                self._socks.discard(raw)
                self._socks.add(sock)
            if self._idle is not None:
                sock.settimeout(self._idle)
            self._talk(sock, number)
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._socks.discard(sock)
                self.open -= 1
                self.closed_at.append(time.monotonic())
            with contextlib.suppress(OSError):
                sock.close()

    def _talk(self, sock: Any, number: int) -> None:
        reader = sock.makefile("rb")
        while not self._stopped.is_set():
            asked = _read(reader, number)
            if asked is None:
                return
            with self._lock:
                index = len(self.asked)
                self.asked.append(asked)
                self.busy += 1
                self.most_busy = max(self.most_busy, self.busy)
            try:
                act = self.acts[min(index, len(self.acts) - 1)]
                perform(act, Peer(sock, asked, self._stopped))
            finally:
                with self._lock:
                    self.busy -= 1
            if sock.fileno() < 0 or (isinstance(act, Say) and act.close):
                return


def ended(sock: Any) -> bool:
    """True if the other side has closed a connection."""
    looked = select.poll()
    try:
        looked.register(sock, select.POLLRDHUP)
        return bool(looked.poll(0))
    except (OSError, ValueError):
        return False


def _read(reader: Any, number: int) -> Asked | None:
    line = reader.readline(65536)
    if not line.strip():
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers = []
    while True:
        line = reader.readline(1 << 20).rstrip(b"\r\n")
        if not line:
            break
        name, _, value = line.decode("latin-1").partition(":")
        headers.append((name, value.strip()))
    lengths = [
        int(value) for name, value in headers if name.lower() == "content-length"
    ]
    body = reader.read(lengths[0]) if lengths else b""
    return Asked(method, target, headers, body, number)


def perform(act: Act, peer: Peer) -> None:
    """Answer one request over HTTP/1.1."""
    if isinstance(act, bytes):
        peer.send(act)
        return
    if not isinstance(act, Say):
        act(peer)
        return
    if act.wait:
        peer.stopped.wait(act.wait)
    if act.gone or act.reset:
        peer.reset() if act.reset else peer.close()
        return
    peer.send(spoken(act))
    body = act.body if act.cut is None else act.body[: act.cut]
    if act.pause:
        peer.drip(body, act.pause)
    else:
        peer.send(body)
    while act.flood and not peer.stopped.is_set():
        peer.send(act.flood)
    if act.hang:
        peer.hang()
    if act.cut is not None or act.length == "":
        peer.close()


# -- acts that need code ----------------------------------------------------


def then_close(data: bytes) -> Act:
    """These bytes, then the end of the connection."""

    def act(peer: Peer) -> None:
        peer.send(data)
        peer.close()

    return act


def then_reset(data: bytes = b"") -> Act:
    """These bytes, then a reset."""

    def act(peer: Peer) -> None:
        if data:
            peer.send(data)
            time.sleep(0.05)
        peer.reset()

    return act


def dripped(data: bytes, pause: float) -> Act:
    """Head and all, one byte at a time."""
    return lambda peer: peer.drip(data, pause)


def flood(head: bytes, piece: bytes) -> Act:
    """A head, then the same piece until the peer goes away."""

    def act(peer: Peer) -> None:
        peer.send(head)
        while not peer.stopped.is_set():
            peer.send(piece)

    return act


def silence(peer: Peer) -> None:
    """Nothing at all."""
    peer.hang()


# -- certificates -----------------------------------------------------------


@cache
def authority() -> trustme.CA:
    """The CA of this test run."""
    return trustme.CA()


@cache
def authority_pem() -> str:
    return authority().cert_pem.bytes().decode()


def server_tls(
    *names: str, alpn: Sequence[str] = ("http/1.1",), issuer: trustme.CA | None = None
) -> ssl.SSLContext:
    """A server's context with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(list(alpn))
    made = (issuer or authority()).issue_cert(*(names or ("localhost", "127.0.0.1")))
    made.configure_cert(context)
    return context


# -- HTTP/2 -----------------------------------------------------------------


class MisbehavingH2(Misbehaving):
    """
    The same server in HTTP/2 over TLS; its acts are `Say` only.

    Attributes:
        most_streams: Open streams of one connection, at most.
    """

    def __init__(self, *acts: Say, alpn: Sequence[str] = ("h2", "http/1.1")):
        super().__init__(*acts, tls=server_tls(alpn=alpn))
        self.most_streams = 0
        self.h2_connections = 0

    def _talk(self, sock: Any, number: int) -> None:
        if sock.selected_alpn_protocol() != "h2":
            super()._talk(sock, number)
            return
        _Frames(self, sock, number).run()


class _Frames:
    """One HTTP/2 connection."""

    def __init__(self, server: MisbehavingH2, sock: Any, number: int):
        self.server = server
        self.sock = sock
        self.number = number
        self.lock = threading.Lock()
        self.streams: set[int] = set()
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=False,
                header_encoding="latin-1",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        # Huffman's code in Python takes minutes for a header of 1 MiB.
        self.h2.encoder.encode = partial(self.h2.encoder.encode, huffman=False)

    def run(self) -> None:
        self.server.h2_connections += 1
        with self.lock:
            self.h2.initiate_connection()
            self.flush()
        waiting: dict[int, tuple[list[tuple[str, str]], bytearray]] = {}
        while not self.server._stopped.is_set():
            self._until_readable()
            with self.lock:
                data = self.sock.recv(65536)
                if not data:
                    return
                events = self.h2.receive_data(data)
                self.flush()
            for event in events:
                if isinstance(event, h2.events.RequestReceived):
                    waiting[event.stream_id] = (list(event.headers), bytearray())
                elif isinstance(event, h2.events.DataReceived):
                    waiting[event.stream_id][1].extend(event.data)
                    with self.lock:
                        self.h2.acknowledge_received_data(
                            event.flow_controlled_length, event.stream_id
                        )
                        self.flush()
                elif isinstance(event, h2.events.StreamEnded):
                    self.begin(event.stream_id, *waiting.pop(event.stream_id))
                elif isinstance(event, h2.events.StreamReset):
                    self.streams.discard(event.stream_id)

    def _until_readable(self) -> None:
        """
        Block until there is something to read.

        A TLS object of Python 3.11 may not be read and written by two threads
        at once, so that nobody may sit in `recv` while an answer is sent.
        """
        if not self.sock.pending():
            looked = select.poll()
            looked.register(self.sock, select.POLLIN)
            looked.poll()

    def begin(self, stream: int, headers: list[Any], body: bytearray) -> None:
        server = self.server
        plain = {str(k): str(v) for k, v in headers}
        asked = Asked(
            plain[":method"],
            plain[":path"],
            [(k, v) for k, v in plain.items() if not k.startswith(":")],
            bytes(body),
            self.number,
        )
        with server._lock:
            index = len(server.asked)
            server.asked.append(asked)
            self.streams.add(stream)
            server.most_streams = max(server.most_streams, len(self.streams))
        say = server.acts[min(index, len(server.acts) - 1)]
        assert isinstance(say, Say)
        server._start(self.answer, stream, say)

    def answer(self, stream: int, say: Say) -> None:
        with contextlib.suppress(Exception):
            self._answer(stream, say)
        self.streams.discard(stream)

    def _answer(self, stream: int, say: Say) -> None:
        stopped = self.server._stopped
        if say.wait:
            stopped.wait(say.wait)
        if say.gone:
            self.sock.shutdown(socket.SHUT_RDWR)
            return
        if say.reset:
            with self.lock:
                self.h2.reset_stream(stream)
                self.flush()
            return
        length = str(len(say.body)) if say.length is None else say.length
        for status in say.interim:
            with self.lock:
                self.h2.send_headers(stream, [(":status", str(status))])
        headers = [(":status", str(say.status))]
        headers += [("content-length", length)] if length else []
        headers += [(name.lower(), value) for name, value in say.headers]
        with self.lock:
            self.h2.send_headers(stream, headers)
            self.flush()
        body = say.body if say.cut is None else say.body[: say.cut]
        for piece in self.pieces(body, say.pause, say.flood):
            while True:
                with self.lock:
                    window = self.h2.local_flow_control_window(stream)
                    if window >= len(piece):
                        self.h2.send_data(stream, piece)
                        self.flush()
                        break
                if stopped.wait(0.002):
                    return
        if say.hang:
            stopped.wait(30)
            return
        with self.lock:
            if say.cut is not None:
                self.h2.reset_stream(stream, say.code)
            else:
                self.h2.end_stream(stream)
            self.flush()

    def pieces(self, body: bytes, pause: float, flood: bytes) -> Iterator[bytes]:
        if not pause:
            for start in range(0, len(body), 16384):
                yield body[start : start + 16384]
            while flood and not self.server._stopped.is_set():
                yield flood[:16384]
            return
        for index in range(len(body)):
            if self.server._stopped.wait(pause):
                return
            yield body[index : index + 1]

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)
