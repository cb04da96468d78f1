"""Workers and the server are killed at random while they run a list."""

import random
import time

from checks import Faults, check
from server import PATIENCE, Queue, Server, uptime
from workload import Workload


class Workers:
    """Workers that are started again when they end before the run does."""

    def __init__(self, queue, directory, count, at_once, faults):
        self.queue, self.faults = queue, faults
        self.errors, self.options = f"{directory}/workers.log", ["-q", f"-j{at_once}"]
        self.processes = [self.spawn() for _ in range(count)]
        self.killed = 0

    def spawn(self):
        process = self.queue.worker(self.errors, *self.options)
        self.faults.workers.add(process.pid)
        return process

    def kill(self, index):
        process = self.processes[index]
        if process.poll() is not None:
            return
        process.kill()
        process.wait()
        self.faults.killed_workers[process.pid] = uptime()
        self.killed += 1
        self.processes[index] = self.spawn()

    def look(self):
        """Starts workers again that found no server. Returns whether all have ended after the last job."""
        for index, process in enumerate(self.processes):
            code = process.poll()
            if code == 3:
                self.processes[index] = self.spawn()
            elif code not in (None, 0, 1):
                raise RuntimeError(f"a worker ended with {code}: see {self.errors}")
        return all(process.poll() in (0, 1) for process in self.processes)

    def stop(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def kills(options, program, directory):
    """Returns a text, and what is wrong."""
    chance = random.Random(options.seed)
    server = Server(program, directory)
    server.start()
    faults = Faults(server_kills=server.kills)
    queue = Queue(options.exitring, server, "kills")
    workload = Workload(directory, options.jobs, every=50, long=0.5, short=0)
    workers = None
    try:
        workload.submit(queue, "--lease", f"{options.kill_lease}s", "--max-lost", "100")
        start = time.monotonic()
        workers = Workers(queue, directory, 3, options.at_once, faults)
        next_kill, deck = start + options.period / 2, []
        # Afterwards the run goes on undisturbed.
        quiet, end = start + options.seconds, start + options.seconds + PATIENCE + 2 * options.kill_lease
        while not workers.look():
            now = time.monotonic()
            if now > end:
                raise TimeoutError(f"the run is not complete: {queue.status()}")
            if next_kill <= now < quiet:
                # A third of the kills is the server's, and one of the first three.
                deck = deck or chance.sample(["server", "worker", "worker"], 3)
                if deck.pop() == "server":
                    server.kill()
                    time.sleep(chance.uniform(0, 0.5))
                    server.start()
                else:
                    workers.kill(chance.randrange(3))
                next_kill = time.monotonic() + chance.uniform(0.5, 1.5) * options.period
            time.sleep(0.02)
        seconds = time.monotonic() - start
        text, wrong = check(workload, queue.records(), faults)
        if not (workers.killed and server.kills):
            wrong.append("the list was too short for kills of workers and of the server: see --jobs")
        text += f"\n  servers killed at {server.kills}" if options.keep else ""
        done = f"{options.jobs} jobs in {seconds:.1f} s, {workers.killed} workers and {len(server.kills)} servers killed"
        return f"{done}: {text}", wrong
    finally:
        if workers:
            workers.stop()
        server.stop()
