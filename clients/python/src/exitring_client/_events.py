"""The log, record after record."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any, AsyncGenerator, Dict, Optional, Union

from ._errors import ProtocolError, ServiceError
from ._lines import Lines, Path, connect, decode
from ._types import VERSION, Exit, Lost, Welcome, event


class Events:
    """Where a client is in the log.

    Each iteration has a connection of its own. So what is not read stays with the service, in the log: nothing is kept here
    but what one read of the socket gave, the client's answers never wait behind records, and records not behind answers.
    """

    def __init__(self, path: Path, client: Optional[str], welcome: Welcome, place: int) -> None:
        self._path = path
        self._client = client
        self._welcome = welcome
        #: Of the record to be given next.
        self.place = place
        self._stream: Optional[socket.socket] = None
        self._closed: Optional[Exception] = None

    def end(self, error: Exception) -> None:
        """No more is given: the iteration that is under way raises this."""
        self._closed = error
        self._shut_down()

    async def read(self) -> AsyncGenerator[Union[Exit, Lost], None]:
        """All from the place on, and then what comes."""
        stream = await connect(self._path)
        try:
            # One at a time, as each moves the place. (One that was left by `break` may not have been closed yet.)
            self._shut_down()
            self._stream = stream
            # It may have been closed while this connected.
            self._check(stream)
            lines = Lines(stream)
            try:
                await self._subscribe(stream)
                while True:
                    for line in await lines.some():
                        self._check(stream)
                        said = event(self._answered(decode(line)))
                        if said is not None:
                            self.place = (said.seq if isinstance(said, Exit) else said.last) + 1
                            yield said
            except OSError:
                # Perhaps because it was shut down here.
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
        subscribe = {"id": "subscribe", "op": "subscribe", "from": self.place}
        text = "".join(json.dumps(line) + "\n" for line in (hello, subscribe))
        try:
            await asyncio.get_running_loop().sock_sendall(stream, text.encode())
        except ConnectionError:
            # Who was turned away at the door has an answer waiting all the same.
            pass

    def _answered(self, line: Dict[str, Any]) -> Dict[str, Any]:
        """Looks at what is an answer to one of the two."""
        try:
            if "error" in line:
                raise ServiceError(line["error"]["code"], line["error"]["message"])
            if line.get("id") == "hello":
                hello = line["ok"]["hello"]
                if (hello["instance"], hello["uid"]) != (self._welcome.instance, self._welcome.uid):
                    # The state was exchanged, or this process has become another user.
                    raise ConnectionError("this is not the service that was connected to, or no longer the same user: connect again")
        except (KeyError, TypeError) as wrong:
            raise ProtocolError(f"the service said {line!r}") from wrong
        return line

    def _check(self, stream: socket.socket) -> None:
        if self._closed is not None:
            raise self._closed
        if self._stream is not stream:
            raise RuntimeError("events() was called again, and goes on there: one iteration at a time")

    def _shut_down(self) -> None:
        # Not closed: the loop may be waiting for it. This wakes it up.
        if self._stream is not None:
            try:
                self._stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                # It is over already.
                pass
