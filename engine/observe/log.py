"""
Log: one event, one line, one write.

Owns the handler between the standard library's `logging` and the shapes of a line
(`observe.events`: text, json, logfmt, journal) and the way to stderr
(`observe.streams`).  It must never hold up or end the process that logs: a reader that is slow or
gone, a full disk and a closed stderr cost lines, and the lines are counted.
Secrets are cut out of every text on its way.

Every process calls `configure` once, or is forked from one that did; the rest
of the engine only knows the standard library's `logging`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from engine.observe.events import FLOORED, SHAPES, Event
from engine.observe.streams import Journal, Repeats, Stderr

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


#: Above every level.
SILENT = logging.CRITICAL + 10


class LogHandler(logging.Handler):
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
        self.outlet: LogHandler | None = None
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
    outlet = LogHandler(format, Stderr(fd), Journal() if format == "journal" else None)
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
