"""Jobs whose executions can be counted from outside: each appends its start and its end to a file."""

import collections
import signal
from pathlib import Path

# Arguments: the number, the file, the period of long jobs, and how long these and the others sleep. A line of a few bytes
# that is appended with one write is whole. The clock is that of the kernel, which has a resolution of 10 ms.
SCRIPT = """#!/bin/sh
read now rest </proc/uptime
echo "start $1 $now $PPID" >>"$2"
if [ $(($1 % $3)) = 0 ]; then sleep "$4"; elif [ "$5" != 0 ]; then sleep "$5"; fi
read now rest </proc/uptime
echo "end $1 $now $PPID" >>"$2"
if [ $(($1 % 97)) = 0 ]; then kill -KILL $$; fi
if [ $(($1 % 7)) = 0 ]; then exit $((1 + $1 % 99)); fi
"""


def expected(job):
    """The exit code and the signal of a job."""
    if job % 97 == 0:
        return None, signal.SIGKILL
    return (1 + job % 99 if job % 7 == 0 else 0), None


class Execution:
    """One execution of a job, by the worker with a pid."""

    def __init__(self, start, worker):
        self.start, self.worker, self.end = start, worker, None

    def __str__(self):
        return f"{self.start} to {self.end} by {self.worker}"


class Workload:
    def __init__(self, directory, jobs, every, long, short):
        self.directory, self.jobs, self.every, self.long, self.short = Path(directory), jobs, every, long, short
        self.script, self.log = self.directory / "job", self.directory / "executions"
        self.script.write_text(SCRIPT)
        self.script.chmod(0o755)
        self.log.touch()

    def submit(self, queue, *options):
        template = [str(self.script), "{}", str(self.log), str(self.every), str(self.long), str(self.short)]
        numbers = "".join(f"{job}\n" for job in range(1, self.jobs + 1))
        queue.call("submit", "--quiet", *options, "-", "--", *template, stdin=numbers)

    def executions(self):
        """The executions of each job, in the order of their starts."""
        executions = collections.defaultdict(list)
        for line in self.log.read_text().splitlines():
            what, job, time, worker = line.split()
            job, time, worker = int(job), float(time), int(worker)
            if what == "start":
                executions[job].append(Execution(time, worker))
            else:
                self.end_of(executions[job], worker).end = time
        return executions

    @staticmethod
    def end_of(executions, worker):
        # A job whose worker was killed has another parent at its end: it is the first that has not ended.
        running = [execution for execution in executions if execution.end is None]
        own = [execution for execution in running if execution.worker == worker]
        return (own or running)[0]

    def leftovers(self):
        """Processes of jobs that still run."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(self.script).encode() in words:
                found.append(int(process.name))
        return found
