"""
Network: kafka-python's network client, mended and shortened.

Knows the insides of `kafka.net` (kafka-python 3.0.12: transport, manager and
selector), and reaches into them on purpose;
`tests/contracts/test_producer_insides.py` holds what it relies on.

Path: every client that `sink.kafka` makes has it underneath; a batch on its way
passes `write`, its answer `received`.
"""

from __future__ import annotations

import math
import re
import select
import selectors
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import kafka.errors as foreign
from kafka.net import selector
from kafka.net.compat import KafkaNetClient

from engine.clock import SYSTEM

REFUSED_LOGIN = (
    foreign.SaslAuthenticationFailedError,
    foreign.UnsupportedSaslMechanismError,
    foreign.AuthorizationError,
)


def _silent(*_: Any) -> None:
    """Seven calls for each turn of the loop would go through `logging`, unread."""


selector.log_trace = _silent


class Epoll(selectors.BaseSelector):
    """
    A selector that leaves a socket with the kernel while nobody waits for it.

    The library waits for each answer anew: it takes its socket out when there is
    something to read, and puts it back in when it has read it.  Here neither
    costs a system call; a socket that has something while nobody waits is taken
    out then.  A closed one leaves by itself, and its number may come again.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._left: dict[int, selectors.SelectorKey] = {}

    def register(
        self, fileobj: Any, events: int, data: Any = None
    ) -> selectors.SelectorKey:
        number = fileobj.fileno()
        if number in self._keys:
            raise KeyError(f"descriptor {number} is registered")
        key = selectors.SelectorKey(fileobj, number, events, data)
        left = self._left.pop(number, None)
        if left is not None and (left.fileobj is not fileobj or left.events != events):
            self._take_out(number)
            left = None
        if left is None:
            self._epoll.register(number, _mask(events))
        self._keys[number] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = self._keys.pop(self._number(fileobj))
        self._left[key.fd] = key
        return key

    def modify(
        self, fileobj: Any, events: int, data: Any = None
    ) -> selectors.SelectorKey:
        key = self._keys[self._number(fileobj)]
        if events != key.events:
            self._epoll.modify(key.fd, _mask(events))
        self._keys[key.fd] = changed = key._replace(events=events, data=data)
        return changed

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        # Whole milliseconds, rounded up: it must not wake before its time.
        wait = -1 if timeout is None else max(0, math.ceil(timeout * 1e3)) / 1e3
        ready = []
        for number, event in self._epoll.poll(wait):
            key = self._keys.get(number)
            if key is None:
                self._left.pop(number, None)
                self._take_out(number)
                continue
            # What is neither, an error or the end, is news for whoever waits.
            events = selectors.EVENT_WRITE if event & ~select.EPOLLIN else 0
            events |= selectors.EVENT_READ if event & ~select.EPOLLOUT else 0
            ready.append((key, events & key.events))
        return ready

    def close(self) -> None:
        self._epoll.close()
        self._keys.clear()
        self._left.clear()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """As the base's, without a description of the socket in its KeyError."""
        return self._keys[self._number(fileobj)]

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def _number(self, fileobj: Any) -> int:
        number: int = fileobj.fileno()
        if number < 0:
            for key in self._keys.values():
                if key.fileobj is fileobj:
                    return key.fd
        return number

    def _take_out(self, number: int) -> None:
        # Closed in between: it is out already.
        with suppress(OSError):
            self._epoll.unregister(number)


def _mask(events: int) -> int:
    return (select.EPOLLIN if events & selectors.EVENT_READ else 0) | (
        select.EPOLLOUT if events & selectors.EVENT_WRITE else 0
    )


class WrongDoor(foreign.KafkaConfigurationError):  # type: ignore[misc]
    """The listener and the client do not speak the same, or do not trust."""

    def __str__(self) -> str:
        return str(self.args[0])


#: OpenSSL's names of what other keys mend, and those keys.
_TLS_REASONS = {
    r"CERTIFICATE_VERIFY_FAILED": (
        "the broker's certificate is not accepted; see ssl.truststore.* and "
        "ssl.endpoint.identification.algorithm"
    ),
    r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|HTTP_REQUEST": (
        "the listener does not speak TLS; see security.protocol"
    ),
    r"ALERT_(HANDSHAKE_FAILURE|PROTOCOL_VERSION)|UNSUPPORTED_PROTOCOL": (
        "no TLS version, cipher or certificate is right for both; see "
        "ssl.enabled.protocols, ssl.cipher.suites and ssl.keystore.*"
    ),
    r"ALERT_(\w*CERTIFICATE\w*|UNKNOWN_CA|ACCESS_DENIED|DECRYPT_ERROR)": (
        "the broker does not accept the client's certificate, or misses one; see "
        "ssl.keystore.*"
    ),
}


def _reason(error: Exception) -> tuple[str, bool]:
    """What keeps a client out, for people; True if only new keys let it in."""
    said = str(error.args[0]) if error.args else type(error).__name__
    if isinstance(error, REFUSED_LOGIN):
        return said, True
    if found := re.search(r"\[SSL: (\w+)\]", said):
        for names, advice in _TLS_REASONS.items():
            if re.search(names, found[1]):
                return f"{advice} ({said})", True
        if found[1] == "UNEXPECTED_EOF_WHILE_READING":
            return f"{said}; does the listener speak TLS? See security.protocol", False
    # The length of a frame that is the head of a TLS alert (RFC 8446, 5.1).
    found = re.fullmatch(r"Invalid frame length: (\d+)", said)
    if found and int(found[1]) >> 16 in (0x1503, 0x1603):
        return "the listener speaks TLS; see security.protocol", True
    if (
        isinstance(error, foreign.KafkaConnectionError)
        and said == "socket disconnected"
    ):
        return f"{said}; does the listener want a login? See security.protocol", False
    return said, False


class Client(KafkaNetClient):  # type: ignore[misc]
    """
    The library's network client, mended in two places and shortened in two.

    What only other keys mend ends the bootstrap, and what else kept it out is
    told; the library tries again until its time is over, and then says only
    that.  An answer that arrives together with the end
    of its connection is read; the library drops it, a refusal for one.

    A request is written at once where the socket takes it; the library first
    waits for the socket, two turns of its loop for each request.  And waiting
    costs less, see `Epoll`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "selector": Epoll})
        manager = self._manager
        connect, build = manager.get_connection, manager._build_transport
        bootstrap = manager.bootstrap

        refused: dict[str, Exception] = {}
        reasons: list[str] = []

        def get_connection(node: str, *more: Any, **named: Any) -> Any:
            if node in refused:
                # Another of the bootstrap servers may still let us in.
                if len(refused) < len(manager.cluster.bootstrap_brokers()):
                    raise foreign.NodeNotReadyError(node)
                raise refused[node]
            made = connect(node, *more, **named)
            if manager.cluster.is_bootstrap(node):
                for end in (made.init_future, made._close_future):
                    if not end.is_done:
                        end.add_errback(note, node)
            return made

        def note(node: str, error: Exception) -> None:
            reason, final = _reason(error)
            reasons[:] = [reason]
            if final:
                login = isinstance(error, REFUSED_LOGIN)
                refused[node] = error if login else WrongDoor(reason)

        def bootstrapped(*more: Any, **named: Any) -> None:
            try:
                bootstrap(*more, **named)
            except foreign.KafkaTimeoutError as error:
                why = f" ({reasons[0]})" if reasons else ""
                raise foreign.KafkaTimeoutError(f"no broker answers{why}") from error

        async def build_transport(*more: Any, **named: Any) -> Any:
            made = await build(*more, **named)
            _read_to_the_end(made)
            _write_at_once(made)
            return made

        manager.get_connection = get_connection
        manager.bootstrap = bootstrapped
        manager._build_transport = build_transport


def _read_to_the_end(transport: Any) -> None:
    receive = transport._sock_recv

    def received() -> tuple[bytes, Exception | None]:
        data, error = receive()
        # The end is still there at the next look.
        return data, None if data else error

    transport._sock_recv = received


def _write_at_once(transport: Any) -> None:
    later = transport.write

    def write(data: bytes) -> None:
        """As the library's; on the thread of its loop."""
        if transport._writing or transport._closed or not transport._write or not data:
            later(data)
            return
        # A view, since over TLS the library cuts off what was sent, 16 KB by 16 KB.
        transport._write_buffer.append(memoryview(data))
        _, error = transport._sock_send()
        transport.last_write = SYSTEM.monotonic()
        if error is not None:
            # Who called is not ready to see its connection end under it.
            transport._net.call_soon(lambda: transport.abort(error=error))
        elif transport._write_buffer:
            later(transport._write_buffer.popleft())

    transport.write = write
