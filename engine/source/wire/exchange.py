"""
Exchange: timed writes and reads of one connection, with few system calls.

Owns the socket's mode while an answer is read: a plain one blocks in the kernel, one
with TLS waits inside of Python's C, both for a second at most between two looks at
our own clock.  Never opens or closes a connection.

Path: `source.wire.http1` writes a request here -> `source.wire.body` reads the answer
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
from typing import Any

from engine.clock import SYSTEM
from engine.errors import Unreachable

#: Longest seconds a read stays in the kernel before our own clock is looked at.
GLANCE = 1.0

#: Bytes from which what is going to come is waited for in one call.
IN_ONE_GO = 32 * 1024

_TIMEVAL = struct.Struct("@ll")


class Silent(Exception):
    """The connection ended before the first byte of an answer."""


def write(sock: Any, message: bytes, deadline: float) -> None:
    """
    Send all of a request.

    A peer that closes while we send may have answered before: the reader looks.

    Raises: Unreachable, Silent.  Blocks: until the deadline at most.
    """
    left = deadline - SYSTEM.monotonic()
    if left <= 0.0:
        raise Unreachable("the request's time is up before it was sent", sent=False)
    flags = 0
    if isinstance(sock, ssl.SSLSocket):
        _wait_at_most(sock, min(left, GLANCE))
    else:
        # Hot path: a request fits the socket; Python's sendall would ask it for
        # room first, in a call of its own.
        flags = socket.MSG_DONTWAIT
        if sock.gettimeout() is not None:
            sock.settimeout(None)
    rest = memoryview(message)
    while rest:
        try:
            rest = rest[sock.send(rest, flags) :]
        except (BlockingIOError, TimeoutError) as error:
            left = deadline - SYSTEM.monotonic()
            if left <= 0.0:
                why = "the request's time is up while sending"
                raise Unreachable(why) from error
            poller = select.poll()
            poller.register(sock, select.POLLOUT)
            poller.poll(min(left, GLANCE) * 1e3)
        except (BrokenPipeError, ConnectionResetError):
            return
        except OSError as error:
            raise Silent(str(error)) from error


def _wait_at_most(sock: Any, seconds: float) -> None:
    """
    How long a call on a socket may wait.

    Hot path: a plain socket of Python's with a time-out is polled before each read,
    and each of the two calls is a moment in which another thread may take the
    interpreter; with TLS it is polled only where there is nothing, but setting the
    time-out is a call again.
    """
    if isinstance(sock, ssl.SSLSocket):
        if sock.gettimeout() != seconds:
            sock.settimeout(seconds)
        return
    if sock.gettimeout() is not None:
        sock.settimeout(None)
    whole = int(seconds)
    # Nothing at all would mean for ever.
    parts = max(int((seconds - whole) * 1e6), 0 if whole else 1000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(whole, parts))


class Wire:
    """
    Bounded reads from a connection.

    Args:
        silence: Seconds without a byte after which the other side is given up; up
            to `GLANCE` more where a body trickles.
        deadline: Monotonic seconds at which the try is over.

    Attributes:
        total: Bytes read.
    """

    __slots__ = (
        "_deadline", "_heard", "_patience", "_receive", "_secure", "_silence",
        "_sock", "total",
    )  # fmt: skip

    def __init__(self, sock: Any, silence: float, deadline: float):
        self._sock = sock
        self._receive = sock.recv_into
        self._secure = isinstance(sock, ssl.SSLSocket)
        self._silence = silence
        self._deadline = deadline
        self._patience = -1.0
        self._heard = SYSTEM.monotonic()
        self.total = 0

    def read(self, room: memoryview, *, full: bool = False) -> int:
        """
        Bytes read into `room`; 0 at the end of the connection.

        Args:
            full: True where all of `room` is going to come: what is there is left
                in the system until all of it is, or for a second.

        Raises: Silent before the first byte, Unreachable behind it.
        Blocks: until the deadline at most, and for the silence allowed.
        """
        # TLS reads record by record, whatever is asked for.
        flags = socket.MSG_WAITALL if full and not self._secure else 0
        while True:
            now = SYSTEM.monotonic()
            left = self._deadline - now
            if left <= 0.0:
                raise Unreachable("the request's time is up")
            quiet = self._heard + self._silence - now
            if quiet <= 0.0:
                raise Unreachable(f"silence for {self._silence:g} s")
            patience = min(left, quiet, GLANCE)
            if patience != self._patience:
                self._patience = patience
                _wait_at_most(self._sock, patience)
            try:
                count: int = (
                    self._receive(room, 0, flags) if flags else self._receive(room)
                )
                break
            except (BlockingIOError, TimeoutError):
                continue
            except OSError as error:
                if not self.total:
                    raise Silent(str(error)) from error
                raise Unreachable(f"the connection broke: {error}") from error
        if not count and not self.total:
            raise Silent("closed without an answer")
        self._heard = SYSTEM.monotonic()
        self.total += count
        return count

    def beyond(self) -> bool:
        """True if other than line ends lie there that nobody asked for."""
        return bool(self._left(64).strip(b"\r\n"))

    def more(self) -> bool:
        """True if bytes lie there that nobody asked for."""
        return bool(self._left(1))

    def _left(self, size: int) -> bytes:
        if self._secure:
            self._patience = -1.0
            self._sock.settimeout(0.0)
        flags = 0 if self._secure else socket.MSG_DONTWAIT
        try:
            found: bytes = self._sock.recv(size, flags)
        except OSError:  # nothing there (also as SSLWantReadError)
            return b""
        return found
