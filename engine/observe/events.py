"""
Events: one line of the log, in each of its shapes.

Owns what an event says, and how text, JSON, logfmt and the journal's prefix write it.

Path: `observe.log` -> here -> `observe.streams`
"""

from __future__ import annotations

import json
import logging
import os
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

from engine.observe.printable import printable, printable_line
from engine.observe.redact import redact

#: Libraries that print passwords, URLs and records below INFO, and whose lines say
#: to nobody what to do: what matters of them, the engine says in its own words.
FLOORED = ("kafka", "urllib3", "requests", "waitress", "asyncio")

#: Characters of one text inside a line.
LONGEST = 16_000

PRIORITIES = (
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
            (number for level, number in PRIORITIES if record.levelno >= level), 7
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


class LineShape(Protocol):
    """Makes bytes of an event, the line's end included."""

    def __call__(self, event: Event) -> bytes:
        """One event as it is written."""


def text(event: Event) -> bytes:
    """An event as a line for people: time, level, logger, sentence, values."""
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
    """An event as a line of `key=value` pairs."""
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


SHAPES: dict[str, LineShape] = {
    "text": text,
    "json": json_line,
    "logfmt": logfmt,
    "journal": prefixed,
}


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
