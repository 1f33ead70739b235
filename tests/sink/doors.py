"""Listeners that are no brokers: what a client may find behind an address."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a listener that hands each connection to `serve`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    serve(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    host, port = listener.getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@contextmanager
def mute() -> Iterator[str]:
    """Takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        yield f"{host}:{port}"


@contextmanager
def black_hole() -> Iterator[str]:
    """Drops what asks for a connection: its backlog is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):
            each = socket.socket()
            each.setblocking(False)
            with suppress(BlockingIOError):
                each.connect(listener.getsockname())
            waiting.append(each)
        host, port = listener.getsockname()
        yield f"{host}:{port}"
        for each in waiting:
            each.close()


@contextmanager
def refusing() -> Iterator[str]:
    """Nobody listens there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host, port = taken.getsockname()
        yield f"{host}:{port}"


@contextmanager
def nameless() -> Iterator[str]:
    """A name that nobody has (RFC 6761, 6.4)."""
    yield "kafka.invalid:9092"


def saying(words: bytes) -> Callable[[], object]:
    """Answers whatever it is asked with these bytes."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(words)

    return lambda: listening(serve)


def closing() -> object:
    """Takes a connection and closes it."""
    return listening(lambda connection: None)


def framed(words: bytes) -> Callable[[], object]:
    """Answers with the right length and correlation, and then with rubbish."""

    def serve(connection: socket.socket) -> None:
        asked = connection.recv(65536)
        answer = asked[8:12] + words
        connection.sendall(len(answer).to_bytes(4, "big") + answer)

    return lambda: listening(serve)


@contextmanager
def rewritten(address: str, old: bytes, new: bytes) -> Iterator[str]:
    """A way to a broker whose answers have some bytes exchanged, as many as before."""
    assert len(old) == len(new)
    host, _, port = address.rpartition(":")

    def pump(source: socket.socket, to: socket.socket, *, change: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                to.sendall(data.replace(old, new) if change else data)
        for each in (source, to):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def serve(connection: socket.socket) -> None:
        mine = connection.dup()

        def both() -> None:
            with mine, socket.create_connection((host, int(port))) as broker:
                back = threading.Thread(
                    target=pump, args=(broker, mine), kwargs={"change": True}
                )
                back.start()
                pump(mine, broker, change=False)
                back.join()

        threading.Thread(target=both, daemon=True).start()

    with listening(serve) as found:
        yield found


#: What is wrong with a door -> the door, and how it is told.
DOORS: dict[str, tuple[Callable[[], object], str]] = {
    "mute": (mute, "takes the connection and does not answer"),
    "black hole": (black_hole, "nothing answers at its address"),
    "refused": (refusing, "takes no connection .connection refused"),
    "no such name": (nameless, "name cannot be resolved"),
    "closes": (closing, "takes the connection and closes it"),
    "http": (saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "an HTTP server listens"),
    "ssh": (saying(b"SSH-2.0-OpenSSH_9.6\r\n"), "an SSH server listens"),
    "smtp": (saying(b"220 mail.example ESMTP\r\n"), "a mail or FTP server listens"),
    "redis": (saying(b"-ERR unknown command\r\n"), "a Redis server listens"),
    "garbage": (saying(b"\x7f" * 64), "does not speak Kafka's protocol"),
    "short frame": (framed(b"\0\0"), "does not speak Kafka's"),
    "endless array": (framed(b"\0\0\xff\xff\xff\x0f\0"), "does not speak Kafka's"),
    "other call": (
        saying(b"\0\0\0\x0a\x7f\0\0\1\0\0\0\0\0\0"),
        "does not speak Kafka's protocol",
    ),
    "tls": (saying(b"\x15\x03\x03\x00\x02\x02\x0a"), "speaks TLS; see security"),
}

#: Of these only other keys mend.
FINAL = {"http", "ssh", "smtp", "redis", "tls"}
