"""
A TCP proxy that stands on the advertised port of a broker and does it harm.

It knows of the protocol only where requests begin, what kind they are of and which
reply is whose; so it can cut, hold or swallow one kind and leave the others alone.
Toxics are those of Toxiproxy: down, latency with jitter, bandwidth, slow close,
timeout (a black hole), reset, slicer and a limit of bytes.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

PRODUCE, INIT_PRODUCER_ID, ADD_PARTITIONS, END_TXN = 0, 22, 24, 26


@dataclass
class Toxics:
    """
    What is done to all that passes, both ways.

    Attributes:
        latency, jitter: Seconds that each piece is late.
        rate: Bytes a second of each connection; 0 for as fast as it goes.
        slice: Bytes of the pieces it is cut into, each `pause` seconds after the last.
        hole: Nothing passes, and no connection ends.
        hole_for: Nothing more passes on a connection that has sent such a request.
        slow_close: Seconds until an end is passed on.
        limit: Bytes to the client after which a connection ends; 0 for none.
    """

    latency: float = 0.0
    jitter: float = 0.0
    rate: float = 0.0
    slice: int = 0
    pause: float = 0.0
    hole: bool = False
    hole_for: frozenset[int] = frozenset()
    slow_close: float = 0.0
    limit: int = 0


@dataclass(eq=False)
class Link:
    """One connection of a client."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    #: Local port of the client: who it is.
    port: int
    kinds: set[int] = field(default_factory=set)
    #: Kind of request by correlation id, while its reply is out.
    asked: dict[int, int] = field(default_factory=dict)

    def reset(self) -> None:
        """RST, not FIN, to the client."""
        found = self.near.get_extra_info("socket")
        with suppress(OSError):
            found.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self.near.transport.abort()
        self.far.transport.abort()


#: Asked for each request or reply of a kind: False swallows it and all behind it on
#: its connection.  Runs on a thread of its own and may take its time.
Hook = Callable[[Link], bool]


class Proxy:
    """
    One proxy; `to` may change while it runs.

    Attributes:
        toxics: What is done to what passes.
        requests, replies: Hooks by api key.
        carried: Requests passed on, by api key.
    """

    def __init__(self) -> None:
        self.to = ("127.0.0.1", 0)
        self.toxics = Toxics()
        self.requests: dict[int, Hook] = {}
        self.replies: dict[int, Hook] = {}
        self.carried: dict[int, int] = {}
        self._links: set[Link] = set()
        self._dice = random.Random(5)
        self._server: asyncio.Server | None = None
        # The port stays ours while the server is down: bound, and not listening.
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        self.port: int = held.getsockname()[1]
        held.close()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.up()

    # -- what rows do ---------------------------------------------------------------

    def up(self) -> None:
        """Accept connections."""
        self._do(self._listen())

    def down(self) -> None:
        """Refuse connections and end those there are."""
        self._do(self._shut())

    def reset(self) -> None:
        """End all connections by RST."""

        async def all_of_them() -> None:
            for link in list(self._links):
                link.reset()

        self._do(all_of_them())

    def heal(self) -> None:
        """
        No toxics and no hooks.

        Connections that lost bytes are ended: nothing could follow on them.
        """
        harmed = self.toxics.hole or self.toxics.hole_for
        self.toxics = Toxics()
        self.requests.clear()
        self.replies.clear()
        if harmed:
            self.reset()

    def close(self) -> None:
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    # -- inside ---------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, "127.0.0.1", self.port, limit=1 << 22
            )

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in list(self._links):
            link.reset()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.to)
        except OSError:
            writer.transport.abort()
            return
        link = Link(writer, far_writer, writer.get_extra_info("peername")[1])
        self._links.add(link)
        pumps = [
            asyncio.ensure_future(self._requests(link, reader, far_writer)),
            asyncio.ensure_future(self._replies(link, far_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if self.toxics.slow_close:
                await asyncio.sleep(self.toxics.slow_close)
        finally:
            self._links.discard(link)
            for pump in pumps:
                pump.cancel()
            for end in (writer, far_writer):
                with suppress(OSError, RuntimeError):
                    end.close()

    async def _requests(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(reader)
                key, _, correlation = struct.unpack_from(">hhi", frame, 4)
                link.kinds.add(key)
                link.asked[correlation] = key
                if not await self._asked(self.requests.get(key), link):
                    await asyncio.Event().wait()
                self.carried[key] = self.carried.get(key, 0) + 1
                await self._pass(link, frame, writer)

    async def _replies(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        passed = 0
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(reader)
                [correlation] = struct.unpack_from(">i", frame, 4)
                key = link.asked.pop(correlation, -1)
                if not await self._asked(self.replies.get(key), link):
                    await asyncio.Event().wait()
                passed += len(frame)
                limit = self.toxics.limit
                if limit and passed > limit:
                    writer.write(frame[: len(frame) // 2])
                    return
                await self._pass(link, frame, writer)

    async def _asked(self, hook: Hook | None, link: Link) -> bool:
        if hook is None:
            return True
        return await asyncio.get_running_loop().run_in_executor(None, hook, link)

    async def _pass(
        self, link: Link, data: bytes, writer: asyncio.StreamWriter
    ) -> None:
        toxics = self.toxics
        while toxics.hole or toxics.hole_for & link.kinds:
            await asyncio.sleep(0.02)
            toxics = self.toxics
        if toxics.latency:
            late = toxics.latency + self._dice.uniform(-1, 1) * toxics.jitter
            await asyncio.sleep(max(late, 0))
        step = toxics.slice or len(data)
        if toxics.rate:
            step = min(step, max(int(toxics.rate / 50), 1))
        for at in range(0, len(data), step):
            writer.write(data[at : at + step])
            if step < len(data):
                pause = toxics.pause + (step / toxics.rate if toxics.rate else 0)
                await asyncio.sleep(pause)
        await writer.drain()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    return head + await reader.readexactly(struct.unpack(">i", head)[0])
