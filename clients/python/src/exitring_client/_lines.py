"""Lines of the service."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import Any, Dict, List, Union

from ._errors import ProtocolError

Path = Union[str, "os.PathLike[str]"]

#: Lines of the service are longer than its clients' (a page of watches is one).
LINE_MAX = 16 * 1024 * 1024
_READ_BYTES = 256 * 1024


async def connect(path: Path) -> socket.socket:
    """A stream to the service. Waits for as long as its queue of connections is full."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.setblocking(False)
        while True:
            try:
                stream.connect(os.fspath(path))
                return stream
            except BlockingIOError:
                # The queue is full, and nothing is in progress: the loop's sock_connect would take it for connected.
                await asyncio.sleep(0.01)
    except BaseException:
        stream.close()
        raise


class Lines:
    """The reading side of a stream."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._partial = bytearray()

    async def some(self) -> List[bytes]:
        """The lines that have come, one at least. ConnectionError once no more will."""
        while True:
            chunk = await asyncio.get_running_loop().sock_recv(self._stream, _READ_BYTES)
            # What is there already is given without a pause: other tasks get their turn even so.
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
                raise ProtocolError("the service's line has no end")


def decode(line: bytes) -> Dict[str, Any]:
    """What a line says."""
    try:
        said = json.loads(line)
    except ValueError as error:
        raise ProtocolError(f"the service's line is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise ProtocolError(f"the service said {said!r}")
    return said
