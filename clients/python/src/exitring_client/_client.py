"""A connection to the service."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import deque
from types import TracebackType
from typing import Any, AsyncIterator, Deque, Dict, List, Mapping, Optional, Sequence, Type, Union

from ._types import Exit, Lost, ProtocolError, ServiceError, Welcome

VERSION = 1

#: Lines of the service are longer than its clients' (a page of watches is one).
_LINE_MAX = 16 * 1024 * 1024
#: Exits whose watch nobody has asked for yet: an answer may come after the exit it is about.
_EARLY_MAX = 65_536

_Path = Union[str, "os.PathLike[str]"]


class Watch:
    """A process being watched."""

    def __init__(self, client: "Client", watch: int, pid: int, exit: "asyncio.Future[Exit]") -> None:
        self._client = client
        self._exit = exit
        #: Its number with the service.
        self.watch = watch
        self.pid = pid

    async def wait(self) -> Exit:
        """How it ended, once it has. May be called any number of times, by any number of tasks."""
        return await asyncio.shield(self._exit)

    async def signal(self, number: int, group: bool = False) -> None:
        """Sends it a signal, or the process group that it leads."""
        await self._client.request(op="signal", watch=self.watch, signal=number, group=group)

    async def unwatch(self) -> None:
        """Forgets it: no exit will come. Not for what the service has started."""
        await self._client.request(op="unwatch", watch=self.watch)
        self._client._forget(self.watch)

    def __repr__(self) -> str:
        return f"Watch(watch={self.watch}, pid={self.pid})"


class Client:
    """A connection to the service. Requests may be made by many tasks at once; they are sent together and answered in order."""

    def __init__(self, stream: socket.socket) -> None:
        self._socket = stream
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()
        self._asked: Deque["asyncio.Future[Dict[str, Any]]"] = deque()
        self._waiting: Dict[int, "asyncio.Future[Exit]"] = {}
        self._early: Dict[int, Exit] = {}
        self._events: Optional["asyncio.Queue[Union[Exit, Lost, None]]"] = None
        self._error: Optional[BaseException] = None
        self._reading: Optional["asyncio.Task[None]"] = None
        self._unacked = 0
        self._last_seq = 0
        self._welcome: Optional[Welcome] = None
        self.ack_every = 0

    @classmethod
    async def connect(
        cls,
        path: _Path,
        client: Optional[str] = None,
        *,
        subscribe_from: Optional[int] = None,
        ack_every: int = 0,
    ) -> "Client":
        """Connects, says hello in the name of ``client``, and subscribes to exits: to those that are to come, or from a
        place in the log on (0: all that are kept), which are to be read by ``events``. With ``ack_every`` those that have come are acknowledged every so many.
        """
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            stream.setblocking(False)
            await asyncio.get_running_loop().sock_connect(stream, os.fspath(path))
            this = cls(stream)
        except BaseException:
            stream.close()
            raise
        this.ack_every = ack_every
        this._reading = asyncio.create_task(this._read())
        try:
            name: Dict[str, Any] = {"client": client} if client else {}
            hello = await this.request(op="hello", version=VERSION, **name)
            this._welcome = Welcome(**hello["hello"])
            if subscribe_from is not None:
                # They may come with the answer.
                this._events = asyncio.Queue()
            place = 2**64 - 1 if subscribe_from is None else subscribe_from
            await this.request(op="subscribe", **{"from": place})
        except BaseException:
            await this.close()
            raise
        return this

    @property
    def welcome(self) -> Welcome:
        """What the service said to the hello."""
        assert self._welcome is not None
        return self._welcome

    async def request(self, *, pidfd: Optional[int] = None, **fields: Any) -> Dict[str, Any]:
        """Asks for anything, as docs/PROTOCOL.md has it, and gives the ``ok`` of the answer.

        Raises ServiceError if it was refused, ConnectionError if the service is gone.
        """
        line = json.dumps(fields, separators=(",", ":")).encode() + b"\n"
        answer: "asyncio.Future[Dict[str, Any]]" = self._loop.create_future()
        # The caller may be cancelled, and the descriptor closed; half a line would spoil the connection.
        copy = None if pidfd is None else os.dup(pidfd)
        await asyncio.shield(asyncio.ensure_future(self._send(line, copy, answer)))
        return await answer

    async def _send(self, line: bytes, pidfd: Optional[int], answer: "asyncio.Future[Dict[str, Any]]") -> None:
        try:
            async with self._sending:
                if self._error is not None:
                    answer.set_exception(self._failure(self._error))
                    return
                # Answers come in the order of the requests.
                self._asked.append(answer)
                if pidfd is not None:
                    line = line[await self._send_with(line, pidfd) :]
                await self._loop.sock_sendall(self._socket, line)
        except OSError:
            # Who was turned away at the door has an answer waiting all the same: what is wrong is told by who reads.
            pass
        finally:
            if pidfd is not None:
                os.close(pidfd)

    async def watch(
        self, pid: Optional[int] = None, *, pidfd: Optional[int] = None, tag: str = "", until: str = "exited"
    ) -> Watch:
        """Watches a process by its pid, or by a pidfd, which stays the caller's. ``until="reaped"`` tells the status, once its
        parent has reaped it."""
        fields: Dict[str, Any] = {"tag": tag, "until": until}
        if pid is not None:
            fields["pid"] = pid
        return self._watched(await self.request(op="watch", pidfd=pidfd, **fields))

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Optional[Mapping[str, str]] = None,
        cwd: Optional[_Path] = None,
        stdin: Optional[_Path] = None,
        stdout: Optional[_Path] = None,
        stderr: Optional[_Path] = None,
        timeout: Optional[float] = None,
        grace: Optional[float] = None,
        tag: str = "",
    ) -> Watch:
        """Starts a process as a child of the service's. Times are in seconds."""
        fields: Dict[str, Any] = {"argv": list(argv), "tag": tag}
        if env is not None:
            fields["env"] = dict(env)
        paths = {"cwd": cwd, "stdin": stdin, "stdout": stdout, "stderr": stderr}
        fields.update({name: os.fspath(path) for name, path in paths.items() if path is not None})
        if timeout is not None:
            fields["timeout_ms"] = round(timeout * 1000)
        if grace is not None:
            fields["grace_ms"] = round(grace * 1000)
        return self._watched(await self.request(op="spawn", **fields))

    async def list(self) -> List[Dict[str, Any]]:
        """All live watches."""
        live: List[Dict[str, Any]] = []
        while True:
            after = live[-1]["watch"] if live else 0
            page = (await self.request(op="list", after=after))["live"]
            live.extend(page["watches"])
            if not page["more"]:
                return live

    async def ack(self, upto: int) -> int:
        """Says that records up to this place in the log are not needed any more. How many there were."""
        acked: int = (await self.request(op="ack", upto=upto))["acked"]
        return acked

    async def stats(self) -> Dict[str, Any]:
        """How the service is."""
        stats: Dict[str, Any] = (await self.request(op="stats"))["stats"]
        return stats

    async def events(self) -> AsyncIterator[Union[Exit, Lost]]:
        """All that the subscription brings from now on, until the connection ends. For one task."""
        if self._events is None:
            self._events = asyncio.Queue()
            if self._error is not None:
                self._events.put_nowait(None)
        while True:
            event = await self._events.get()
            if event is None:
                return
            yield event

    async def close(self) -> None:
        """Ends the connection; what the service watches is watched on."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._fail(ConnectionError("the connection was closed"))
        self._socket.close()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await self.close()

    def _watched(self, answer: Dict[str, Any]) -> Watch:
        watched = answer["watched"]
        number: int = watched["watch"]
        exit: "asyncio.Future[Exit]" = self._loop.create_future()
        early = self._early.pop(number, None)
        if early is not None:
            exit.set_result(early)
        elif self._error is not None:
            exit.set_exception(self._failure(self._error))
        else:
            self._waiting[number] = exit
        return Watch(self, number, watched["pid"], exit)

    @staticmethod
    def _failure(error: BaseException) -> BaseException:
        return error if isinstance(error, ServiceError) else ConnectionError(str(error))

    def _forget(self, watch: int) -> None:
        future = self._waiting.pop(watch, None)
        if future is not None:
            future.cancel()

    async def _send_with(self, line: bytes, pidfd: int) -> int:
        while True:
            try:
                return socket.send_fds(self._socket, [line], [pidfd])
            except BlockingIOError:
                writable = self._loop.create_future()
                self._loop.add_writer(self._socket, writable.set_result, None)
                try:
                    await writable
                finally:
                    self._loop.remove_writer(self._socket)

    async def _read(self) -> None:
        buffer = bytearray()
        try:
            while True:
                chunk = await self._loop.sock_recv(self._socket, 256 * 1024)
                if not chunk:
                    raise ConnectionError("the service closed the connection")
                buffer += chunk
                end = buffer.rfind(b"\n") + 1
                if end == 0 and len(buffer) > _LINE_MAX:
                    raise ProtocolError("the service's line has no end")
                for line in bytes(buffer[:end]).splitlines():
                    self._take(json.loads(line))
                del buffer[:end]
                if self.ack_every and self._unacked >= self.ack_every:
                    self._unacked = 0
                    acknowledging = asyncio.create_task(self.ack(self._last_seq))
                    acknowledging.add_done_callback(lambda task: task.cancelled() or task.exception())
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._fail(error)

    def _take(self, line: Dict[str, Any]) -> None:
        if "exit" in line:
            self._take_exit(Exit.of(line["exit"]))
        elif "lost" in line:
            lost = line["lost"]
            if self._events is not None:
                self._events.put_nowait(Lost(lost["from"], lost["to"], lost["count"]))
        elif "error" in line:
            error = ServiceError(line["error"]["code"], line["error"]["message"])
            if not self._asked:
                raise error
            self._settle(error=error)
        elif "ok" in line and self._asked:
            self._settle(ok=line["ok"])
        else:
            raise ProtocolError(f"the service said {line!r}")

    def _settle(self, ok: Optional[Dict[str, Any]] = None, error: Optional[ServiceError] = None) -> None:
        answer = self._asked.popleft()
        # Who asked may have been cancelled.
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(ok or {})

    def _take_exit(self, exit: Exit) -> None:
        self._last_seq = exit.seq
        self._unacked += 1
        future = self._waiting.pop(exit.watch, None)
        if future is not None:
            if not future.done():
                future.set_result(exit)
        else:
            self._early[exit.watch] = exit
            if len(self._early) > _EARLY_MAX:
                # Somebody else's, or of long ago: answers do not take so long.
                del self._early[next(iter(self._early))]
        if self._events is not None:
            self._events.put_nowait(exit)

    def _fail(self, error: BaseException) -> None:
        if self._error is not None:
            return
        self._error = error
        for answer in self._asked:
            if not answer.done():
                answer.set_exception(self._failure(error))
        self._asked.clear()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(self._failure(error))
                # Nobody may be waiting: then nobody misses it.
                future.exception()
        self._waiting.clear()
        if self._events is not None:
            self._events.put_nowait(None)
