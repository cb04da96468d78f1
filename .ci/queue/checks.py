"""What has to hold after a run, whatever has happened to its workers and its server."""

import collections
import datetime
from dataclasses import dataclass, field

from workload import expected

# Jobs that ran again for another reason than a killed worker, as they are printed.
DETAILS_MAX = 12
# The seconds from the end of a job until its result is stored, when its worker has to connect again.
RESULT_DELAY_MAX = 20


@dataclass
class Faults:
    """What was done, by the clock of /proc/uptime."""

    # The pids of all workers.
    workers: set = field(default_factory=set)
    # When a worker was killed, by its pid.
    killed_workers: dict = field(default_factory=dict)
    server_kills: list = field(default_factory=list)
    # When a worker was cut off, and until when, by its pid.
    cut_workers: dict = field(default_factory=dict)


def reason(before, after, faults, lost):
    """Why an execution was followed by another one of the same job. `None`: there is no reason."""
    killed = faults.killed_workers.get(before.worker)
    if killed is not None and killed <= after.start + 0.01:
        return "worker killed"
    # It was killed before its job had looked who its parent is. The other execution may have been faster.
    orphaned = {before.worker, after.worker} - faults.workers
    if orphaned and any(kill <= after.start + 0.01 for kill in faults.killed_workers.values()):
        return "worker killed"
    cut, healed = faults.cut_workers.get(before.worker, (None, None))
    if cut is not None and before.start <= healed and after.start >= cut - 0.01:
        return "worker cut off"
    # A worker starts jobs until it notices that the connection is lost.
    if any(before.start - 0.5 <= kill <= after.start + 0.01 for kill in faults.server_kills):
        return "server killed"
    # For instance the worker got no processor for the time of its lease.
    return "lease lost by its record" if lost else None


def check(workload, records, faults):
    """Returns a text about the records and executions, and what is wrong."""
    wrong = []
    accepted, extra, lost = {}, 0, set()
    for record in records:
        job = record["job"]
        if record["lost"] > 0:
            lost.add(job)
        if not record["accepted"]:
            extra += 1
            if job not in accepted:
                wrong.append(f"job {job}: a record that is not accepted comes before the one that is")
        elif job in accepted:
            wrong.append(f"job {job}: two accepted records")
        else:
            accepted[job] = record
    firsts = dict(accepted)
    for job in range(1, workload.jobs + 1):
        record = accepted.pop(job, None)
        if record is None:
            wrong.append(f"job {job}: no accepted record")
        elif (record["exit_code"], record["signal"]) != expected(job):
            status = [record[field] for field in ("outcome", "exit_code", "signal", "reason")]
            wrong.append(f"job {job}: its status is {status}")
    wrong += [f"job {job}: it is not in the list" for job in accepted]

    for record in records:
        first = firsts.get(record["job"])
        if not record["accepted"] and first and seconds_between(first, record) > RESULT_DELAY_MAX:
            wrong.append(f"job {record['job']}: it ran again although it had a result: {show(records, record['job'])}")
    executions = workload.executions()
    with_record = collections.Counter(record["job"] for record in records)
    reasons = collections.Counter()
    details = []
    for job in range(1, workload.jobs + 1):
        runs = executions[job]
        if not runs:
            wrong.append(f"job {job}: it has not run")
        # A worker that lives stores each result, however late.
        alive = [run for run in runs if run.worker in faults.workers and run.worker not in faults.killed_workers]
        if len(alive) > with_record[job]:
            wrong.append(f"job {job}: {with_record[job]} records of {len(alive)} executions by workers that lived on")
        for before, after in zip(runs, runs[1:]):
            why = reason(before, after, faults, job in lost)
            if why is None:
                wrong.append(f"job {job}: it ran again at {after.start} although the lease of {before.start} was not lost")
            reasons[why] += 1
            if why not in ("worker killed", "worker cut off"):
                details.append(f"job {job}: {before}, then {after}: {why}; {show(records, job)}")
    wrong += [f"job {job} of {len(executions)}: unknown" for job in executions if not 1 <= job <= workload.jobs]
    left = workload.leftovers()
    if left:
        wrong.append(f"processes of jobs are left: {left}")

    total = sum(len(runs) for runs in executions.values())
    twice = ", ".join(f"{count} {why}" for why, count in reasons.most_common())
    text = f"{len(records) - extra} accepted records and {extra} others; {total} executions"
    if reasons:
        text += f", again: {twice}"
    return text + "".join(f"\n  {line}" for line in details[:DETAILS_MAX]), wrong


def seconds_between(first, second):
    """From the end of a record to the start of another one."""
    start, other = (datetime.datetime.fromisoformat(record["started_at"]) for record in (first, second))
    return (other - start).total_seconds() - first["wall_seconds"]


def show(records, job):
    fields = ("worker", "delivery", "lost", "started_at", "wall_seconds", "accepted")
    return [[record[field] for field in fields] for record in records if record["job"] == job]
