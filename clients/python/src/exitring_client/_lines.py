"""Streams of lines."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import Any, Dict, List, Union

from ._errors import ProtocolError

Path = Union[str, "os.PathLike[str]"]

#: Lines of the service may be longer than those of clients: a page of watches is one line.
LINE_MAX = 16 * 1024 * 1024
_READ_BYTES = 256 * 1024


async def connect(path: Path) -> socket.socket:
    """Connect to the service. Waits while its queue of connections is full."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.setblocking(False)
        while True:
            try:
                stream.connect(os.fspath(path))
                return stream
            except BlockingIOError:
                # The queue is full, and no connect is in progress. The loop's sock_connect would
                # report success.
                await asyncio.sleep(0.01)
    except BaseException:
        stream.close()
        raise


class Lines:
    """A reader of lines."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._partial = bytearray()

    async def some(self) -> List[bytes]:
        """Return the lines that have come, at least one.

        Raises ConnectionError at the end of the stream.
        """
        while True:
            chunk = await asyncio.get_running_loop().sock_recv(self._stream, _READ_BYTES)
            # sock_recv does not yield to other tasks if there is data.
            await asyncio.sleep(0)
            if not chunk:
                raise ConnectionError("the service closed the connection")
            self._partial += chunk
            end = self._partial.rfind(b"\n") + 1
            if end:
                lines = bytes(self._partial[: end - 1]).split(b"\n")
                del self._partial[:end]
                return lines
            if len(self._partial) > LINE_MAX:
                raise ProtocolError("the line of the service has no end")


def decode(line: bytes) -> Dict[str, Any]:
    """Decode a line, which is a JSON object."""
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ProtocolError(f"the line of the service is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ProtocolError(f"the service sent {value!r}")
    return value
