"""A service for each test, on a socket of its own."""

from __future__ import annotations

import asyncio
import os
import pathlib
import subprocess
import time
from typing import Any, Coroutine, Iterator, List, Optional

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROGRAM = pathlib.Path(os.environ.get("EXITRING", ROOT / "target/debug/exitring"))


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


class Service:
    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.socket = directory / "socket"
        self.process: Optional["subprocess.Popen[bytes]"] = None

    def start(self, *arguments: str) -> None:
        words: List[str] = ["serve", "--socket", str(self.socket), "--state", str(self.directory / "state")]
        environment = {**os.environ, "RUST_LOG": "error"}
        self.process = subprocess.Popen([str(PROGRAM), *words, *arguments], env=environment)
        end = time.monotonic() + 30
        while not self._answers():
            assert self.process.poll() is None, "the service does not start"
            assert time.monotonic() < end, "the service does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        import socket

        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
            return True


@pytest.fixture
def service(tmp_path: pathlib.Path) -> Iterator[Service]:
    assert PROGRAM.exists(), f"{PROGRAM} does not exist: cargo build -p exitring-cli"
    service = Service(tmp_path)
    service.start()
    yield service
    service.kill()
