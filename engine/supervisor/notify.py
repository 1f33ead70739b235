"""
Notify: what systemd is told, by hand.

Owns the service's socket and its watchdog's period; it takes both out of the
environment, so that no child speaks in the supervisor's name.  It never fails
and never waits: without systemd it does nothing.

Path: ``supervisor.loop`` -> here -> systemd.  Source: sd_notify(3).
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from engine.clock import SYSTEM, Clock


class Notify:
    """
    One service's way to systemd.

    Args:
        environ: Where NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID stand; they
            are taken out of it.

    Attributes:
        watchdog: Seconds within which systemd wants a sign of life, or None.
    """

    def __init__(
        self,
        environ: MutableMapping[str, str] | None = None,
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        environ = os.environ if environ is None else environ
        address = environ.pop("NOTIFY_SOCKET", "")
        period = environ.pop("WATCHDOG_USEC", "")
        meant = environ.pop("WATCHDOG_PID", str(os.getpid()))
        self._clock = clock
        self._end: socket.socket | None = None
        self.watchdog: float | None = None
        if meant == str(os.getpid()) and period.isdigit() and int(period):
            self.watchdog = int(period) / 1e6
        if address[:1] in ("/", "@"):
            self._connect(address)

    @property
    def listening(self) -> bool:
        """True if somebody is told anything at all."""
        return self._end is not None

    def ready(self) -> None:
        """Everything has started, or has been reloaded."""
        self._say("READY=1")

    def status(self, line: str) -> None:
        """One line for `systemctl status`."""
        self._say("STATUS=" + line.replace("\n", " "))

    def reloading(self) -> None:
        """
        A reload begins; `ready` ends it.

        The time stamp goes in the same datagram: systemd waits for it.
        """
        stamp = int(self._clock.monotonic() * 1e6)
        self._say(f"RELOADING=1\nMONOTONIC_USEC={stamp}")

    def stopping(self) -> None:
        """Tell systemd that the engine is about to end."""
        self._say("STOPPING=1")

    def alive(self) -> None:
        """Tell systemd's watchdog that the supervisor's loop goes on."""
        self._say("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Starting or stopping goes on and will say more within `seconds`."""
        self._say(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def close(self) -> None:
        """Let go of the socket."""
        if self._end is not None:
            self._end.close()
            self._end = None

    def _connect(self, address: str) -> None:
        if address[0] == "@":
            # An abstract name: systemd writes its NUL byte as "@".
            address = "\0" + address[1:]
        end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        end.setblocking(False)
        try:
            end.connect(address)
        except OSError:
            end.close()
            return
        self._end = end

    def _say(self, lines: str) -> None:
        if self._end is None:
            return
        try:
            self._end.send(lines.encode(errors="replace"))
        except OSError:
            # systemd is busy or has gone: a lost sign of life is its affair.
            pass
