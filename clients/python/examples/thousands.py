"""Thousands of processes, awaited without asyncio's own child watching.

    exitring serve --socket /tmp/exitring.socket --state /tmp/exitring.state & python thousands.py
    /tmp/exitring.socket --count 5000              # started by the service python thousands.py
    /tmp/exitring.socket --count 5000 --way watch  # started here, and watched by the service

asyncio's watcher needs a thread or a descriptor for each child. Here one socket serves all of them.
With ``--way spawn`` the processes and their records outlive this program.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import secrets
import time

from exitring_client import Client

#: Requests in flight at a time.
AT_ONCE = 64


async def spawn(client: Client, count: int) -> int:
    """Have the service start and reap the processes. Their statuses come with the records."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(nth: int) -> bool:
        async with turn:
            process = await client.spawn(["sh", "-c", f"sleep 0.1; exit {nth % 200}"], tag=str(nth))
        ended = await process.wait()
        return ended.code == nth % 200 and ended.tag == str(nth)

    return sum(await asyncio.gather(*(one(nth) for nth in range(count))))


async def watch(client: Client, count: int) -> int:
    """Start children of this process.

    The service reports their ends, and this process reaps them.
    """

    async def one(nth: int) -> bool:
        pid = os.posix_spawnp("sh", ["sh", "-c", f"sleep 0.1; exit {nth % 200}"], os.environ)
        await (await client.watch(pid)).wait()
        _, status = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) == nth % 200

    # All are started and watched at the same time. This process waits for none of them before it
    # ends.
    return sum(await asyncio.gather(*(one(nth) for nth in range(count))))


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("socket")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--way", choices=["spawn", "watch"], default="spawn")
    options = parser.parse_args()
    start = time.monotonic()
    # Not the pid, which may be the same in two containers or namespaces.
    name = f"thousands-{secrets.token_hex(8)}"
    async with await Client.connect(options.socket, name) as client:
        right = await (spawn if options.way == "spawn" else watch)(client, options.count)
        await client.ack(2**63)
        seconds = time.monotonic() - start
        descriptors = len(os.listdir("/proc/self/fd"))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"{options.count} processes ({options.way}) in {seconds:.1f} s, {right} with the right status; "
        f"{descriptors} descriptors, {memory} MiB"
    )
    raise SystemExit(right != options.count)


if __name__ == "__main__":
    asyncio.run(main())
