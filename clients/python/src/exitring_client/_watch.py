"""A process that the service watches."""

from __future__ import annotations

import asyncio
from typing import Callable

from ._connection import Connection
from ._types import Exit


class Watch:
    """A process that the service watches, made by ``Client.watch`` and ``Client.spawn``."""

    def __init__(
        self,
        connection: Connection,
        forget: Callable[[int], None],
        watch: int,
        pid: int,
        exit: "asyncio.Future[Exit]",
    ) -> None:
        self._connection = connection
        self._forget = forget
        self._exit = exit
        #: The number of the watch.
        self.watch = watch
        self.pid = pid

    async def wait(self) -> Exit:
        """Wait for the process to end. Any number of tasks may call this, any number of times.

        Raises Unwatched if the watch was removed, ConnectionError if the connection was lost.
        """
        return await asyncio.shield(self._exit)

    async def signal(self, number: int, group: bool = False) -> None:
        """Send a signal to the process, or to the process group that it leads."""
        await self._connection.request({"op": "signal", "watch": self.watch, "signal": number, "group": group})

    async def unwatch(self) -> None:
        """Remove the watch: no exit will come, and ``wait`` raises Unwatched.

        Not for processes that the service started.
        """
        await self._connection.request({"op": "unwatch", "watch": self.watch})
        self._forget(self.watch)

    def __repr__(self) -> str:
        return f"Watch(watch={self.watch}, pid={self.pid})"
