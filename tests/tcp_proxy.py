"""A TCP proxy that cuts connections on demand: what a bad network does to a session. It has a loop and thread."""

from __future__ import annotations

import asyncio
import enum
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

START_S = 10.0


class When(enum.Enum):
    """When the server gets what the client sent last: never, before the client is cut off, or a moment after that."""

    NEVER = "never delivered"
    BEFORE = "delivered"
    AFTER = "delivered late"


LATE_S = 0.3
IN_TRANSACTION = b"Z\0\0\0\5T"  # PostgreSQL's word that a session is ready, inside a transaction


@dataclass(slots=True)
class Cut:
    """Cut the connection on which a client in a transaction sends something next. `done` is set once it is cut."""

    when: When
    done: threading.Event = field(default_factory=threading.Event)


class TcpProxy:
    """Passes connections to `port` of 127.0.0.1 on. `port` is its own."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.connections = 0
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._cut: Cut | None = None
        self._refusing = False
        self._swallowing: set[asyncio.StreamWriter] = set()
        self._in_transaction: set[asyncio.StreamWriter] = set()

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def cut_all(self) -> None:
        """Reset every connection now."""
        done = threading.Event()

        def cut() -> None:
            for writer in list(self._writers):
                writer.transport.abort()
            done.set()

        self._loop.call_soon_threadsafe(cut)
        assert done.wait(START_S)

    def refuse(self) -> None:
        """Reset every connection, and each new one too, until `restore`."""
        self._refusing = True
        self.cut_all()

    def restore(self) -> None:
        """Let new connections through again."""
        self._refusing = False

    def cut_next(self, when: When) -> Cut:
        """Cut the connection on which a client in a transaction sends something next, once."""
        self._cut = cut = Cut(when)
        return cut

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refusing:
            writer.transport.abort()
            return
        try:
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()  # there is no server: the client sees what it would see of a dead one
            return
        both = (writer, back_writer)
        self._writers.update(both)
        try:
            await asyncio.gather(self._forward(reader, back_writer, writer), self._backward(back_reader, writer))
        finally:
            for each in both:
                self._writers.discard(each)
                each.transport.abort()

    async def _forward(
        self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                cut = self._cut if client in self._in_transaction else None
                if cut is None:
                    server.write(data)
                    await server.drain()
                    continue
                self._cut = None
                if cut.when is When.BEFORE:
                    self._swallowing.add(client)  # the answer shows that the server has done it
                    server.write(data)
                    await server.drain()
                    cut.done.set()
                    continue
                cut.done.set()
                client.transport.abort()
                if cut.when is When.AFTER:
                    await asyncio.sleep(LATE_S)
                    server.write(data)
                    server.write_eof()
                    await server.drain()
                    return
                break
        server.transport.abort()

    async def _backward(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if client in self._swallowing:
                    self._swallowing.discard(client)
                    break
                if data.endswith(IN_TRANSACTION):
                    self._in_transaction.add(client)
                else:
                    self._in_transaction.discard(client)
                client.write(data)
                await client.drain()
        client.transport.abort()

    def run(self, started: threading.Event, stop: asyncio.Event) -> None:
        async def serve() -> None:
            server = await self.start()
            started.set()
            await stop.wait()
            server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            sessions = asyncio.all_tasks() - {asyncio.current_task()}
            if sessions:
                await asyncio.wait(sessions, timeout=START_S)

        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(serve())

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop


@contextmanager
def proxied(target_port: int) -> Iterator[TcpProxy]:
    """A proxy for the length of the block."""
    proxy, started, stop = TcpProxy(target_port), threading.Event(), asyncio.Event()
    thread = threading.Thread(target=proxy.run, args=(started, stop), name="tcp-proxy")
    thread.start()
    assert started.wait(START_S)
    try:
        yield proxy
    finally:
        proxy.loop.call_soon_threadsafe(stop.set)
        thread.join(START_S)
        assert not thread.is_alive()
