"""A connection that matches answers to requests."""

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
    """A stream that many tasks send requests on. The ``id`` assigns each answer to its request.

    ``take`` is called with each line that is not an answer, ``ended`` once, with the reason why no
    more lines come.
    """

    def __init__(
        self, stream: socket.socket, take: Callable[[Dict[str, Any]], None], ended: Callable[[Exception], None]
    ) -> None:
        self._stream = stream
        self._take = take
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        #: The futures of the answers, in the order of the requests.
        self._pending: Dict[int, "asyncio.Future[Dict[str, Any]]"] = {}
        self._sending = asyncio.Lock()
        self._senders: Set["asyncio.Task[None]"] = set()
        #: Why the connection has ended, if it has.
        self.error: Optional[Exception] = None
        self._reading = self._loop.create_task(self._read())

    @property
    def unanswered(self) -> int:
        """How many requests have no answer yet."""
        return len(self._pending)

    async def request(self, fields: Mapping[str, Any], pidfd: Optional[int] = None) -> Dict[str, Any]:
        """Send a request, and return the ``ok`` of the answer."""
        if "id" in fields:
            raise ValueError("the client numbers its requests itself: leave out the id")
        self.check()
        number = next(self._ids)
        # The id comes first, so that the service can read it even if the rest of the line is not
        # JSON.
        line = json.dumps({"id": number, **fields}, separators=(",", ":")).encode() + b"\n"
        answer: "asyncio.Future[Dict[str, Any]]" = self._loop.create_future()
        # The caller may be cancelled and close the descriptor. The send goes on, as half a line
        # would break the connection.
        copy = None if pidfd is None else os.dup(pidfd)
        sending = self._loop.create_task(self._send(number, line, copy, answer))
        self._senders.add(sending)

        def sent(task: "asyncio.Task[None]") -> None:
            # Here, and not in the task, which runs no code if it is cancelled before it begins.
            if copy is not None:
                os.close(copy)
            self._senders.discard(task)
            if not task.cancelled():
                # Marks the exception as retrieved, in case the caller was cancelled.
                task.exception()

        sending.add_done_callback(sent)
        await asyncio.shield(sending)
        return await answer

    def check(self) -> None:
        """Raise the reason if the connection has ended."""
        if self.error is not None:
            raise failure(self.error)

    async def close(self) -> None:
        """Close the connection. Requests without an answer raise ConnectionError."""
        self._reading.cancel()
        self._fail(ConnectionError("the connection was closed"))
        try:
            # Senders are not cancelled, because the tasks that await them would be, too. The
            # shutdown of the stream ends them.
            await asyncio.gather(self._reading, *self._senders, return_exceptions=True)
        finally:
            if self._stream.fileno() >= 0:
                # If this task was cancelled, too, a sender may still wait for the stream.
                self._loop.remove_writer(self._stream)
                self._stream.close()

    async def _send(
        self, number: int, line: bytes, pidfd: Optional[int], answer: "asyncio.Future[Dict[str, Any]]"
    ) -> None:
        async with self._sending:
            self.check()
            # Before the send, because the answer may be read before this task continues.
            self._pending[number] = answer
            sent = 0
            while sent < len(line):
                # The descriptor goes with the first byte.
                passed = [] if sent or pidfd is None else [_rights(pidfd)]
                try:
                    sent += self._stream.sendmsg([memoryview(line)[sent:]], passed, socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    await self._writable()
                except ConnectionError:
                    # The service is gone. It may have sent the reason (too many clients, a line
                    # that is too long), so the reader reads on to the end of the stream, and then
                    # fails all requests.
                    self._shut_down()
                    return
                except OSError as error:
                    if sent == 0:
                        # Nothing was sent. ETOOMANYREFS, for example, reports too many descriptors
                        # in flight.
                        self._pending.pop(number, None)
                        raise
                    # Half a line was sent, so the service would misread every later request.
                    self._fail(ConnectionError(f"a request was sent only in part: {error}"))
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
                raise ProtocolError(f"the service sent {line!r}") from wrong
            number = line.get("id")
            if number is None:
                # The service could not read the id. Answers come in the order of the requests, so
                # it is the oldest.
                number = next(iter(self._pending), None)
                if number is None:
                    # No request was sent: the service has refused the connection.
                    raise error
            self._answer(number, line).set_exception(error)
        elif "ok" in line:
            self._answer(line.get("id"), line).set_result(line["ok"])
        else:
            self._take(line)

    def _answer(self, number: Any, line: Dict[str, Any]) -> "asyncio.Future[Dict[str, Any]]":
        """Return the future of the request that a line answers."""
        answer = self._pending.pop(number, None) if isinstance(number, int) else None
        if answer is None:
            raise ProtocolError(f"the service answered a request that was not sent: {line!r}")
        # The caller may have been cancelled.
        return self._loop.create_future() if answer.done() else answer

    def _fail(self, error: Exception) -> None:
        if self.error is not None:
            return
        self.error = error
        # This ends senders that wait for the stream, and tells the service.
        self._shut_down()
        asked, self._pending = self._pending, {}
        for answer in asked.values():
            if not answer.done():
                answer.set_exception(failure(error))
                # Marks the exception as retrieved, in case the caller was cancelled.
                answer.exception()
        self._ended(error)

    def _shut_down(self) -> None:
        try:
            self._stream.shutdown(socket.SHUT_RDWR)
        except OSError:
            # It is shut down already.
            pass


def failure(error: Exception) -> Exception:
    """Return the exception for requests on a connection that has ended with ``error``."""
    return error if isinstance(error, (ServiceError, ProtocolError)) else ConnectionError(str(error))


def _rights(fd: int) -> "tuple[int, int, array.array[int]]":
    return socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd])
