"""
Channels: what one connection may take of us, in bytes and in seconds.

Owns the bounds of a request and of a connection (GATE waitress): waitress reads, parses and
answers; added here is what keeps a slow or greedy client from shutting others out: a
deadline for the whole request (its own time limit starts anew with every byte) and room for
a newcomer at the cost of the connection that has been waiting longest.

Path: ``admin.server`` -> here
"""

from __future__ import annotations

from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask
from waitress.utilities import RequestEntityTooLarge

from engine.admin.answers import refusal
from engine.clock import SYSTEM

#: Connections at a time.
CONNECTIONS = 64

#: Bytes of a request's head, and of its body.
HEADER_LIMIT = 16 * 1024
BODY_LIMIT = 1024 * 1024

#: Bytes of a larger body that are read and forgotten, so that its sender hears why it
#: is refused: a connection that is closed while he still sends tells him nothing.
BODY_DRAINED = 64 * 1024 * 1024

#: Seconds for a request to arrive whole, from its first byte or the connection.
REQUEST_DEADLINE = 10.0

#: Seconds a connection may stay open between requests.
IDLE = 75.0

#: Seconds for an answer to be taken away by its reader.
ANSWER_DEADLINE = 30.0


class ForgottenBody:
    """Takes a body of a known length and keeps nothing of it."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.completed = False
        self.error = None

    def received(self, data: bytes) -> int:
        taken = min(len(data), self._left)
        self._left -= taken
        self.completed = not self._left
        return taken

    def __len__(self) -> int:
        return 0


class BoundedParser(HTTPRequestParser):  # type: ignore[misc]
    """A request whose body may be larger than what is kept of it."""

    too_large = False
    content_length: int
    error: Any

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        if BODY_LIMIT < self.content_length <= BODY_DRAINED:
            self.too_large = True
            self.body_rcv = ForgottenBody(self.content_length)
            # What the parser itself compares with its limit.
            self.content_length = 0

    def received(self, data: bytes) -> int:
        taken: int = super().received(data)
        if self.too_large:
            self.body_bytes_received = 0
            if self.completed and self.error is None:
                self.error = RequestEntityTooLarge(f"more than {BODY_LIMIT} bytes")
        return taken


class RefusedTask(ErrorTask):  # type: ignore[misc]
    """What is no request that can be answered, refused in Connect's form."""

    def execute(self) -> None:
        error = self.request.error
        answer = refusal(error.code, f"{error.reason}: {error.body}")
        self.status = f"{error.code} {error.reason}"
        self.response_headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Connection", "close"),
        ]
        self.set_close_on_finish()
        self.content_length = len(answer.body)
        self.write(answer.body)


class TimedChannel(HTTPChannel):  # type: ignore[misc]
    """A connection that knows since when it owes us something."""

    parser_class = BoundedParser
    error_task_class = RefusedTask
    close_when_flushed: bool

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.since = self.creation_time
        self.asked = False

    def received(self, data: bytes) -> bool:
        if self.request is None:
            self.since = self.last_activity
        taken: bool = super().received(data)
        if self.request is None:
            self.asked = True
            self.since = self.last_activity
        return taken

    def late(self, now: float) -> bool:
        """True if it has used up its time."""
        if self.requests:
            return False
        if self.total_outbufs_len:
            limit = ANSWER_DEADLINE
        elif self.asked and self.request is None:
            limit = IDLE
        else:
            limit = REQUEST_DEADLINE
        return bool(now - self.since > limit)

    def end(self) -> None:
        """
        End the connection, whose time is used up; a client in the midst of a request is told why.
        """
        if self.request is None or self.total_outbufs_len or self.close_when_flushed:
            self.will_close = True
            return
        answer = refusal(
            408, f"Request Timeout: not whole within {REQUEST_DEADLINE:g} seconds"
        )
        head = (
            "HTTP/1.1 408 Request Timeout\r\n"
            f"Content-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
        )
        # From now on it has the time of an answer; what it still sends is not read.
        self.since = SYSTEM.wall_ms() / 1000
        self.close_when_flushed = True
        self.write_soon(head.encode() + answer.body)


class BoundedListener(TcpWSGIServer):  # type: ignore[misc]
    """One listening socket; all of them share one map of connections."""

    channel_class = TimedChannel

    #: Wall seconds until which nothing is accepted: no descriptor was free.
    _blind_until = 0.0

    def readable(self) -> bool:
        channels = self._channels()
        now = self._now()
        if now < self._blind_until:
            return False
        super().readable()
        return len(channels) < CONNECTIONS or any(_waits(one) for one in channels)

    def handle_accept(self) -> None:
        channels = self._channels()
        if len(channels) >= CONNECTIONS:
            waiting = [one for one in channels if _waits(one)]
            if not waiting:
                return
            # Closed at its own turn: another one may get its number before.
            min(waiting, key=lambda one: one.since).will_close = True
        try:
            accepted = self.accept()
            if accepted is None:
                return
            connection, peer = accepted
            self.set_socket_options(connection)
        except OSError:
            # Out of descriptors, most likely: without a pause the loop would
            # be told at once, and again, that somebody waits to be accepted.
            self._blind_until = self._now() + 1.0
            return
        self.channel_class(self, connection, peer, self.adj, map=self._map)

    def maintenance(self, now: float) -> None:
        for channel in self._channels():
            if channel.late(now):
                channel.end()

    def _channels(self) -> list[TimedChannel]:
        return [
            one
            for one in self._map.values()
            if isinstance(one, TimedChannel) and not one.will_close
        ]

    def _now(self) -> float:
        return SYSTEM.wall_ms() / 1000


def _waits(channel: TimedChannel) -> bool:
    """True if nothing is being answered on it."""
    return not channel.requests and not channel.total_outbufs_len
