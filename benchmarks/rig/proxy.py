"""A network that can be cut without a word, between any number of clients and one server."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Self


class Network:
    """Forwards TCP connections to a local port until it is cut.

    While it is cut, connections stay open and nothing passes; connections made meanwhile are
    accepted and wait. Once healed, new connections work. Old ones go on where ``remembered``; else
    they are dead for ever without either end hearing of it, as behind a firewall that forgot them.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._age = 0
        self.port = 0

    @property
    def url(self) -> str:
        """The Redis at the other end."""
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self._thread.start()
        server = self._do(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self, *, remembered: bool) -> None:
        """Let nothing pass from now on."""
        self._loop.call_soon_threadsafe(self._flowing.clear)
        if not remembered:
            self._age += 1

    def heal(self) -> None:
        """Let everything pass that is not forgotten."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def _do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Python 3.11 prints a traceback for every connection whose task ends as cancelled.
        with suppress(OSError, asyncio.CancelledError):
            await self._flowing.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            age = self._age
            await asyncio.gather(
                self._pump(reader, far_writer, age), self._pump(far_reader, writer, age)
            )

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, age: int
    ) -> None:
        """Carry bytes one way, the end of the stream included."""
        with suppress(OSError):
            while data := await source.read(65536):
                await self._passable(age)
                target.write(data)
                await target.drain()
            await self._passable(age)
            target.close()

    async def _passable(self, age: int) -> None:
        """Wait until a connection of this age carries anything; for ever if it is forgotten."""
        await self._flowing.wait()
        if age != self._age:
            await asyncio.Event().wait()

    async def _cancel_all(self) -> None:
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
