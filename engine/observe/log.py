"""
Log: one event, one line, one write.

Owns the shapes of a line (text, json, logfmt, journal) and the way to stderr.
It must never hold up or end the process that logs: a reader that is slow or
gone, a full disk and a closed stderr cost lines, and the lines are counted.
Secrets are cut out of every text on its way.

Every process calls `configure` once, or is forked from one that did; the rest
of the engine only knows the standard library's `logging`.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import re
import select
import socket
import stat
import struct
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

from engine.clock import SYSTEM, Clock
from engine.observe.printable import printable, printable_line
from engine.observe.redact import redact

#: `log.level` and Connect's words for the levels of the standard library.
LEVELS = {
    "OFF": logging.CRITICAL + 10,
    "FATAL": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
    "TRACE": logging.DEBUG,
    "ALL": logging.DEBUG,
}

#: Libraries that print passwords, URLs and records below INFO, and whose lines say
#: to nobody what to do: what matters of them, the engine says in its own words.
FLOORED = ("kafka", "urllib3", "requests", "waitress", "asyncio")

#: Above every level.
SILENT = logging.CRITICAL + 10

#: Seconds in which a library says the same thing once: kafka-python has ten
#: lines a second for a broker that is away.
REPEATED = 60.0

#: Things of libraries that are remembered at most.
_SAYINGS = 1000

_NUMBER = re.compile(r"\d+")

#: Where systemd's journal takes whole records.
JOURNAL = "/run/systemd/journal/socket"

#: Bytes of one line: what a pipe with any room at all takes in one piece.
PIPE_BUF = 4096

#: Characters of one text inside a line.
LONGEST = 16_000

_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class Event:
    """
    A log record as the four shapes need it, secrets cut.

    Attributes:
        seconds: Wall clock.
        level: OFF ... TRACE.
        logger: Dotted name.
        message: One sentence.
        fields: Values by name: connector and task first, then what the call
            gave as `extra`.
        trace: A traceback, or "".
        priority: The same as `level` in syslog's numbers.
    """

    __slots__ = (
        "fields",
        "level",
        "logger",
        "message",
        "place",
        "priority",
        "seconds",
        "trace",
    )

    def __init__(self, record: logging.LogRecord, process: Mapping[str, str]) -> None:
        self.seconds = record.created
        self.level = _word(record.levelno)
        self.logger = record.name
        self.message = redact(record.getMessage()[:LONGEST])
        self.fields: dict[str, object] = {**process, "pid": os.getpid()}
        for name, value in vars(record).items():
            if name not in _STANDARD:
                self.fields[name] = _plain(value)
        self.trace = ""
        if record.exc_info and record.exc_info[0] is not None:
            lines = (
                traceback.format_exception_only(record.exc_info[1])
                if _only_named(record.name)
                else traceback.format_exception(*record.exc_info)
            )
            self.trace = redact("".join(lines)[-LONGEST:]).rstrip()
        self.priority = next(
            (number for level, number in _PRIORITIES if record.levelno >= level), 7
        )
        self.place = (record.pathname, record.lineno, record.funcName)


def _only_named(logger: str) -> bool:
    """True where a library's own way to a failure says nothing to a user."""
    foreign = logger.split(".")[0] in FLOORED
    return foreign and not logging.root.isEnabledFor(logging.DEBUG)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(str(value)[:LONGEST])


class Shape(Protocol):
    """Makes bytes of an event, the line's end included."""

    def __call__(self, event: Event) -> bytes:
        """One event as it is written."""


def text(event: Event) -> bytes:
    """For people: time, level, logger, sentence, values."""
    return f"{_time(event.seconds)} {text_without_time(event)}".encode(errors="replace")


def text_without_time(event: Event) -> str:
    """The same without the time, for a reader that has its own clock."""
    values = " ".join(f"{k}={_quoted(v)}" for k, v in event.fields.items())
    line = (
        f"{event.level:<5} {event.logger}: {printable_line(event.message)} [{values}]\n"
    )
    if event.trace:
        line += "".join(
            f"  | {printable_line(part)}\n" for part in event.trace.splitlines()
        )
    return line


def json_line(event: Event) -> bytes:
    """One JSON object a line."""
    content: dict[str, object] = {
        "time": _time(event.seconds),
        "level": event.level,
        "logger": event.logger,
        "message": event.message,
        **{name: v for name, v in event.fields.items() if name not in _TAKEN},
    }
    if event.trace:
        content["exception"] = event.trace
    # Half of a surrogate pair is no JSON to most of its readers.
    line = json.dumps(content, ensure_ascii=False).encode(errors="replace")
    return printable(line.decode()).encode() + b"\n"


_TAKEN = frozenset({"time", "level", "logger", "message", "exception"})


def logfmt(event: Event) -> bytes:
    """`key=value` pairs."""
    content: dict[str, object] = {
        "time": _time(event.seconds),
        "level": event.level.lower(),
        "logger": event.logger,
        "msg": event.message,
        **event.fields,
    }
    if event.trace:
        content["exception"] = event.trace
    pairs = " ".join(f"{name}={_quoted(value)}" for name, value in content.items())
    return pairs.encode(errors="replace") + b"\n"


def prefixed(event: Event) -> bytes:
    """Text whose lines begin with the priority systemd reads off them."""
    return "".join(
        f"<{event.priority}>{line}\n" for line in text_without_time(event).splitlines()
    ).encode(errors="replace")


SHAPES: dict[str, Shape] = {
    "text": text,
    "json": json_line,
    "logfmt": logfmt,
    "journal": prefixed,
}


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


class Outlet(logging.Handler):
    """
    Where every logger of a process ends.

    Args:
        shape: One of `SHAPES`.
        stderr: Where lines go.
        journal: Where events go first; what it does not take goes to stderr.
    """

    def __init__(
        self, shape: str, stderr: Stderr, journal: Journal | None = None
    ) -> None:
        super().__init__()
        self._shape = SHAPES[shape]
        self._stderr = stderr
        self._journal = journal
        self.process: dict[str, str] = {}
        self.repeats = Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        """
        Write one event, whatever happens to it.

        Blocks: never, but for a disk.
        """
        try:
            if not self.repeats.passes(record):
                return
            event = Event(record, self.process)
            if self._journal is not None and self._journal.write(event):
                return
            if self._stderr.lost and not self._confess():
                self._stderr.drop()
                return
            self._stderr.write(self._shape(event))
        except Exception:  # noqa: BLE001 - logging never raises
            # A record that cannot be shaped, a descriptor in a strange state:
            # nothing a log line is worth ending a task for.
            self._stderr.drop()

    def _confess(self) -> bool:
        """Say how many lines were lost; False if that is lost, too."""
        count = self._stderr.dropped
        record = logging.LogRecord(
            __name__,
            logging.WARNING,
            __file__,
            0,
            "Lines could not be written and are lost.",
            None,
            None,
        )
        record.lines = count
        said = self._stderr.write(self._shape(Event(record, self.process)))
        self._stderr.dropped = 0 if said else count
        return said


class _State:
    """The outlet of this process and the levels as they were asked for."""

    def __init__(self) -> None:
        self.outlet: Outlet | None = None
        self.levels: dict[str, str] = {}
        self.unsafe = False


_STATE = _State()


def configure(
    *,
    level: str = "INFO",
    format: str = "text",
    unsafe_wire: bool = False,
    fd: int = 2,
) -> None:
    """
    Send everything that is logged in this process to stderr.

    May be called again; processes forked later inherit it.

    Args:
        level: `log.level`.
        format: `log.format`; `default_format` where it is not set.
        unsafe_wire: `log.unsafe.wire`.
    """
    open_standard_streams()
    outlet = Outlet(format, Stderr(fd), Journal() if format == "journal" else None)
    if _STATE.outlet is not None:
        outlet.process = _STATE.outlet.process
    _STATE.outlet = outlet
    _STATE.unsafe = unsafe_wire
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [outlet]
    set_level("", level)


def set_level(logger: str, level: str) -> None:
    """
    Change a level, live, in this process.

    Args:
        logger: Dotted name; "" or "root" is the root.
        level: One of `LEVELS`; an unknown one is left as it is.

    Source: `log.level`, `PUT /admin/loggers/{logger}`.
    """
    name = "" if logger == "root" else logger
    if level not in LEVELS:
        return
    _STATE.levels[name] = level
    for one, word in _STATE.levels.items():
        logging.getLogger(one).setLevel(LEVELS[word])
    if _STATE.unsafe:
        return
    # Whatever was set, a floored library and what lies under it stays quiet: it
    # speaks only to those who ask for DEBUG or name it, and never below INFO.
    debugging = LEVELS[_STATE.levels.get("", "INFO")] < logging.INFO
    for floored in FLOORED:
        wanted = logging.INFO if debugging else SILENT
        if floored in _STATE.levels:
            wanted = LEVELS[_STATE.levels[floored]]
        logging.getLogger(floored).setLevel(max(wanted, logging.INFO))
        for one, word in _STATE.levels.items():
            if one.startswith(f"{floored}."):
                logging.getLogger(one).setLevel(max(LEVELS[word], logging.INFO))


def levels() -> dict[str, str]:
    """The levels that were set, by logger; "" is the root."""
    return dict(_STATE.levels)


def name_process(**fields: str) -> None:
    """Put fields (connector, task) on every line of this process."""
    if _STATE.outlet is not None:
        _STATE.outlet.process = {k: v for k, v in fields.items() if v}


def default_format(environ: Mapping[str, str], fd: int = 2) -> str:
    """
    "journal" if stderr leads to systemd's journal, else "text".

    Source: systemd.exec(5), JOURNAL_STREAM.
    """
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(fd)
    except OSError:
        return "text"
    ours = (str(found.st_dev), str(found.st_ino)) == (device, inode)
    return "journal" if ours else "text"


def open_standard_streams() -> None:
    """
    Make sure that 0, 1 and 2 are open.

    Were stderr closed, the next file to be opened would get its number, and
    log lines would go into it: a database, a state file.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def _word(number: int) -> str:
    if number >= logging.CRITICAL:
        return "FATAL"
    if number >= logging.ERROR:
        return "ERROR"
    if number >= logging.WARNING:
        return "WARN"
    return "INFO" if number >= logging.INFO else "DEBUG"


def _time(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _quoted(value: object) -> str:
    """A value of logfmt: bare where that is unambiguous."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    content = str(value)
    if content and not set(content) & set(' "=\\[]') and content.isprintable():
        return content
    return printable(json.dumps(content, ensure_ascii=False))
