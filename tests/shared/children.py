"""Forked children for tests: run a function, kill it, read what it said."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import NoReturn, Self


class Child:
    """
    A forked process that runs `body(say)` and leaves.

    `say(text)` sends a line to the parent, which reads it with `hear`.
    """

    def __init__(self, body: Callable[[Callable[[str], None]], object]) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            self._run(body, writing)
        os.close(writing)
        self._ear = os.fdopen(reading, "r")
        self._status: int | None = None

    @staticmethod
    def _run(body: Callable[[Callable[[str], None]], object], writing: int) -> NoReturn:
        code = 1
        try:
            body(lambda text: os.write(writing, f"{text}\n".encode()) and None)
            code = 0
        except BaseException as failure:  # noqa: BLE001 - told to the parent
            os.write(writing, f"failed: {failure!r}\n".encode())
        finally:
            os._exit(code)

    def hear(self) -> str:
        """The next line; "" once the child is gone."""
        return self._ear.readline().rstrip("\n")

    def rest(self) -> list[str]:
        """All that it still says, to its end."""
        return [line.rstrip("\n") for line in self._ear]

    def gone(self) -> bool:
        """True once it has ended; `wait` says how."""
        if self._status is not None:
            return True
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None

    def signal(self, number: int) -> None:
        if self._status is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Its exit code, negative for a signal."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is None:
            self.signal(signal.SIGCONT)
            self.kill()
        self._ear.close()
