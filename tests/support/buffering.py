"""A reverse proxy that collects a stream until its end before it passes anything on, as some in companies do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Self

STREAM = b"text/event-stream"
END_OF_CHUNKS = b"0\r\n\r\n"


class BufferingProxy:
    """Listens on a port of this machine; everything but event streams passes at once. Use it as a context manager."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.held = 0
        """Bytes of streams that were kept back so far."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="buffering-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def _end(self) -> None:
        self._server.close()
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            await asyncio.wait(
                [asyncio.create_task(_pass(reader, back)), asyncio.create_task(self._return(there, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for one in (writer, back):
                with contextlib.suppress(OSError):
                    one.close()

    async def _return(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept = b""
        is_stream = False
        while data := await reader.read(65_536):
            is_stream = is_stream or STREAM in data
            if is_stream:
                kept += data
                self.held += len(data)
                if not kept.endswith(END_OF_CHUNKS):
                    continue
                data, kept, is_stream = kept, b"", False
            writer.write(data)
            await writer.drain()
        writer.write(kept)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
