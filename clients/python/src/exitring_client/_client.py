"""A client of the service."""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import Any, AsyncIterator, Dict, List, Mapping, Optional, Sequence, Type, Union

from ._connection import Connection, failure
from ._errors import Unwatched
from ._events import Events
from ._lines import Path, connect
from ._types import VERSION, Exit, Lost, Welcome, event
from ._watch import Watch

#: Exits whose watch nobody has asked for yet: an answer may come after the exit it is about.
_EARLY_MAX = 65_536


class Client:
    """A client of the service, to be had by ``connect``. Requests may be made by many tasks at once."""

    _connection: Connection
    _events: Events
    #: What the service said to the hello.
    welcome: Welcome

    def __init__(self, ack_every: int) -> None:
        self._waiting: Dict[int, "asyncio.Future[Exit]"] = {}
        self._early: Dict[int, Exit] = {}
        self._ack_every = ack_every
        self._unacked = 0

    @classmethod
    async def connect(
        cls,
        path: Path,
        client: Optional[str] = None,
        *,
        subscribe_from: Optional[int] = None,
        ack_every: int = 0,
    ) -> "Client":
        """Connects, and says hello in the name of ``client``.

        ``events`` begins with what ends from here on, or at a place in the log (0: all that is kept). With ``ack_every``
        it acknowledges what it has given, every so many; that says that all before is done with, too, and therefore is only
        for who reads from the start, ``subscribe_from=0``.
        """
        if ack_every < 0:
            raise ValueError("ack_every is how many records are acknowledged at a time, or 0")
        if ack_every and subscribe_from != 0:
            raise ValueError("ack_every acknowledges all older records, too: read them, by subscribe_from=0")
        this = cls(ack_every)
        this._connection = Connection(await connect(path), this._take, this._ended)
        try:
            name: Dict[str, Any] = {"client": client} if client else {}
            hello = await this.request(op="hello", version=VERSION, **name)
            this.welcome = Welcome(**hello["hello"])
            # For those who wait. A place beyond the end is the end.
            end = (await this.request(op="subscribe", **{"from": 2**64 - 1}))["subscribed"]
            this._events = Events(path, client, this.welcome, end if subscribe_from is None else subscribe_from)
        except BaseException:
            await this.close()
            raise
        return this

    async def request(self, *, pidfd: Optional[int] = None, **fields: Any) -> Dict[str, Any]:
        """Asks for anything, as docs/PROTOCOL.md has it, and gives the ``ok`` of the answer.

        Raises ServiceError if it was refused, ConnectionError if the service is gone, another OSError if it could not be
        sent: then the service does not have it, and the connection goes on.
        """
        return await self._connection.request(fields, pidfd)

    async def watch(
        self, pid: Optional[int] = None, *, pidfd: Optional[int] = None, tag: str = "", until: str = "exited"
    ) -> Watch:
        """Watches a process by its pid, or by a pidfd, which stays the caller's. ``until="reaped"`` tells the status, once its
        parent has reaped it."""
        if pid is not None and pidfd is not None:
            raise ValueError("a pid and a pidfd: give one of them, as they may be of two processes")
        fields: Dict[str, Any] = {"tag": tag, "until": until}
        if pid is not None:
            fields["pid"] = pid
        return self._watched(await self.request(op="watch", pidfd=pidfd, **fields))

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Optional[Mapping[str, str]] = None,
        cwd: Optional[Path] = None,
        stdin: Optional[Path] = None,
        stdout: Optional[Path] = None,
        stderr: Optional[Path] = None,
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
        """The records from the place on that ``connect`` was given, and those to come, without an end.

        Raises ConnectionError when the connection is lost or closed. Called again, after that or after ``break``, it goes on
        after the last record that it gave; an iteration that is under way elsewhere then raises RuntimeError. It has a
        connection of its own (to the same path), so who reads slowly delays nobody, and what is not read stays in the
        service's log. A record counts as done with, for ``ack_every``, when the next is asked for.
        """
        self._connection.check()
        reading = self._events.read()
        try:
            async for said in reading:
                yield said
                if isinstance(said, Exit) and self._ack_every:
                    self._unacked += 1
                    if self._unacked >= self._ack_every:
                        await self.ack(said.seq)
                        self._unacked = 0
        finally:
            # With this one, and not when it is collected.
            await reading.aclose()

    async def close(self) -> None:
        """Ends the connection; what the service watches is watched on."""
        await self._connection.close()

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
        exit: "asyncio.Future[Exit]" = asyncio.get_running_loop().create_future()
        early = self._early.pop(number, None)
        if early is not None:
            exit.set_result(early)
        elif self._connection.error is not None:
            _end(exit, failure(self._connection.error))
        else:
            self._waiting[number] = exit
        return Watch(self, number, watched["pid"], exit)

    def _forget(self, watch: int) -> None:
        future = self._waiting.pop(watch, None)
        if future is not None:
            _end(future, Unwatched(f"watch {watch} was given up by unwatch()"))

    def _take(self, line: Dict[str, Any]) -> None:
        exit = event(line)
        if not isinstance(exit, Exit):
            return
        future = self._waiting.pop(exit.watch, None)
        if future is not None:
            future.set_result(exit)
            return
        self._early[exit.watch] = exit
        if len(self._early) > _EARLY_MAX:
            # Somebody else's, or of long ago: answers do not take so long.
            del self._early[next(iter(self._early))]

    def _ended(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            _end(future, failure(error))
        # It may have ended in the middle of connect().
        if hasattr(self, "_events"):
            self._events.end(failure(error))


def _end(future: "asyncio.Future[Exit]", error: Exception) -> None:
    future.set_exception(error)
    # Nobody may be waiting: then nobody misses it.
    future.exception()
