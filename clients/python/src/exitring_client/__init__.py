"""Asyncio client of ``exitring serve``.

    async with await Client.connect("/run/exitring/socket") as client:
        process = await client.spawn(["sh", "-c", "exit 3"])
        exit = await process.wait()
        assert exit.returncode == 3

Pure Python, no dependencies. The protocol is in docs/PROTOCOL.md.
"""

from ._client import Client
from ._errors import ProtocolError, ServiceError, Unwatched
from ._types import CgroupLimits, CgroupUsage, Exit, Limit, Lost, Usage, Welcome
from ._watch import Watch

__all__ = [
    "CgroupLimits",
    "CgroupUsage",
    "Client",
    "Exit",
    "Limit",
    "Lost",
    "ProtocolError",
    "ServiceError",
    "Unwatched",
    "Usage",
    "Watch",
    "Welcome",
]
__version__ = "0.1.0"
