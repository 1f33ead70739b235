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
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

from engine.clock import SYSTEM
from engine.sink import codes, reasons
from engine.sink.bootstrap import Bootstrap
from engine.sink.codes import BrokerError
from engine.sink.connecting import connect, handshake
from engine.sink.produce.wire import Garbled
from engine.sink.reasons import MUTE

REFUSED_LOGIN = (
    foreign.SaslAuthenticationFailedError,
    foreign.UnsupportedSaslMechanismError,
    foreign.AuthorizationError,
)

#: An answer that is none.
PROTOCOL = (
    foreign.KafkaProtocolError,
    foreign.CorrelationIdError,
    foreign.InvalidReceiveError,
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


#: How the library says that the other side has closed a connection.
_ENDINGS = r"^$|^socket disconnected$"


def reason_of(error: Exception) -> tuple[str, bool]:
    """As `reasons.reason_of`, for what the library raises."""
    said = str(error.args[0]) if error.args else ""
    if isinstance(error, foreign.IncompatibleBrokerVersion):
        return reasons.reason_of(BrokerError(codes.UNSUPPORTED_VERSION))
    if isinstance(error, REFUSED_LOGIN):
        return said or type(error).__name__, True
    if isinstance(error, foreign.RequestTimedOutError):
        return MUTE, False
    if isinstance(error, PROTOCOL):
        return reasons.reason_of(Garbled(said))
    if isinstance(error, foreign.KafkaConnectionError) and re.search(_ENDINGS, said):
        return reasons.reason_of(ConnectionError(reasons.ENDED))
    if isinstance(error, (foreign.KafkaError, OSError)):
        return reasons.reason_of(ConnectionError(said or type(error).__name__))
    return reasons.reason_of(error)


class Client(KafkaNetClient):  # type: ignore[misc]
    """
    The library's network client, mended in three places and shortened in two.

    It makes no topic by asking for it.
    The way into the cluster is `sink.bootstrap`, a connection `sink.connecting`.
    An answer that arrives together with the end of its connection is read; the
    library drops it, a refusal for one.

    A request is written at once where the socket takes it; the library first
    waits for the socket, two turns of its loop for each request.  And waiting
    costs less, see `Epoll`.

    Args:
        patient: False to ask each bootstrap server once instead of until the
            deadline.

    Attributes:
        door: The way in, which knows what was shut.
    """

    def __init__(self, *, patient: bool = True, **settings: Any) -> None:
        super().__init__(**{**settings, "selector": Epoll})
        manager = self._manager
        # The library does not hand on what it was told: a topic that is asked for
        # would be made with the broker's defaults, also one that was deleted.
        manager.cluster.config["allow_auto_create_topics"] = False
        take = manager.get_connection
        self.door = door = Bootstrap(manager, reason_of, patient=patient)

        def get_connection(node: Any, *more: Any, **named: Any) -> Any:
            fresh = node not in manager._conns
            made = take(node, *more, **named)
            if fresh and not manager.cluster.is_bootstrap(node):
                door.watch(node, made)
            return made

        async def build_transport(node: Any, timeout_at: float | None = None) -> Any:
            options = manager.config["socket_options"]
            sock = await connect(
                self._net, node.host, node.port, options, until=timeout_at
            )
            made = await self._secured(sock, node.host, timeout_at)
            _read_to_the_end(made)
            _write_at_once(made)
            return made

        manager.get_connection = get_connection
        manager._build_transport = build_transport
        manager._do_bootstrap = door.run

    async def _secured(self, sock: Any, host: str, until: float | None) -> Any:
        """The transport over a connected socket, its TLS handshake done."""
        if not self._manager.ssl_enabled:
            return KafkaTCPTransport(self._net, sock, host=host)
        config = self._manager.config
        keys = {key: value for key, value in config.items() if key.startswith("ssl_")}
        made = KafkaSSLTransport(self._net, sock, host=host, **keys)
        try:
            await handshake(made, until)
        except BaseException as error:
            made._sock.close()
            if isinstance(error, foreign.KafkaTimeoutError):
                raise foreign.KafkaConnectionError(
                    f"{MUTE} the TLS handshake"
                ) from error
            if isinstance(error, OSError):
                raise foreign.KafkaConnectionError(
                    f"Handshake failed: {error}"
                ) from error
            raise
        return made


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
