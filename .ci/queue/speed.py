"""Jobs a second of three workers, beside `exitring run` and HyperQueue, and the memory of a worker.

Rounds alternate between the programs, since the speed of a machine changes. Each runs /bin/true, as many at a time.
"""

import os
import statistics
import subprocess
import time
from pathlib import Path

from server import Queue, Server, rss_mib, wait_until

WORKERS = 3
# HyperQueue gets fewer jobs, because it starts fewer a second.
HYPERQUEUE_PART = 10
SUBMITTED = 100_000


def speed(options, program, version, directory):
    at_once = options.at_once
    server = Server(program, directory)
    server.start()
    try:
        contestants = {
            "exitring run": lambda _: run(options, WORKERS * at_once),
            "queue": lambda turn: workers(options, Queue(options.exitring, server, f"speed{turn}"), at_once, directory),
            "HyperQueue": lambda _: hyperqueue(options.speed_jobs // HYPERQUEUE_PART, WORKERS * at_once),
        }
        rates = {name: [] for name in contestants}
        for turn in range(options.rounds + 1):
            for name, contestant in contestants.items():
                rate = contestant(turn)
                # The first round warms up.
                if turn:
                    rates[name].append(rate)
        medians = {name: statistics.median(values) for name, values in rates.items()}
        print(
            f"nats-server {version}: {options.rounds} rounds of {options.speed_jobs} times /bin/true, "
            f"{WORKERS} workers, {at_once} at a time each; load {os.getloadavg()[0]:.1f}"
        )
        for name, values in rates.items():
            print(f"  {name}: {medians[name]:.0f} jobs/s ({min(values):.0f} to {max(values):.0f})")
        ratios = [queue / alone for queue, alone in zip(rates["queue"], rates["exitring run"])]
        of_medians = medians["queue"] / medians["exitring run"]
        print(f"  queue / exitring run: {statistics.median(ratios):.2f} (of the medians: {of_medians:.2f})")
        print(f"  queue / HyperQueue: {medians['queue'] / medians['HyperQueue']:.1f}", flush=True)
        memory(Queue(options.exitring, server, "memory"), at_once, directory)
    finally:
        server.stop()


def jobs_file(directory, count):
    path = Path(directory) / f"jobs{count}"
    path.write_text("/bin/true\n" * count)
    return str(path)


def run(options, at_once):
    command = [options.exitring, "run", "-q", f"-j{at_once}", "-"]
    start = time.monotonic()
    subprocess.run(command, input="/bin/true\n" * options.speed_jobs, text=True, check=True)
    return options.speed_jobs / (time.monotonic() - start)


def workers(options, queue, at_once, directory):
    """From the start of the workers to the end of the last one."""
    queue.call("submit", "-q", jobs_file(directory, options.speed_jobs))
    start = time.monotonic()
    processes = [queue.worker(f"{directory}/speed.log", "-q", f"-j{at_once}") for _ in range(WORKERS)]
    codes = [process.wait() for process in processes]
    seconds = time.monotonic() - start
    assert codes == [0] * WORKERS, codes
    queue.call("queue delete")
    return options.speed_jobs / seconds


def hyperqueue(count, at_once):
    from hyperqueue import Job, LocalCluster
    from hyperqueue.cluster import WorkerConfig

    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=at_once))
        client = cluster.client()
        job = Job()
        for _ in range(count):
            # Without files for output.
            job.program(["/bin/true"], stdout=None, stderr=None)
        start = time.monotonic()
        client.wait_for_jobs([client.submit(job)])
        return count / (time.monotonic() - start)


def memory(queue, at_once, directory):
    """The time of a submission, and the memory of a worker from its start to its end."""
    jobs = jobs_file(directory, SUBMITTED)
    start = time.monotonic()
    queue.call("submit", "-q", jobs)
    print(f"  {SUBMITTED} jobs submitted in {time.monotonic() - start:.1f} s")
    processes = [queue.worker(f"{directory}/speed.log", "-q", f"-j{at_once}") for _ in range(WORKERS)]
    start, samples = time.monotonic(), []
    for tenth in range(1, 10):
        wait_until("progress", lambda: queue.status()["done"] >= SUBMITTED * tenth // 10, 600)
        if processes[0].poll() is None:
            samples.append(rss_mib(processes[0].pid))
    for process in processes:
        process.wait()
    rate = SUBMITTED / (time.monotonic() - start)
    shown = " ".join(f"{mib:.1f}" for mib in samples)
    print(f"  {SUBMITTED} jobs: {rate:.0f} jobs/s; MiB of a worker at each tenth: {shown}; of the server: {queue.server.rss_mib():.0f}")
