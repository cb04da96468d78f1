"""A service that says what a test has it say."""

from __future__ import annotations

import asyncio
import json
import pathlib
from typing import Any, Awaitable, Callable, Dict, List, Optional, Tuple

Said = Dict[str, Any]

HELLO: Said = {"hello": {"version": 1, "service": "0", "instance": "i", "uid": 0, "limits": {}}}


class Connection:
    """What the service sees of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def hear(self) -> Said:
        line = await self.reader.readline()
        if not line:
            raise EOFError
        heard: Said = json.loads(line)
        return heard

    def say(self, **said: Any) -> None:
        self.say_text(json.dumps(said).encode() + b"\n")

    def say_text(self, text: bytes) -> int:
        """How many bytes that is."""
        self.writer.write(text)
        return len(text)

    async def welcome(self) -> Said:
        """Answers the hello and the subscription, and gives the latter."""
        self.say(id=(await self.hear())["id"], ok=HELLO)
        subscribe = await self.hear()
        self.say(id=subscribe["id"], ok={"subscribed": max(1, subscribe["from"])})
        return subscribe


class Fake:
    """Use as a context; each connection is served by ``serve``."""

    def __init__(self, folder: pathlib.Path, serve: Callable[[Connection], Awaitable[None]]) -> None:
        self.socket = folder / "fake"
        #: What went wrong in ``serve``.
        self.wrong: List[BaseException] = []
        self._serve = serve
        self._server: Optional[asyncio.AbstractServer] = None

    async def __aenter__(self) -> "Fake":
        self._server = await asyncio.start_unix_server(self._connected, str(self.socket))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        assert not self.wrong, self.wrong

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(Connection(reader, writer))
        except (EOFError, ConnectionError):
            pass
        except Exception as error:
            self.wrong.append(error)
        finally:
            writer.close()


def record(seq: int, watch: int, tag: str = "") -> Said:
    """Of a process that exited with 0."""
    times = {"began_ms": 0, "ended_ms": 0}
    return {"seq": seq, "watch": watch, "pid": 1, "tag": tag, "uid": 0, "spawned": False, "outcome": {"exited": 0}, **times}
