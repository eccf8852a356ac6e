"""One who watches a controller, over a raw socket: light enough for a thousand in one process."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


FINAL = {"dropped", "leaving"}


@dataclass
class RawWatch:
    """Takes what comes on one connection at a time. `cursor` is the last id that came, with which it goes on."""

    url: str
    cursor: str | None = None
    query: dict[str, str] = field(default_factory=dict)
    limit: int = 2**16
    receive_buffer: int | None = None
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Connects, and reads the head of the answer, whose status must be 200."""
        parts = urlsplit(self.url)
        sock = socket.socket()
        if self.receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (parts.hostname, parts.port))
        self.reader, self.writer = await asyncio.open_connection(sock=sock, limit=self.limit)
        target = f"/api/v1/watch?{urlencode(self.query)}"
        resume = f"Last-Event-ID: {self.cursor}\r\n" if self.cursor else ""
        self.writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{resume}\r\n".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head

    async def messages(self) -> AsyncIterator[tuple[str, bytes]]:
        """The kind of each and its data, until the connection ends."""
        rest = b""
        async for chunk in self._chunks():
            *blocks, rest = (rest + chunk).split(b"\n\n")
            for block in blocks:
                kind, data = "", b""
                for line in block.split(b"\n"):
                    name, _, value = line.partition(b": ")
                    if name == b"event":
                        kind = value.decode()
                    elif name == b"data":
                        data = value
                    elif name == b"id":
                        self.cursor = value.decode()
                if kind:
                    yield kind, data

    async def _chunks(self) -> AsyncIterator[bytes]:
        assert self.reader
        while True:
            try:
                size = int(await self.reader.readuntil(b"\r\n"), 16)
                chunk = await self.reader.readexactly(size + 2)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            if not size:
                return
            yield chunk[:-2]

    async def take(self, seen: list[int], count: int) -> str:
        """Adds the ids of changes until there are `count`; tells the last kind of message. Then it goes away."""
        await self.open()
        kind = ""
        async for kind, data in self.messages():
            if kind == "change":
                seen.append(json.loads(data)["id"])
            if len(seen) >= count:
                break
        await self.close()
        return kind

    async def close(self) -> None:
        """Goes away without a word."""
        if self.writer is not None:
            self.writer.transport.abort()
            with suppress(OSError):
                await self.writer.wait_closed()
