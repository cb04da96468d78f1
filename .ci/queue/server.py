"""A NATS server with a file store, and the commands of exitring that use it."""

import json
import os
import subprocess
import time
from pathlib import Path

# The longest wait for a server, a command, or a state.
PATIENCE = 120


def wait_until(what, condition, patience=PATIENCE):
    """Waits for a condition, and returns its value."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} after {patience} s")
        time.sleep(0.05)
    return value


def uptime():
    """The clock of /proc/uptime, which jobs read."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Server:
    """A server on a port of its choice, which it keeps when it starts again."""

    def __init__(self, program, directory, host="127.0.0.1", prefix=()):
        self.program, self.directory, self.host, self.prefix = program, Path(directory), host, list(prefix)
        self.port = -1
        self.process = None
        # Times of kills.
        self.kills = []

    def version(self):
        return subprocess.check_output([self.program, "--version"], text=True).split()[-1].removeprefix("v")

    def start(self):
        ports = self.directory / "ports"
        ports.mkdir(exist_ok=True)
        for old in ports.iterdir():
            old.unlink()
        config = self.directory / "server.conf"
        config.write_text(
            f'listen: "{self.host}:{self.port}"\nports_file_dir: "{ports}"\n'
            f'jetstream {{ store_dir: "{self.directory}/store" }}\n'
        )
        command = self.prefix + [self.program, "-c", str(config), "-l", str(self.directory / "server.log")]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        files = wait_until("file of ports", lambda: list(ports.glob("*.ports")))
        urls = wait_until("ports", lambda: read_json(files[0]))["nats"]
        self.port = int(urls[0].rsplit(":", 1)[1])

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.kills.append(uptime())

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def rss_mib(self):
        return rss_mib(self.process.pid)


class Queue:
    """A run on a server, for one host."""

    def __init__(self, exitring, server, run, prefix=()):
        self.exitring, self.server, self.run, self.prefix = exitring, server, run, list(prefix)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("NATS_")}

    def command(self, *words):
        """A subcommand, whose last words are options and arguments."""
        subcommand, options = words[0], words[1:]
        url = f"nats://{self.server.host}:{self.server.port}/{self.run}"
        return self.prefix + [self.exitring, *subcommand.split(), "--queue", url, *options]

    def call(self, *words, codes=(0,), stdin=None):
        """The standard output of a subcommand."""
        done = subprocess.run(
            self.command(*words), input=stdin, capture_output=True, text=True, timeout=PATIENCE, env=self.environment
        )
        if done.returncode not in codes:
            raise RuntimeError(f"{words}: exit code {done.returncode}: {done.stderr}")
        return done.stdout

    def worker(self, errors, *options):
        return subprocess.Popen(
            self.command("run", *options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=open(errors, "ab"),
            env=self.environment,
        )

    def records(self):
        return [json.loads(line) for line in self.call("results", "--output", "jsonl", codes=(0, 1)).splitlines()]

    def status(self):
        return json.loads(self.call("queue status", "--json"))


def read_json(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def rss_mib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0
