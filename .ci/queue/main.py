"""Runs the scenarios of .ci/steps/queue."""

import argparse
import random
import shutil
import sys
import tempfile
import time

from kills import kills
from partition import partition
from server import Server
from speed import speed


def parse():
    parser = argparse.ArgumentParser(prog=".ci/steps/queue")
    parser.add_argument("--exitring", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--server", action="append", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=["kills", "partition"], help="one of the scenarios")
    parser.add_argument("--version", help="only servers whose version begins with this")
    parser.add_argument("--jobs", type=int, default=3000, help="jobs of the scenario with kills")
    parser.add_argument("--seconds", type=float, default=20, help="kills go on for this long at most")
    parser.add_argument("--period", type=float, default=1.2, help="seconds between kills, on average")
    parser.add_argument("--kill-lease", type=float, default=2, help="seconds of the lease with kills")
    parser.add_argument("--at-once", type=int, default=4, help="jobs of a worker at a time")
    parser.add_argument("--lease", type=float, default=2, help="seconds of the lease with a partition")
    parser.add_argument("--cut", type=float, default=6, help="seconds of the partition, at least")
    parser.add_argument("--seed", type=int, default=None, help="for the random choices")
    parser.add_argument("--keep", action="store_true", help="keep the files of a scenario")
    parser.add_argument("--speed", action="store_true", help="measure")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the measurement")
    parser.add_argument("--speed-jobs", type=int, default=20000, help="jobs of a round")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.randrange(2**32)
    return options


def main():
    options = parse()
    scenarios = {"kills": kills, "partition": partition}
    if options.only:
        scenarios = {options.only: scenarios[options.only]}
    failed = False
    for program in options.server:
        version = Server(program, ".").version()
        if options.version and not version.startswith(options.version):
            continue
        if options.speed:
            with tempfile.TemporaryDirectory(prefix="exitring-queue-") as directory:
                speed(options, program, version, directory)
            continue
        for name, scenario in scenarios.items():
            start = time.monotonic()
            directory = tempfile.mkdtemp(prefix="exitring-queue-")
            text, wrong = scenario(options, program, directory)
            print(f"nats-server {version}, {name} ({time.monotonic() - start:.1f} s): {text}", flush=True)
            for line in wrong[:20]:
                print(f"  WRONG: {line}", flush=True)
            failed |= bool(wrong)
            if wrong or options.keep:
                print(f"  {len(wrong)} wrong; seed {options.seed}; files in {directory}", flush=True)
            else:
                shutil.rmtree(directory, ignore_errors=True)
    sys.exit(1 if failed else 0)


main()
