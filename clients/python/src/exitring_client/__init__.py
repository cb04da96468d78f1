"""Asyncio client of ``exitring serve``.

    async with await Client.connect("/run/exitring/socket") as client:
        process = await client.spawn(["sh", "-c", "exit 3"])
        exit = await process.wait()
        assert exit.returncode == 3

Pure Python, no dependencies. The protocol is in docs/PROTOCOL.md.
"""

from ._client import Client, Watch
from ._types import (
    Exit,
    Lost,
    ProtocolError,
    ServiceError,
    Usage,
    Welcome,
)

__all__ = [
    "Client",
    "Exit",
    "Lost",
    "ProtocolError",
    "ServiceError",
    "Usage",
    "Watch",
    "Welcome",
]
__version__ = "0.1.0"
