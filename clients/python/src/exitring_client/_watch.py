"""A process being watched."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ._types import Exit

if TYPE_CHECKING:
    from ._client import Client


class Watch:
    """A process being watched."""

    def __init__(self, client: "Client", watch: int, pid: int, exit: "asyncio.Future[Exit]") -> None:
        self._client = client
        self._exit = exit
        #: Its number with the service.
        self.watch = watch
        self.pid = pid

    async def wait(self) -> Exit:
        """How it ended, once it has. May be called any number of times, by any number of tasks.

        Raises Unwatched if the watch was given up, ConnectionError if the connection was lost.
        """
        return await asyncio.shield(self._exit)

    async def signal(self, number: int, group: bool = False) -> None:
        """Sends it a signal, or the process group that it leads."""
        await self._client.request(op="signal", watch=self.watch, signal=number, group=group)

    async def unwatch(self) -> None:
        """Forgets it: no exit will come, and who waits is told so by Unwatched. Not for what the service has started."""
        await self._client.request(op="unwatch", watch=self.watch)
        self._client._forget(self.watch)

    def __repr__(self) -> str:
        return f"Watch(watch={self.watch}, pid={self.pid})"
