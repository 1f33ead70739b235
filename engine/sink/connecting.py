"""
Connecting: a socket to a host, by whichever of its addresses answers first.

kafka-python looks names up on the thread that serves every connection, tries the
addresses of a name one after the other, each for as long as there is time, and waits
for a TLS handshake for ever.  Here a name is looked up on a thread of its own, its
addresses are raced (RFC 8305), and the handshake has the connection's deadline.

Knows the insides of `kafka.net` (kafka-python 3.0.12: selector and transport);
`tests/sink/test_bootstrap.py` holds what it relies on.

Path: `sink.bootstrap` and every connection of `sink.network.Client` -> here.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import kafka.errors as foreign
from kafka.future import Future

#: Seconds that one server, or one address of a name, is ahead of the next
#: (RFC 8305, 5, "Connection Attempt Delay").
STAGGER = 0.25

#: What is said of a lookup that takes too long.
NAMELESS = "its name cannot be resolved (the name server does not answer)"

#: Takes what a lookup found, or why it found nothing.
Tell = Callable[[list[Any], str], None]


class Lookups:
    """
    Names looked up on threads of their own, one thread a name at a time.

    `getaddrinfo` cannot be given a deadline: a name server that does not answer
    holds it for as long as the system likes, which is the thread's loss alone.
    """

    def __init__(self) -> None:
        # Guards who waits for which name, between the askers and the lookups' threads. Whoever
        # joins and the thread that tells all must not pass each other, or the last to join is
        # never told.
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, int], list[Tell]] = {}

    def find(self, host: str, port: int, tell: Tell) -> None:
        """
        Look a name up; an address is told at once, a name from another thread.

        Args:
            tell: Called once with what `getaddrinfo` gave, or no address and why.
        """
        with suppress(OSError, UnicodeError):
            flags = socket.AI_NUMERICHOST
            tell(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, flags), "")
            return
        with self._lock:
            waiting = self._waiting.get((host, port))
            if waiting is not None:
                waiting.append(tell)
                return
            self._waiting[host, port] = [tell]
        threading.Thread(
            target=self._look, args=(host, port), name=f"lookup-{host}", daemon=True
        ).start()

    def pending(self, host: str, port: int) -> bool:
        """True while a name is being looked up."""
        with self._lock:
            return (host, port) in self._waiting

    def _look(self, host: str, port: int) -> None:
        found: list[Any] = []
        why = "its name has no address"
        try:
            found = list(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            why = f"its name cannot be resolved ({said or error})"
        with self._lock:
            waiting = self._waiting.pop((host, port))
        for tell in waiting:
            # A client that was closed meanwhile does not want to know.
            with suppress(RuntimeError):
                tell(found, why)


LOOKUPS = Lookups()


async def race(
    net: Any,
    runners: Sequence[Callable[[], Awaitable[Any]]],
    until: float | None,
    *,
    stagger: float = STAGGER,
    undo: Callable[[Any], object] = lambda result: None,
) -> Any:
    """
    What the first of the runners returns; each starts a moment after the one
    before, or at once when that one has failed.

    Args:
        net: The client's loop.
        until: Monotonic seconds at which nobody is waited for any more.
        undo: Takes the result of one that came too late.

    Raises: the last failure once all have failed; KafkaTimeoutError at `until`.
    """
    if not runners:
        raise foreign.KafkaConnectionError("there is nobody to ask")
    won = Future()
    failed: list[Exception] = []
    started: set[int] = set()
    tasks: list[Any] = []

    def start(index: int) -> None:
        if won.is_done or index >= len(runners) or index in started:
            return
        started.add(index)
        tasks.append(net.call_soon(partial_of(one, index)))
        if index + 1 < len(runners):
            tasks.append(net.call_later(stagger, lambda: start(index + 1)))

    async def one(index: int) -> None:
        try:
            result = await runners[index]()
        except Exception as error:  # noqa: BLE001 - the last one is raised below
            failed.append(error)
            if len(failed) == len(runners) and not won.is_done:
                won.failure(error)
            start(index + 1)
            return
        if won.is_done:
            undo(result)
        else:
            won.success(result)

    def over() -> None:
        if not won.is_done:
            won.failure(foreign.KafkaTimeoutError("no answer in time"))

    if until is not None:
        tasks.append(net.call_at(until, over))
    start(0)
    try:
        return await won
    finally:
        for task in tasks:
            # One that waits for a future is woken by it and must live to see it.
            if task.state.value in ("wait_io", "scheduled"):
                net.cancel(task)


def partial_of(run: Callable[[int], Awaitable[None]], index: int) -> Any:
    """A function without arguments, which is all that the loop knows to start."""
    return lambda: run(index)


async def connect(
    net: Any, host: str, port: int, options: Sequence[Any], until: float | None
) -> socket.socket:
    """
    A connected socket that does not block, by whichever address answers first.

    Raises: KafkaConnectionError, saying what is wrong with the host.
    """
    found = Future()

    def tell(addresses: list[Any], why: str) -> None:
        def settle() -> None:
            if found.is_done:
                return
            if addresses:
                found.success(addresses)
            else:
                found.failure(foreign.KafkaConnectionError(why))

        if threading.current_thread() is thread:
            settle()
        else:
            net.call_soon_threadsafe(settle)

    def over() -> None:
        if not found.is_done:
            found.failure(foreign.KafkaConnectionError(NAMELESS))

    thread = threading.current_thread()
    timer = None if until is None else net.call_at(until, over)
    LOOKUPS.find(host, port, tell)
    try:
        addresses = await found
    finally:
        if timer is not None and timer.state.value == "scheduled":
            net.cancel(timer)
    runners = [partial(_open, net, each, options, until) for each in addresses]
    try:
        made: socket.socket = await race(
            net, runners, until, undo=lambda late: late.close()
        )
    except foreign.KafkaTimeoutError as error:
        raise foreign.KafkaConnectionError("nothing answers at its address") from error
    return made


async def _open(
    net: Any, address: Any, options: Sequence[Any], until: float | None
) -> socket.socket:
    family, kind, protocol, _, place = address
    try:
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise foreign.KafkaConnectionError(
            f"no socket can be had for it ({error.strerror})"
        ) from error
    try:
        made.setblocking(False)
        for option in options:
            made.setsockopt(*option)
        with suppress(BlockingIOError):
            made.connect(place)
        await net.wait_write(made, timeout_at=until)
        if number := made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(number, "")
    except OSError as error:
        made.close()
        raise foreign.KafkaConnectionError(_refusal(error)) from error
    except BaseException:
        # Cancelled, too: another address was faster.
        made.close()
        raise
    return made


def _refusal(error: OSError) -> str:
    if error.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH):
        return f"nothing answers at its address ({os.strerror(error.errno).lower()})"
    said = os.strerror(error.errno) if error.errno else str(error)
    return f"it takes no connection ({said.lower()})"


async def handshake(transport: Any, until: float | None) -> None:
    """
    The library's TLS handshake, with a deadline.

    Raises: ssl.SSLError, OSError; KafkaTimeoutError at `until`.
    """
    shake = getattr(transport._sock, "do_handshake", None)
    while shake is not None:
        try:
            shake()
        except ssl.SSLWantReadError:
            await transport._net.wait_read(transport._sock, timeout_at=until)
        except ssl.SSLWantWriteError:
            await transport._net.wait_write(transport._sock, timeout_at=until)
        else:
            return
