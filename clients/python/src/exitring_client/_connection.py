"""Requests and their answers."""

from __future__ import annotations

import array
import asyncio
import itertools
import json
import os
import socket
from typing import Any, Callable, Dict, Mapping, Optional, Set

from ._errors import ProtocolError, ServiceError
from ._lines import Lines, decode


class Connection:
    """A stream on which many tasks ask at once; each answer goes to who asked, by the ``id`` of both.

    ``take`` gets every line that is no answer, ``ended`` is told once why there will be no more.
    """

    def __init__(
        self, stream: socket.socket, take: Callable[[Dict[str, Any]], None], ended: Callable[[Exception], None]
    ) -> None:
        self._stream = stream
        self._take = take
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        #: In the order in which they were sent.
        self._asked: Dict[int, "asyncio.Future[Dict[str, Any]]"] = {}
        self._sending = asyncio.Lock()
        self._senders: Set["asyncio.Task[None]"] = set()
        #: Why it is over, if it is.
        self.error: Optional[Exception] = None
        self._reading = self._loop.create_task(self._read())

    @property
    def unanswered(self) -> int:
        """Requests that were sent, and have no answer yet."""
        return len(self._asked)

    async def request(self, fields: Mapping[str, Any], pidfd: Optional[int] = None) -> Dict[str, Any]:
        """Asks, and gives the ``ok`` of the answer."""
        if "id" in fields:
            raise ValueError("the client numbers its requests itself: leave out the id")
        self.check()
        number = next(self._ids)
        # The id comes first, so that even of a line that is no JSON further on the service can tell it.
        line = json.dumps({"id": number, **fields}, separators=(",", ":")).encode() + b"\n"
        answer: "asyncio.Future[Dict[str, Any]]" = self._loop.create_future()
        # The caller may be cancelled, and the descriptor closed; half a line would spoil the connection.
        copy = None if pidfd is None else os.dup(pidfd)
        sending = self._loop.create_task(self._send(number, line, copy, answer))
        self._senders.add(sending)

        def sent(task: "asyncio.Task[None]") -> None:
            # Here, and not in the task: one that was cancelled before it began has run no line of its own.
            if copy is not None:
                os.close(copy)
            self._senders.discard(task)
            if not task.cancelled():
                # Who asked may have been cancelled: then nobody misses it.
                task.exception()

        sending.add_done_callback(sent)
        await asyncio.shield(sending)
        return await answer

    def check(self) -> None:
        """Raises why it is over, if it is."""
        if self.error is not None:
            raise failure(self.error)

    async def close(self) -> None:
        """Ends it. Whoever waits for an answer gets a ConnectionError."""
        self._reading.cancel()
        self._fail(ConnectionError("the connection was closed"))
        try:
            # No sender is cancelled, as whoever awaits it would be, too: the stream is shut down, which ends them.
            await asyncio.gather(self._reading, *self._senders, return_exceptions=True)
        finally:
            if self._stream.fileno() >= 0:
                # If this was cancelled, too, one may be in the middle of sending.
                self._loop.remove_writer(self._stream)
                self._stream.close()

    async def _send(
        self, number: int, line: bytes, pidfd: Optional[int], answer: "asyncio.Future[Dict[str, Any]]"
    ) -> None:
        async with self._sending:
            self.check()
            # Before it is sent: the answer may be read before this task goes on.
            self._asked[number] = answer
            sent = 0
            while sent < len(line):
                # The descriptor goes with the first byte.
                passed = [] if sent or pidfd is None else [_rights(pidfd)]
                try:
                    sent += self._stream.sendmsg([memoryview(line)[sent:]], passed, socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    await self._writable()
                except ConnectionError:
                    # The service is gone, and may have said why (that there are too many clients, that the line is too
                    # long): what it said is still to be read, then the end, and who reads fails everything.
                    self._shut_down()
                    return
                except OSError as error:
                    if sent == 0:
                        # As if it had never been asked; ETOOMANYREFS, for one, is when too many descriptors are under way.
                        self._asked.pop(number, None)
                        raise
                    # Half a line: nothing that is sent after it would be understood.
                    self._fail(ConnectionError(f"a request was sent in part only: {error}"))
                    return

    async def _writable(self) -> None:
        writable = asyncio.Event()
        self._loop.add_writer(self._stream, writable.set)
        try:
            await writable.wait()
        finally:
            self._loop.remove_writer(self._stream)

    async def _read(self) -> None:
        lines = Lines(self._stream)
        try:
            while True:
                for line in await lines.some():
                    self._take_line(decode(line))
        except Exception as error:
            self._fail(error)

    def _take_line(self, line: Dict[str, Any]) -> None:
        if "error" in line:
            try:
                error = ServiceError(line["error"]["code"], line["error"]["message"])
            except (KeyError, TypeError) as wrong:
                raise ProtocolError(f"the service said {line!r}") from wrong
            number = line.get("id")
            if number is None:
                # The service could not tell which: then it is the oldest, as answers come in the order of the requests.
                number = next(iter(self._asked), None)
                if number is None:
                    # Nothing was asked yet: turned away at the door.
                    raise error
            self._answer(number, line).set_exception(error)
        elif "ok" in line:
            self._answer(line.get("id"), line).set_result(line["ok"])
        else:
            self._take(line)

    def _answer(self, number: Any, line: Dict[str, Any]) -> "asyncio.Future[Dict[str, Any]]":
        """Where the answer goes."""
        answer = self._asked.pop(number, None) if isinstance(number, int) else None
        if answer is None:
            raise ProtocolError(f"the service answered what was not asked: {line!r}")
        # Who asked may have been cancelled.
        return self._loop.create_future() if answer.done() else answer

    def _fail(self, error: Exception) -> None:
        if self.error is not None:
            return
        self.error = error
        # Who is in the middle of sending comes to an end by it, and the service does.
        self._shut_down()
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            if not answer.done():
                answer.set_exception(failure(error))
                # Who asked may have been cancelled: then nobody misses it.
                answer.exception()
        self._ended(error)

    def _shut_down(self) -> None:
        try:
            self._stream.shutdown(socket.SHUT_RDWR)
        except OSError:
            # It is over already.
            pass


def failure(error: Exception) -> Exception:
    """What a task is told that wanted something of a connection that is over for this reason."""
    return error if isinstance(error, (ServiceError, ProtocolError)) else ConnectionError(str(error))


def _rights(fd: int) -> "tuple[int, int, array.array[int]]":
    return socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd])
