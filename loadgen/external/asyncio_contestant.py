"""Python's asyncio as a contestant.

The first line of output is "ready". Each line of standard input is a spawn request: a slot and the
words of the command, separated by tabs. Each further line of standard output is an exit: slot, pid,
exit code, the time when the exit was known, in nanoseconds of CLOCK_MONOTONIC, and the number of
bytes that the child wrote, if LOADGEN_CAPTURE is set.
"""

import asyncio
import os
import sys
import time

CAPTURE = "LOADGEN_CAPTURE" in os.environ


class Exits:
    """Writes the exits of one iteration of the event loop together."""

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
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE if CAPTURE else None,
    )
    output = b""
    if CAPTURE:
        output, _ = await child.communicate()
    code = await child.wait()
    now = time.monotonic_ns()
    exits.add(f"{slot} {child.pid} {code} {now} {len(output)}\n")


async def main():
    loop = asyncio.get_running_loop()
    requests = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    exits, tasks = Exits(), set()
    print("ready", flush=True)
    while line := await requests.readline():
        slot, *command = line.decode().rstrip("\n").split("\t")
        task = asyncio.create_task(watch(slot, command, exits))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


# Before Python 3.12, pidfds are not the default.
if sys.version_info < (3, 12):
    asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
asyncio.run(main())
