"""
Broker: Kafka for trying out, without a JVM and without a set-up.

Owns the process of `bootstrap.servers=embedded` (GATE subprocess): it starts
the server of the package `noida-db` on a free port of this machine, starts it
again if it dies, and ends it after everybody else.  It promises no durability
and says so.

Path: ``supervisor.loop`` -> here -> noida-db; tasks learn the address.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import struct
from contextlib import suppress
from pathlib import Path
from select import select
from typing import TYPE_CHECKING

from engine.clock import SYSTEM, Clock
from engine.config.sections.kafka import no_embedded
from engine.errors import ConfigError, EngineError, Exit, Occupied
from engine.later import later
from engine.shared.lock import Claim
from engine.supervisor import signals
from engine.supervisor.child import die_with

if TYPE_CHECKING:
    import subprocess
    from importlib import resources
else:
    # Only for the embedded broker.
    resources, subprocess = later("importlib.resources"), later("subprocess")

_LOG = logging.getLogger(__name__)

#: What the broker sees of our environment: nothing that may hold a secret.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")

#: The file in the runtime directory that holds "host:port".
NAME = "broker"

#: Seconds between two looks whether it listens, and between two starts.
LOOK = 0.02
AGAIN = 1.0

#: Bytes of the broker's own output that an error quotes.
_QUOTED = 600

#: The shortest Kafka request: ApiVersions, version 0, correlation 1, no client id.
_HELLO = struct.pack(">ihhih", 10, 18, 0, 1, -1)

#: The dynamic loader says this on older systems; it means nothing.
_HARMLESS = "weak version"


class BrokerFailed(EngineError):
    """The embedded broker does not come up."""

    code = Exit.UNAVAILABLE


class EmbeddedBroker:
    """
    The embedded broker of one supervisor.

    Args:
        state: Its data is kept in `<state>/broker`.
        runtime: The supervisor's runtime directory.
        patience: Seconds to wait until it listens.
        grace: Seconds it has to save its data at the end.

    Attributes:
        address: "127.0.0.1:port"; the port is kept for life, so that clients
            find it again after a restart; "" before the start.
        pid: Its process, 0 while there is none.
    """

    def __init__(
        self,
        *,
        state: Path,
        runtime: Path,
        patience: float = 60.0,
        grace: float = 5.0,
        clock: Clock = SYSTEM,
    ) -> None:
        self._data = state / "broker"
        self._runtime = runtime
        self._patience = patience
        self._grace = grace
        self._clock = clock
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._due = 0.0
        self._warned = False
        self._claim = Claim(self._data, "broker", clock=clock)

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return f"127.0.0.1:{self._port}" if self._port else ""

    @property
    def pid(self) -> int:
        """The process id of the embedded broker."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """
        Start it and wait until it listens; nothing if it runs.

        Raises: ConfigError if it is not installed; Occupied if another engine
            runs one over the same data; BrokerFailed if it ends or does not
            listen in time.
        Blocks: at most `patience` seconds; less once a stop is asked for.
        """
        if self._process is not None:
            return
        program = find()
        self._take_data()
        if not self._port:
            self._port = free_port()
        try:
            process = self._launch(program)
        except OSError as failure:
            self._claim.release()
            raise BrokerFailed(
                f"The embedded broker does not start: {failure} (its data is kept in "
                "state.dir)"
            ) from failure
        deadline = self._clock.monotonic() + self._patience
        while not self._listens():
            if process.poll() is not None:
                self._process = None
                self._claim.release()
                raise BrokerFailed(f"The embedded broker ended: {self._output()}")
            if self._clock.monotonic() > deadline:
                self.end()
                raise BrokerFailed(
                    f"The embedded broker does not listen on {self.address} after "
                    f"{self._patience:.0f} s: {self._output()}"
                )
            if signals.stop_is_pending():
                break
            select((), (), (), LOOK)
        for directory in (self._runtime, self._data):
            # Who looks for it there has to look in the log.
            with suppress(OSError):
                (directory / NAME).write_text(self.address + "\n")
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "The embedded broker at %s is for trying out: what it stores may be "
                "lost when it ends.",
                self.address,
            )

    def tend(self) -> None:
        """
        Start it again if it has died; on the same port, without waiting.

        Blocks: never.
        """
        if self._process is not None or not self._port:
            return
        now = self._clock.monotonic()
        if now < self._due:
            return
        self._due = now + AGAIN
        try:
            self._launch(find())
        except (OSError, EngineError) as failure:
            _LOG.error("The embedded broker does not start: %s", failure)

    def reaped(self, pid: int, code: int) -> None:
        """A child process has ended; perhaps it was the broker."""
        if self._process is None or self._process.pid != pid:
            return
        # The loop has taken its exit code; nobody needs to wait for it.
        self._process.returncode = code
        self._process = None
        self._due = self._clock.monotonic() + AGAIN
        _LOG.error(
            "The embedded broker has died (%s) and is started again: %s",
            f"exit {code}" if code >= 0 else signal.Signals(-code).name,
            self._output(),
        )

    def end(self) -> None:
        """
        End it; it saves its data.

        Blocks: at most `grace` seconds, then it is killed.
        """
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(self._grace)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._claim.release()

    def forget(self) -> None:
        """Let go of it in a forked child: the lock is the parent's."""
        self._claim.forget()

    def _take_data(self) -> None:
        # Two brokers over one directory would each save over the other's data.
        try:
            self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as failure:
            raise BrokerFailed(
                f"state.dir: the embedded broker needs {self._data}: {failure.strerror}"
            ) from failure
        try:
            self._claim.take()
        except Occupied as failure:
            try:
                address = (self._data / NAME).read_text().strip()
            except OSError:
                address = "its address"
            raise Occupied(
                f"The embedded broker over {self._data} is run by process "
                f"{failure.pid}: use bootstrap.servers={address} here, or another "
                "state.dir",
                pid=failure.pid,
            ) from failure

    def _launch(self, program: Path) -> subprocess.Popen[bytes]:
        parent = os.getpid()

        def first_steps() -> None:
            # The supervisor's mask would outlive the exec, and with it SIGTERM
            # would never arrive.
            signals.restore()
            os.umask(0o077)
            die_with(parent, signal.SIGTERM)

        with self._log().open("wb") as output:
            self._process = subprocess.Popen(
                [
                    str(program),
                    "start",
                    "--only",
                    "kafka",
                    "--kafka-port",
                    str(self._port),
                    "--data-dir",
                    str(self._data),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={k: os.environ[k] for k in INHERITED if k in os.environ},
                # Ctrl-C goes to a terminal's whole process group, and tasks
                # still need the broker while they drain.
                process_group=0,
                # One thread here, for life: code before the exec is safe.
                preexec_fn=first_steps,
            )
        return self._process

    def _listens(self) -> bool:
        """
        Whether it answers; it takes connections before it has read its data.

        Blocks: at most a second.
        """
        try:
            with socket.create_connection(("127.0.0.1", self._port), 1.0) as probe:
                probe.sendall(_HELLO)
                return len(probe.recv(4)) == 4
        except OSError:
            return False

    def _log(self) -> Path:
        return self._data / "output.log"

    def _output(self) -> str:
        """The last words of the broker, on one line."""
        try:
            content = self._log().read_text(errors="replace")
        except OSError:
            return "it said nothing"
        lines = [
            line.strip()
            for line in content.splitlines()
            if line.strip() and _HARMLESS not in line
        ]
        return " / ".join(lines)[-_QUOTED:] or "it said nothing"


def find() -> Path:
    """
    The path of the embedded broker's program.

    The command of the package starts it as a child of its own, which would
    live on when the command is killed: the program itself is used.

    Raises: ConfigError if it is not installed.
    """
    if why := no_embedded():
        raise ConfigError(f"bootstrap.servers=embedded: {why}")
    program = Path(str(resources.files("noida_db") / "noida-db"))
    if not program.is_file():
        raise ConfigError(
            f"bootstrap.servers=embedded: {program} is missing: "
            "pip install --force-reinstall 'kafka-http-source[embedded]', or name your "
            "own broker"
        )
    if not os.access(program, os.X_OK):
        try:
            program.chmod(0o755)
        except OSError as failure:
            raise ConfigError(f"{program} may not be run: {failure}") from failure
    return program


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
