"""A worker is cut off from the network, with a server and workers in network namespaces of their own.

The server and a bridge are in one namespace. Each worker has a namespace with one end of a pair of interfaces, the other
end of which is a port of the bridge. A worker is cut off when its port is taken out of the bridge: packets are lost in
both directions, and no end gets an error.
"""

import datetime
import os
import subprocess
import time

from checks import Faults, check
from server import PATIENCE, Queue, Server, uptime, wait_until
from workload import Workload


class Network:
    """Namespaces, which are removed at the end."""

    def __init__(self, workers):
        self.name, self.workers = f"exitring-{os.getpid()}", workers

    def hub(self):
        return f"{self.name}-hub"

    def host(self, worker):
        return f"{self.name}-{worker}"

    def __enter__(self):
        self.ip("netns", "add", self.hub())
        # Otherwise the address of the bridge, which is the server's, is the lowest one of its ports. It changes when the
        # port that has it is taken out, and all workers are cut off until they ask for it again.
        bridge = "link add bridge address 02:00:00:00:00:01 type bridge"
        for command in ("link set lo up", bridge, "addr add 10.99.0.1/24 dev bridge", "link set bridge up"):
            self.ip("-n", self.hub(), *command.split())
        for worker in range(self.workers):
            host, port = self.host(worker), f"port{worker}"
            self.ip("netns", "add", host)
            self.ip("-n", self.hub(), *f"link add {port} type veth peer name net netns {host}".split())
            self.ip("-n", self.hub(), *f"link set {port} master bridge up".split())
            for command in ("link set lo up", f"addr add 10.99.0.{worker + 2}/24 dev net", "link set net up"):
                self.ip("-n", host, *command.split())
        return self

    def __exit__(self, *_):
        # Interfaces end with their namespaces.
        for name in [self.hub()] + [self.host(worker) for worker in range(self.workers)]:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, check=False)

    def cut(self, worker):
        self.ip("-n", self.hub(), "link", "set", f"port{worker}", "nomaster")

    def heal(self, worker):
        self.ip("-n", self.hub(), "link", "set", f"port{worker}", "master", "bridge")

    @staticmethod
    def ip(*words):
        subprocess.run(["ip", *words], check=True)

    @staticmethod
    def inside(name):
        return ["ip", "netns", "exec", name]


def partition(options, program, directory):
    """Returns a text, and what is wrong."""
    with Network(3) as network:
        server = Server(program, directory, "10.99.0.1", network.inside(network.hub()))
        workers = []
        try:
            server.start()
            return run(options, network, server, workers, directory)
        finally:
            for worker in workers:
                if worker.poll() is None:
                    worker.kill()
                    worker.wait()
            server.stop()


def run(options, network, server, workers, directory):
    # A long job outlives its lease.
    long, at_once = 1.5 * options.lease, options.at_once
    workload = Workload(directory, 300, every=20, long=long, short=0.02)
    observer = Queue(options.exitring, server, "partition", network.inside(network.hub()))
    workload.submit(observer, "--lease", f"{options.lease}s")
    for worker in range(3):
        queue = Queue(options.exitring, server, "partition", network.inside(network.host(worker)))
        workers.append(queue.worker(f"{directory}/worker{worker}.log", f"-j{at_once}"))
    victim = workers[0].pid
    faults = Faults(workers={worker.pid for worker in workers})

    def running():
        """Long jobs that the first worker runs."""
        executions = workload.executions()
        return [
            job
            for job in range(workload.every, workload.jobs + 1, workload.every)
            if any(run.worker == victim and run.end is None for run in executions[job])
        ]

    jobs = wait_until("long job", running)
    network.cut(0)
    cut, start = uptime(), time.monotonic()
    cut_at = datetime.datetime.now(datetime.UTC)

    def replaced():
        """All of these have a result of another worker."""
        records = observer.records()
        return set(jobs) <= {record["job"] for record in records}

    wait_until("result of another worker", replaced, PATIENCE + 2 * options.lease + long)
    time.sleep(max(0, start + options.cut - time.monotonic()))
    alone = [job for job in jobs if any(run.worker == victim and run.end for run in workload.executions()[job])]
    network.heal(0)
    healed = uptime()
    faults.cut_workers[victim] = cut, healed
    codes = [worker.wait(PATIENCE + long) for worker in workers]

    records = observer.records()
    text, wrong = check(workload, records, faults)
    wrong += [f"worker {index} ended with {code}" for index, code in enumerate(codes) if code not in (0, 1)]
    late = {record["job"] for record in records if not record["accepted"]}
    wrong += [f"job {job}: it did not go on on the cut side" for job in jobs if job not in alone]
    late_starts = held_up(records, cut_at, options.lease)
    wrong += [f"job {job}: the network held it up, and it started after its lease" for job in late_starts]
    wrong += [f"job {job}: the late result is not there, or accepted" for job in alone if job not in late]
    cut_text = f"300 jobs, one of 3 workers cut off for {healed - cut:.1f} s (lease {options.lease:g} s)"
    return f"{cut_text}: {len(alone)} of its {len(jobs)} long jobs went on to their ends, all results late; {text}", wrong


def held_up(records, cut_at, lease):
    """Jobs that started when their leases were over: the job was delivered again before."""
    accepted = {record["job"]: record["delivery"] for record in records if record["accepted"]}
    late = cut_at + datetime.timedelta(seconds=lease)
    for record in records:
        started = datetime.datetime.fromisoformat(record["started_at"])
        if record["delivery"] < accepted.get(record["job"], 0) and started > late:
            yield record["job"]
