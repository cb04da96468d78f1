"""Python's asyncio as a contestant.

Told on standard input what to start, one line each: a slot, and the words of the command, between tabs. Tells on
standard output of each exit: slot, pid, exit code, and the moment at which it knew, in nanoseconds of
CLOCK_MONOTONIC. Before all that it says that it is ready.
"""

import asyncio
import sys
import time


class Exits:
    """Those of one turn of the event loop are written together."""

    def __init__(self):
        self.lines = []

    def add(self, line):
        if not self.lines:
            asyncio.get_running_loop().call_soon(self.flush)
        self.lines.append(line)

    def flush(self):
        sys.stdout.write("".join(self.lines))
        sys.stdout.flush()
        self.lines.clear()


async def watch(slot, command, exits):
    child = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    code = await child.wait()
    now = time.monotonic_ns()
    exits.add(f"{slot} {child.pid} {code} {now}\n")


async def main():
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    exits, tasks = Exits(), set()
    print("ready", flush=True)
    while line := await orders.readline():
        slot, *command = line.decode().rstrip("\n").split("\t")
        task = asyncio.create_task(watch(slot, command, exits))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


# The best it has: from 3.12 on pidfds are what it uses anyway.
if sys.version_info < (3, 12):
    asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
asyncio.run(main())
