"""
Streams: where lines of the log go: stderr, the journal, and what is said again and again.

Owns that a line is one write that no slow reader holds up, and that lines which are lost
are counted.

Path: `observe.log` -> here -> stderr, journald's socket
"""

from __future__ import annotations

import errno
import logging
import math
import os
import select
import socket
import stat
import struct

from engine.clock import SYSTEM, Clock
from engine.later import pattern
from engine.observe.events import FLOORED, Event
from engine.observe.printable import printable

#: Seconds in which a library says the same thing once: kafka-python has ten
#: lines a second for a broker that is away.
REPEATED = 60.0


#: Things of libraries that are remembered at most.
_SAYINGS = 1000


_NUMBER = pattern(r"\d+")


#: Where systemd's journal takes whole records.
JOURNAL = "/run/systemd/journal/socket"


#: Bytes of one line: what a pipe with any room at all takes in one piece.
PIPE_BUF = 4096


class Stderr:
    """
    A descriptor that is written without waiting for it.

    A pipe or terminal is opened once more in non-blocking mode: switching the
    one we were given would switch it for every program that shares it.  A
    file is written as it is; a socket is sent to.

    Attributes:
        dropped: Lines lost since the last one that went through.
    """

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._own = -1
        self._owner = 0
        self._socket = False
        self._ask = False
        self._broken = False
        self._dropper = 0
        self.dropped = 0

    @property
    def lost(self) -> int:
        """`dropped` by this process; what its parent lost the parent says."""
        return self.dropped if self._dropper == os.getpid() else 0

    def drop(self) -> None:
        """Count a line that is lost."""
        self.dropped = self.lost + 1
        self._dropper = os.getpid()

    def write(self, line: bytes) -> bool:
        """
        Write a line, or count it as dropped.

        Blocks: never, but for a disk.
        """
        try:
            if self._owner != os.getpid():
                self._open()
            if self._broken:
                # The last line was cut by a full pipe: this one begins anew.
                line = b"\n" + line
            written = self._put(line)
            while 0 < written < len(line):
                line = line[written:]
                self._broken = True
                written = self._put(line)
        except OSError:
            self.drop()
            return False
        self._broken = False
        return True

    def _put(self, line: bytes) -> int:
        if self._socket:
            return self._send(line)
        if self._own >= 0:
            return os.write(self._own, line)
        if self._ask:
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            if not any(events & select.POLLOUT for _, events in poll.poll(0)):
                raise BlockingIOError(errno.EAGAIN, "no room")
            line = line[:PIPE_BUF]
        return os.write(self._fd, line)

    def _send(self, line: bytes) -> int:
        end = socket.socket(fileno=os.dup(self._fd))
        with end:
            return end.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _open(self) -> None:
        # A forked child has closed the parent's second descriptor by now, or
        # must not share it: each process opens its own.
        self._own = -1
        self._ask = False
        self._broken = False
        self._owner = os.getpid()
        mode = os.fstat(self._fd).st_mode
        self._socket = stat.S_ISSOCK(mode)
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
            try:
                self._own = os.open(f"/proc/self/fd/{self._fd}", flags)
            except OSError:
                # Another user's pipe: asked for room before each write.
                self._ask = True


class Journal:
    """
    systemd's journal, spoken to in its own protocol: one datagram an event.

    Source: systemd, "Native Journal Protocol".
    """

    def __init__(self, path: str = JOURNAL) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._owner = 0

    def write(self, event: Event) -> bool:
        """
        Send an event; False if the journal is not there or has no room.

        Blocks: never.
        """
        try:
            self._end().send(_datagram(event))
        except BlockingIOError:
            return False
        except OSError as failure:
            if failure.errno != errno.EMSGSIZE and self._socket is not None:
                self._socket.close()
                self._socket = None
            return False
        return True

    def _end(self) -> socket.socket:
        if self._socket is not None and self._owner != os.getpid():
            # Forked: the number may belong to another file in this process.
            self._socket.detach()
            self._socket = None
        if self._socket is None:
            end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            end.setblocking(False)
            self._socket = end
            self._owner = os.getpid()
            end.connect(self._path)
        return self._socket


def _datagram(event: Event) -> bytes:
    path, line, function = event.place
    message = event.message
    if event.trace:
        message = f"{message}\n{event.trace}"
    fields: dict[str, object] = {
        "MESSAGE": message,
        "PRIORITY": event.priority,
        "SYSLOG_IDENTIFIER": "kafka-http-source",
        "LOGGER": event.logger,
        "CODE_FILE": path,
        "CODE_LINE": line,
        "CODE_FUNC": function,
    }
    for name, value in event.fields.items():
        spelled = "".join(c if c.isalnum() else "_" for c in name.upper())
        fields.setdefault(spelled.lstrip("_0123456789")[:64] or "FIELD", value)
    parts: list[bytes] = []
    for name, value in fields.items():
        content = printable(str(value)).encode(errors="replace")
        if b"\n" in content:
            size = struct.pack("<Q", len(content))
            parts.append(name.encode() + b"\n" + size + content + b"\n")
        else:
            parts.append(name.encode() + b"=" + content + b"\n")
    return b"".join(parts)


class Repeats:
    """
    Lets a floored library warn of the same thing once in `REPEATED` seconds.

    The same is one text of one logger, whatever the numbers in it; the next line
    that passes says how many were kept back.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._said: dict[tuple[str, str], list[float]] = {}

    def passes(self, record: logging.LogRecord) -> bool:
        """False if it was said a moment ago; for any thread."""
        library = record.name.partition(".")[0]
        if library not in FLOORED or record.levelno < logging.WARNING:
            return True
        now = self._clock.monotonic()
        if len(self._said) >= _SAYINGS:
            self._said.clear()
        text = _NUMBER.sub("0", record.getMessage())
        said = self._said.setdefault((record.name, text), [-math.inf, 0])
        if now - said[0] < REPEATED:
            said[1] += 1
            return False
        said[0], kept_back = now, int(said[1])
        said[1] = 0
        if kept_back:
            record.alike = kept_back
        return True
