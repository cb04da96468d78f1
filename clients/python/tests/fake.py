"""A fake service, which sends what a test chooses."""

from __future__ import annotations

import asyncio
import json
import pathlib
from typing import Any, Awaitable, Callable, Dict, List, Optional, Tuple

Line = Dict[str, Any]

HELLO: Line = {"hello": {"version": 1, "service": "0", "instance": "i", "uid": 0, "limits": {}}}


class Connection:
    """The service's side of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def receive(self) -> Line:
        line = await self.reader.readline()
        if not line:
            raise EOFError
        received: Line = json.loads(line)
        return received

    def send(self, **fields: Any) -> None:
        self.send_text(json.dumps(fields).encode() + b"\n")

    def send_text(self, text: bytes) -> int:
        """Send raw bytes. Returns their number."""
        self.writer.write(text)
        return len(text)

    async def welcome(self) -> Line:
        """Answer the hello and the subscription. Returns the subscription."""
        self.send(id=(await self.receive())["id"], ok=HELLO)
        subscribe = await self.receive()
        self.send(id=subscribe["id"], ok={"subscribed": max(1, subscribe["from"])})
        return subscribe


class Fake:
    """A context manager. ``serve`` handles each connection."""

    def __init__(self, directory: pathlib.Path, serve: Callable[[Connection], Awaitable[None]]) -> None:
        self.socket = directory / "fake"
        #: The exceptions of ``serve``.
        self.errors: List[BaseException] = []
        self._serve = serve
        self._server: Optional[asyncio.AbstractServer] = None

    async def __aenter__(self) -> "Fake":
        self._server = await asyncio.start_unix_server(self._connected, str(self.socket))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        assert not self.errors, self.errors

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(Connection(reader, writer))
        except (EOFError, ConnectionError):
            pass
        except Exception as error:
            self.errors.append(error)
        finally:
            writer.close()


def record(seq: int, watch: int, tag: str = "") -> Line:
    """The record of a process that exited with code 0."""
    times = {"began_ms": 0, "ended_ms": 0}
    return {"seq": seq, "watch": watch, "pid": 1, "tag": tag, "uid": 0, "spawned": False, "outcome": {"exited": 0}, **times}
