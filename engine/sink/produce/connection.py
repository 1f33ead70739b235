"""
Connection: one socket to a broker, without ever blocking.

Owns the bytes: connecting to one address after the other, TLS, the handshake, frames in
both directions, partial writes, time-outs, and which request is answered next. Decides
nothing of what is sent. It is one class, and long: each step of a socket's life, from
its first address to its end, is entered by the step before or by the system, at any of
them.

Path: `sink.produce.sender` drives it: `handle` when the system says that
something can be read or written, `tick` when its time is over.
"""

from __future__ import annotations

import errno
import os
import random
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from engine.clock import SYSTEM, Clock
from engine.sink.codec import Message
from engine.sink.produce.aside import ThreadedCalls
from engine.sink.produce.handshake import (
    Conversation,
    Manners,
    NegotiatedSession,
    greet,
    log_in,
)
from engine.sink.produce.wire import FRAME_LIMIT, Garbled, Piece
from engine.sink.reasons import CLOSED, ENDED, MUTE, NAMELESS

#: Seconds an address may take to accept, while there are others to try.
ADDRESS_LIMIT = 1.0

#: Seconds without a request after which the end of a connection is nobody's fault.
UNUSED = 1.0

#: Pieces the system takes at a time (IOV_MAX is 1024).
PIECES = 512

#: Bytes that are read at a time, and given to TLS at a time.
CHUNK = 64 * 1024


class ConnectionLost(Exception):
    """A connection that has ended; what was not answered on it may be written."""


class Idle(ConnectionLost):
    """A connection that nothing was asked on has ended; nobody's fault."""


class InFlightRequest(Struct, eq=False):
    """
    A request that is on its way.

    Attributes:
        deadline: Monotonic seconds until which it is to be answered.
        answered: Takes the frame, from behind its length.
        lost: Called if it never will be answered.
        ends_at: Bytes written on the connection once it is out; only for a
            request that nobody answers.
    """

    correlation: int
    deadline: float
    #: Raises Garbled before it has done anything, if at all.
    answered: Callable[[bytes], None]
    lost: Callable[[Exception], None]
    ends_at: int = -1


class Options(Struct, frozen=True):
    """
    How brokers are connected; seconds and bytes.

    Attributes:
        tls: The context, or None.
        send_buffer, receive_buffer: None or below 0: the system's.
    """

    manners: Manners
    tls: ssl.SSLContext | None
    request_timeout: float
    max_idle: float
    send_buffer: int | None = None
    receive_buffer: int | None = None


class ConnectionListener(Protocol):
    """What a connection tells its owner, `sink.produce.sender.Sender`."""

    def watch(self, connection: Connection, events: int) -> None:
        """What it waits for has changed; 0: nothing any more."""

    def ready(self, connection: Connection) -> None:
        """Requests may be sent, now or again."""

    def closed(self, connection: Connection, why: Exception) -> None:
        """The connection has ended, and all requests on their way are lost with it."""


_Address: TypeAlias = tuple[Any, ...]


class Connection:
    """
    Args:
        host, port: As the broker advertises it, or as it was configured.

    Attributes:
        session: What both sides agreed on.
        usable: True while requests may be sent.
        agreed: True once the first handshake was over.
        flights: What is not answered, oldest first.
        error: Why it has ended, or None.
    """

    def __init__(
        self,
        host: str,
        port: int,
        options: Options,
        owner: ConnectionListener,
        aside: ThreadedCalls,
        clock: Clock = SYSTEM,
    ) -> None:
        self.host = host
        self.port = port
        self.session = NegotiatedSession({})
        self.usable = False
        self.agreed = False
        self.flights: deque[InFlightRequest] = deque()
        self.error: Exception | None = None
        self.fileno = -1
        self._options = options
        self._owner = owner
        self._aside = aside
        self._clock = clock
        self._socket: socket.socket | ssl.SSLSocket | None = None
        self._secure = False
        self._addresses: list[_Address] = []
        self._connecting = False
        self._shaking = False
        self._conversation: Conversation | None = None
        self._out: deque[Piece] = deque()
        self._queued = 0
        self._written = 0
        # When the other side last took something that it had not taken at once.
        self._moved_at = 0.0
        self._silent: deque[InFlightRequest] = deque()
        self._in = bytearray()
        self._correlation = random.getrandbits(24)
        self._events = 0
        now = clock.monotonic()
        self._used = now
        # While the handshake goes on: until when it has to be over.
        self._deadline = now + options.request_timeout
        self._address_until = self._deadline
        self._renew_at = float("inf")

    @property
    def place(self) -> str:
        """For people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def waiting_for(self) -> str:
        """What has not come while it is not usable, for people."""
        if self._connecting:
            return CLOSED
        if self._socket is None:
            return NAMELESS
        return f"{MUTE} the TLS handshake" if self._shaking else MUTE

    # -- coming up ---------------------------------------------------------------

    def open(self) -> None:
        """Begin to connect; never blocks."""
        # A name may take its resolver's whole time.
        self._aside.call(self._look_up, self._resolved)

    def _look_up(self) -> list[_Address]:
        # A host in ASCII needs none of the tables of international names.
        host = self.host.encode() if self.host.isascii() else self.host
        found = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(found))

    def _resolved(self, found: Any, failure: Exception | None) -> None:
        if self.error is not None:
            return
        if failure is not None:
            said = getattr(failure, "strerror", None) or str(failure)
            self.close(ConnectionLost(f"its name cannot be resolved ({said})"))
            return
        self._addresses = list(found)
        self._next_address("its name has no address")

    def _next_address(self, why: str) -> None:
        """Try the next address of the name, or give up."""
        while self._addresses:
            family, kind, protocol, _, address = self._addresses.pop(0)
            self._forget_socket()
            made: socket.socket | None = None
            try:
                made = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
                self._prepare(made)
                code = made.connect_ex(address)
            except OSError as error:
                if made is not None:
                    made.close()
                why = errno_text(error.errno or 0)
                continue
            except (ValueError, OverflowError) as error:
                # A port that is none.
                made.close()  # type: ignore[union-attr]
                why = f"its address is none ({error})"
                continue
            if code not in (0, errno.EINPROGRESS, errno.EAGAIN):
                made.close()
                why = errno_text(code)
                continue
            self._socket = made
            self.fileno = made.fileno()
            self._connecting = True
            now = self._clock.monotonic()
            # The last one has all that is left, and each before it no more than its part.
            left = (self._deadline - now) / (len(self._addresses) + 1)
            limit = min(ADDRESS_LIMIT, left) if self._addresses else left
            self._address_until = now + limit
            self._watch(select.EPOLLOUT)
            return
        self.close(ConnectionLost(why))

    def _prepare(self, made: socket.socket) -> None:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, size in (
            (socket.SO_SNDBUF, self._options.send_buffer),
            (socket.SO_RCVBUF, self._options.receive_buffer),
        ):
            if size is not None and size > 0:
                made.setsockopt(socket.SOL_SOCKET, option, size)

    def _connected(self) -> None:
        assert self._socket is not None
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._next_address(errno_text(code))
            return
        self._connecting = False
        self._addresses.clear()
        context = self._options.tls
        if context is None:
            self._greet()
            return
        plain = self._socket
        assert isinstance(plain, socket.socket)
        # The number of the descriptor stays the same.
        try:
            self._socket = context.wrap_socket(
                plain, server_hostname=self.host, do_handshake_on_connect=False
            )
        except ValueError as error:
            raise ConnectionLost(f"its name is none for TLS ({error})") from error
        self._secure = self._shaking = True
        self._shake()

    def _shake(self) -> None:
        assert isinstance(self._socket, ssl.SSLSocket)
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self._watch(select.EPOLLIN)
        except ssl.SSLWantWriteError:
            self._watch(select.EPOLLOUT)
        else:
            self._shaking = False
            self._greet()

    def _greet(self) -> None:
        self._watch(select.EPOLLIN)
        self._converse(greet(self._options.manners, self.host, self.session))

    def _converse(self, conversation: Conversation) -> None:
        self.usable = False
        self._deadline = self._clock.monotonic() + self._options.request_timeout
        self._conversation = conversation
        self._step(lambda: next(conversation))

    def _step(self, ask: Callable[[], Any]) -> None:
        """Let the handshake say what is next, and do it."""
        try:
            said = ask()
        except StopIteration:
            self._agreed()
            return
        # Whatever the other side has said wrong ends the connection.
        except Exception as error:  # noqa: BLE001 - handed to the owner
            self.close(error)
            return
        if isinstance(said, Message):
            self.call(said, lambda answer: self._go_on(answer, None), self.close)
        else:
            self._aside.call(said, self._go_on)

    def _go_on(self, answer: Any, failure: Exception | None) -> None:
        conversation = self._conversation
        if conversation is None or self.error is not None:
            return
        if failure is not None:
            self.close(failure)
            return
        self._step(lambda: conversation.send(answer))

    def _agreed(self) -> None:
        self._conversation = None
        self.agreed = True
        now = self._clock.monotonic()
        self._used = now
        self._renew_at = float("inf")
        if self.session.renew_in:
            self._renew_at = now + self.session.renew_in
        self.usable = True
        self._owner.ready(self)

    # -- requests ------------------------------------------------------------------

    def next_correlation(self) -> int:
        """The number of the next request, to be sent at once."""
        self._correlation = (self._correlation + 1) & 0x7FFFFFFF
        return self._correlation

    def call(
        self,
        message: Message,
        answered: Callable[[Any], None],
        lost: Callable[[Exception], None],
    ) -> None:
        """Send a message that is not on the hot path."""
        correlation = self.next_correlation()
        data = message.encode(correlation, self._options.manners.client_id)

        def arrived(frame: bytes) -> None:
            answered(message.decode(frame))

        deadline = self._clock.monotonic() + self._options.request_timeout
        self.send([data], InFlightRequest(correlation, deadline, arrived, lost))

    def send(
        self, pieces: Sequence[Piece], flight: InFlightRequest, *, silent: bool = False
    ) -> None:
        """
        Put a request on its way; what does not fit the socket follows by itself.

        Args:
            silent: Nobody will answer; `answered` is called when it is written.
        """
        size = sum(map(len, pieces))
        self._queued += size
        self._used = self._clock.monotonic()
        idle = not self._out
        self._out.extend(pieces)
        if silent:
            flight.ends_at = self._queued
            self._silent.append(flight)
        else:
            self.flights.append(flight)
        if idle:
            self._try(self._write)
            if self._out:
                self._moved_at = self._used

    @property
    def backlog(self) -> int:
        """Bytes that the socket has not taken yet."""
        return self._queued - self._written

    # -- the loop --------------------------------------------------------------------

    def handle(self, events: int) -> None:
        """Do what the system says can be done; never blocks."""
        if self.error is not None:
            return
        if self._connecting:
            self._try(self._connected)
        elif self._shaking:
            self._try(self._shake)
        else:
            if events & (select.EPOLLOUT | select.EPOLLERR):
                before = self._written
                self._try(self._write)
                if self._written > before:
                    self._moved_at = self._clock.monotonic()
            # TLS may have to read before it can write, and the other way round.
            if self.error is None and (self._secure or events & ~select.EPOLLOUT):
                self._try(self._read)
                if self._secure and self._out and self.error is None:
                    self._try(self._write)

    def tick(self, now: float) -> float:
        """
        Do what is due.

        Returns: monotonic seconds of the next time something may be.
        """
        if self._connecting and now >= self._address_until:
            self._next_address(CLOSED)
            return now
        if self.error is not None:
            return float("inf")
        if not self.usable and self._conversation is None and not self.flights:
            if now >= self._deadline:
                self.close(ConnectionLost(self.waiting_for))
            return self._address_until if self._connecting else self._deadline
        due = self._renew_at
        if self._conversation is not None:
            due = self._deadline
            if now >= due:
                self.close(ConnectionLost(MUTE))
                return now
        if self.flights or self._out:
            # A slow reader has its time for each part that it takes.
            late = self._moved_at + self._options.request_timeout
            if self.flights:
                late = max(late, self.flights[0].deadline)
            # A login that is due waits for what is on its way.
            due = min(due, late) if self._conversation is not None else late
            if now >= late:
                self.close(ConnectionLost(self._late()))
                return now
        elif self.usable:
            idle_at = self._used + self._options.max_idle
            due = min(due, idle_at)
            if now >= idle_at:
                self.close(Idle(f"{self.place}: idle"))
                return now
            if now >= self._renew_at:
                # Java waits for what is on its way, too: `drain`.
                self._converse(log_in(self._options.manners, self.host, self.session))
                return self._deadline
        return due

    def _late(self) -> str:
        waited = self._options.request_timeout
        if self._out:
            return (
                f"{self.place} has taken nothing of a request for {waited:.0f} s "
                f"({self.backlog} bytes are left of it)"
            )
        return f"{self.place} has not answered a request for {waited:.0f} s"

    def draining(self, now: float) -> bool:
        """True if nothing is to be sent until the login is renewed."""
        return now >= self._renew_at

    def close(self, why: Exception) -> None:
        """End it; whatever was on its way is lost."""
        if self.error is not None:
            return
        self.error = why
        self.usable = False
        self._connecting = self._shaking = False
        if self._conversation is not None:
            # It may be running: then it ends by itself.
            self._conversation = None
        self._forget_socket()
        self._out.clear()
        lost = [*self.flights, *self._silent]
        self.flights.clear()
        self._silent.clear()
        for flight in lost:
            flight.lost(why)
        self._owner.closed(self, why)

    # -- bytes ---------------------------------------------------------------------------

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (OSError, Garbled, ConnectionLost) as error:
            self.close(error)

    def _write(self) -> None:
        out = self._out
        made = self._socket
        assert made is not None
        while out:
            try:
                if self._secure:
                    sent = self._write_secure(made)
                else:
                    pieces = (
                        list(out)
                        if len(out) <= PIECES
                        else [out[at] for at in range(PIECES)]
                    )
                    sent = made.sendmsg(pieces)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._watch(select.EPOLLIN | select.EPOLLOUT)
                return
            except ssl.SSLWantReadError:
                return
            self._written += sent
            while sent:
                first = out[0]
                if len(first) <= sent:
                    sent -= len(first)
                    out.popleft()
                else:
                    out[0] = memoryview(first)[sent:]
                    break
            self._flown()
        self._watch(select.EPOLLIN)

    def _write_secure(self, made: socket.socket | ssl.SSLSocket) -> int:
        """
        Write a chunk; SSLSocket has no sendmsg, so small pieces are joined.

        OpenSSL wants the same bytes again after it could not write them: what
        was joined stays in front of the queue.
        """
        out = self._out
        if len(out) > 1 and len(out[0]) < CHUNK:
            taken, size = [], 0
            while out and size < CHUNK:
                piece = out.popleft()
                taken.append(piece)
                size += len(piece)
            out.appendleft(b"".join(taken))
        first = out[0]
        sent: int = made.send(memoryview(first)[:CHUNK])
        return sent

    def _flown(self) -> None:
        while self._silent and self._silent[0].ends_at <= self._written:
            self._silent.popleft().answered(b"")

    def _read(self) -> None:
        made = self._socket
        assert made is not None
        while self.error is None:
            try:
                data = made.recv(CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            except ssl.SSLWantWriteError:
                self._watch(select.EPOLLIN | select.EPOLLOUT)
                return
            if not data:
                raise self._ended()
            self._take(data)
            # Hot path: a short read has emptied the socket; TLS may hold more.
            if len(data) < CHUNK and not self._secure:
                return

    def _ended(self) -> ConnectionLost:
        """What the other side's end of the connection is."""
        if not self.agreed:
            return ConnectionLost(ENDED)
        said = f"{self.place} has closed it"
        unused = self._clock.monotonic() - self._used
        if self.usable and not self.flights and not self._out and unused >= UNUSED:
            return Idle(said)
        return ConnectionLost(said)

    def _take(self, data: bytes) -> None:
        held = self._in
        held += data
        at = 0
        while len(held) - at >= 4 and self.error is None:
            size = int.from_bytes(held[at : at + 4], "big", signed=True)
            if not 4 <= size <= FRAME_LIMIT:
                raise Garbled(f"Invalid frame length: {size}")
            if len(held) - at - 4 < size:
                break
            frame = bytes(memoryview(held)[at + 4 : at + 4 + size])
            at += 4 + size
            self._answer(frame)
        if self.error is None:
            del held[:at]

    def _answer(self, frame: bytes) -> None:
        if not self.flights:
            raise Garbled(f"{self.place} answers what nobody asked")
        flight = self.flights[0]
        number = int.from_bytes(frame[:4], "big")
        if number != flight.correlation:
            raise Garbled(f"{self.place} answers request {number} out of its order")
        self.flights.popleft()
        try:
            flight.answered(frame)
        except Garbled:
            # It is not answered: lost with the connection.
            self.flights.appendleft(flight)
            raise

    # -- small ---------------------------------------------------------------------------

    def _watch(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self._owner.watch(self, events)

    def _forget_socket(self) -> None:
        if self._socket is not None:
            self._watch(0)
            self._socket.close()
            self._socket = None
            self.fileno = -1


def errno_text(code: int) -> str:
    """What the system says about a connection that it does not make."""
    said = os.strerror(code).lower()
    if code in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH):
        return f"{CLOSED} ({said})"
    return f"it takes no connection ({said})"
