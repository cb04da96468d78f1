"""A client of the service: its requests, its watches, and its events."""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import Any, AsyncIterator, Dict, List, Mapping, Optional, Sequence, Type, Union

from ._connection import Connection, failure
from ._errors import Unwatched
from ._events import Events
from ._lines import Path, connect
from ._types import VERSION, CgroupLimits, Exit, Limit, Lost, Welcome, event
from ._watch import Watch

#: How many exits of unknown watches are kept. The exit of a watch may come before the answer that
#: names the watch.
_EARLY_MAX = 65_536


class Client:
    """A client of the service, made by ``connect``.

    Many tasks may send requests at the same time.
    """

    _connection: Connection
    _events: Events
    #: The answer of the service to the hello.
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
        """Connect, with ``client`` as the name of the client.

        ``events`` begins with the next exit, or at the position ``subscribe_from`` in the log (0:
        all records that are kept). With ``ack_every`` it acknowledges the records that it has
        yielded, that many at a time. An acknowledgement covers all older records, too, so
        ``ack_every`` requires ``subscribe_from=0``.
        """
        if ack_every < 0:
            raise ValueError("ack_every is how many records are acknowledged at a time, or 0")
        if ack_every and subscribe_from != 0:
            raise ValueError("ack_every acknowledges all older records, too: read them with subscribe_from=0")
        this = cls(ack_every)
        this._connection = Connection(await connect(path), this._take, this._ended)
        try:
            name: Dict[str, Any] = {"client": client} if client else {}
            hello = await this.request(op="hello", version=VERSION, **name)
            this.welcome = Welcome(**hello["hello"])
            # For Watch.wait. A position beyond the end of the log stands for its end.
            end = (await this.request(op="subscribe", **{"from": 2**64 - 1}))["subscribed"]
            this._events = Events(path, client, this.welcome, end if subscribe_from is None else subscribe_from)
        except BaseException:
            await this.close()
            raise
        return this

    async def request(self, *, pidfd: Optional[int] = None, **fields: Any) -> Dict[str, Any]:
        """Send any request of docs/PROTOCOL.md, and return the ``ok`` of the answer.

        Raises ServiceError if the service refuses the request, ConnectionError if the service is
        gone, and another OSError if the request could not be sent: then the service has not
        received it, and the connection stays usable.
        """
        return await self._connection.request(fields, pidfd)

    async def watch(
        self, pid: Optional[int] = None, *, pidfd: Optional[int] = None, tag: str = "", until: str = "exited"
    ) -> Watch:
        """Watch a process by its pid, or by a pidfd, which the caller still owns.

        With ``until="reaped"`` the exit comes when the parent has reaped the process, with its
        status.
        """
        if pid is not None and pidfd is not None:
            raise ValueError("a pid and a pidfd may belong to two processes: give one of them")
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
        limits: Optional[Mapping[str, Limit]] = None,
        nice: Optional[int] = None,
        umask: Optional[int] = None,
        cgroup: Optional[CgroupLimits] = None,
        tag: str = "",
    ) -> Watch:
        """Start a process as a child of the service. ``timeout`` and ``grace`` are in seconds.

        ``limits`` has resource limits by their names in docs/PROTOCOL.md, such as
        ``{"nofile": Limit(hard=256)}``. Only root may raise hard limits or lower the nice value.
        With ``cgroup`` the process has a cgroup of its own, all of which a timeout kills, if the
        service has one to offer.
        """
        fields: Dict[str, Any] = {"argv": list(argv), "tag": tag}
        if env is not None:
            fields["env"] = dict(env)
        paths = {"cwd": cwd, "stdin": stdin, "stdout": stdout, "stderr": stderr}
        fields.update({name: os.fspath(path) for name, path in paths.items() if path is not None})
        if timeout is not None:
            fields["timeout_ms"] = round(timeout * 1000)
        if grace is not None:
            fields["grace_ms"] = round(grace * 1000)
        if limits is not None:
            fields["limits"] = {name: limit.fields() for name, limit in limits.items()}
        if nice is not None:
            fields["nice"] = nice
        if umask is not None:
            fields["umask"] = umask
        if cgroup is not None:
            fields["cgroup"] = cgroup.fields()
        return self._watched(await self.request(op="spawn", **fields))

    async def list(self) -> List[Dict[str, Any]]:
        """Return all live watches."""
        live: List[Dict[str, Any]] = []
        while True:
            after = live[-1]["watch"] if live else 0
            page = (await self.request(op="list", after=after))["live"]
            live.extend(page["watches"])
            if not page["more"]:
                return live

    async def ack(self, upto: int) -> int:
        """Acknowledge the records up to and including this position in the log.

        Returns how many the service dropped.
        """
        acked: int = (await self.request(op="ack", upto=upto))["acked"]
        return acked

    async def stats(self) -> Dict[str, Any]:
        """Return counts of the service."""
        stats: Dict[str, Any] = (await self.request(op="stats"))["stats"]
        return stats

    async def events(self) -> AsyncIterator[Union[Exit, Lost]]:
        """Yield the records from ``subscribe_from`` on, then new ones as they come, without an end.

        Raises ConnectionError when the connection is lost or closed. A new call, after an error or
        a ``break``, continues after the last record that was yielded; an older iteration that is
        still in use then raises RuntimeError. Each iteration has a connection of its own to the
        same path, so a slow reader delays no request, and unread records stay in the log of the
        service. For ``ack_every`` a record is processed when the next one is requested.
        """
        self._connection.check()
        reading = self._events.read()
        try:
            async for item in reading:
                yield item
                if isinstance(item, Exit) and self._ack_every:
                    self._unacked += 1
                    if self._unacked >= self._ack_every:
                        await self.ack(item.seq)
                        self._unacked = 0
        finally:
            # Now, and not when the garbage collector finds it.
            await reading.aclose()

    async def close(self) -> None:
        """Close the connection. The watches stay with the service."""
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
        return Watch(self._connection, self._forget, number, watched["pid"], exit)

    def _forget(self, watch: int) -> None:
        future = self._waiting.pop(watch, None)
        if future is not None:
            _end(future, Unwatched(f"watch {watch} was removed by unwatch()"))

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
            # Of another client, or too old: its answer would have come.
            del self._early[next(iter(self._early))]

    def _ended(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            _end(future, failure(error))
        # The connection may end during connect(), before there are events.
        if hasattr(self, "_events"):
            self._events.end(failure(error))


def _end(future: "asyncio.Future[Exit]", error: Exception) -> None:
    future.set_exception(error)
    # Marks the exception as retrieved, in case no task waits for it.
    future.exception()
