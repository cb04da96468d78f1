"""The records of the log, in their order."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any, AsyncGenerator, Dict, Optional, Union

from ._errors import ProtocolError, ServiceError
from ._lines import Lines, Path, connect, decode
from ._types import VERSION, Exit, Lost, Welcome, event


class Events:
    """The position of a client in the log.

    Each iteration has a connection of its own. So unread records stay in the log of the service:
    only the result of one read of the socket is in memory, and answers and records never wait for
    each other.
    """

    def __init__(self, path: Path, client: Optional[str], welcome: Welcome, position: int) -> None:
        self._path = path
        self._client = client
        self._welcome = welcome
        #: The position of the next record.
        self.position = position
        self._stream: Optional[socket.socket] = None
        self._closed: Optional[Exception] = None

    def end(self, error: Exception) -> None:
        """End the iteration that is in use, which raises ``error``."""
        self._closed = error
        self._shut_down()

    async def read(self) -> AsyncGenerator[Union[Exit, Lost], None]:
        """Yield the records from the position on, then new ones as they come."""
        stream = await connect(self._path)
        try:
            # One iteration at a time, as each moves the position. One that a `break` left may still
            # be open.
            self._shut_down()
            self._stream = stream
            # The client may have been closed during the connect.
            self._check(stream)
            lines = Lines(stream)
            try:
                await self._subscribe(stream)
                while True:
                    for line in await lines.some():
                        self._check(stream)
                        item = event(self._check_answer(decode(line)))
                        if item is not None:
                            self.position = (item.seq if isinstance(item, Exit) else item.last) + 1
                            yield item
            except OSError:
                # The reason may be a shutdown by this client.
                self._check(stream)
                raise
        finally:
            if self._stream is stream:
                self._stream = None
            stream.close()

    async def _subscribe(self, stream: socket.socket) -> None:
        hello: Dict[str, Any] = {"id": "hello", "op": "hello", "version": VERSION}
        if self._client:
            hello["client"] = self._client
        subscribe = {"id": "subscribe", "op": "subscribe", "from": self.position}
        text = "".join(json.dumps(line) + "\n" for line in (hello, subscribe))
        try:
            await asyncio.get_running_loop().sock_sendall(stream, text.encode())
        except ConnectionError:
            # A service that refuses the connection has sent the reason, which is read next.
            pass

    def _check_answer(self, line: Dict[str, Any]) -> Dict[str, Any]:
        """Check a line that may be the answer to the hello or the subscription, and return it."""
        try:
            if "error" in line:
                raise ServiceError(line["error"]["code"], line["error"]["message"])
            if line.get("id") == "hello":
                hello = line["ok"]["hello"]
                if (hello["instance"], hello["uid"]) != (self._welcome.instance, self._welcome.uid):
                    # The state directory was replaced, or this process has become another user.
                    raise ConnectionError(
                        "this is not the service that the client connected to, or not the same user: "
                        "connect again"
                    )
        except (KeyError, TypeError) as wrong:
            raise ProtocolError(f"the service sent {line!r}") from wrong
        return line

    def _check(self, stream: socket.socket) -> None:
        if self._closed is not None:
            raise self._closed
        if self._stream is not stream:
            raise RuntimeError("events() was called again, and continues there: one iteration at a time")

    def _shut_down(self) -> None:
        # Not closed, because the event loop may wait for it. The shutdown wakes it up.
        if self._stream is not None:
            try:
                self._stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                # It is shut down already.
                pass
