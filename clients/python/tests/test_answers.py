"""Answers reach the task that sent the request, whatever else fails."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import socket
import subprocess
import sys
from typing import Any, List

import pytest

from exitring_client import Client, ProtocolError, ServiceError, Unwatched

from conftest import ROOT, Service, run
from fake import Connection, Fake, record


def test_answers_are_matched_by_their_id(tmp_path: pathlib.Path) -> None:
    async def backwards(connection: Connection) -> None:
        await connection.welcome()
        asked = [await connection.receive() for _ in range(10)]
        for request in reversed(asked):
            connection.send(id=request["id"], ok={"echo": request["number"]})
        await connection.receive()

    async def test() -> None:
        async with Fake(tmp_path, backwards) as fake, await Client.connect(fake.socket) as client:
            answers = await asyncio.gather(*(client.request(op="echo", number=number) for number in range(10)))
            assert [answer["echo"] for answer in answers] == list(range(10))

    run(test())


def test_an_answer_without_a_request_ends_the_connection(tmp_path: pathlib.Path) -> None:
    async def wrong(connection: Connection) -> None:
        await connection.welcome()
        await connection.receive()
        connection.send(id=12345, ok={})
        await connection.receive()

    async def test() -> None:
        async with Fake(tmp_path, wrong) as fake, await Client.connect(fake.socket) as client:
            with pytest.raises(ProtocolError):
                await client.stats()
            with pytest.raises(ProtocolError):
                await client.stats()

    run(test())


def test_events_of_later_versions_are_ignored(tmp_path: pathlib.Path) -> None:
    async def talkative(connection: Connection) -> None:
        subscribe = await connection.welcome()
        connection.send(caught_up=7)
        connection.send(news={"of": ["any", "kind"]})
        if subscribe["from"] == 5:
            connection.send(exit=record(7, 1))
        while True:
            request = await connection.receive()
            connection.send(caught_up=8)
            connection.send(id=request["id"], ok={"stats": {"op": request["op"]}})

    async def test() -> None:
        async with Fake(tmp_path, talkative) as fake, await Client.connect(fake.socket, subscribe_from=5) as client:
            assert (await client.stats())["op"] == "stats"
            first = await client.events().__anext__()
            assert getattr(first, "seq") == 7

    run(test())


#: Sends until the kernel permits no more descriptors in flight, as the service does not read. Then
#: the service continues.
FLOOD = """
import asyncio, errno, os, resource, signal, sys
from exitring_client import Client

async def main():
    service, path = int(sys.argv[1]), sys.argv[2]
    client = await Client.connect(path)
    if os.getuid() == 0:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)  # root has no such limit
    print("stop", flush=True)
    sys.stdin.readline()
    before = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    asking, own = [], os.pidfd_open(os.getpid())
    while not any(task.done() for task in asking):
        assert len(asking) < 1000
        asking.append(asyncio.create_task(client.watch(pidfd=own, tag=str(len(asking)))))
        await asyncio.sleep(0.001)
    stats = asyncio.create_task(client.stats())
    await asyncio.sleep(0.01)
    print("cont", flush=True)
    sys.stdin.readline()
    assert "watched" in await stats
    ends = await asyncio.gather(*asking, return_exceptions=True)
    failed = [end for end in ends if isinstance(end, OSError)]
    assert failed and all(end.errno == errno.ETOOMANYREFS for end in failed), failed
    right = [end for end in ends if not isinstance(end, BaseException)]
    assert len(right) + len(failed) == len(ends), ends
    assert all(watch.pid == os.getpid() for watch in right)
    assert client._connection.unanswered == 0
    os.close(own)
    assert len(os.listdir("/proc/self/fd")) == before
    print("done", len(failed), flush=True)
    await client.close()

asyncio.run(main())
"""


def test_a_request_that_cannot_be_sent_fails_alone(service: Service) -> None:
    assert service.process is not None
    path = {**os.environ, "PYTHONPATH": str(ROOT / "clients/python/src")}
    words = [sys.executable, "-c", FLOOD, str(service.process.pid), str(service.socket)]
    flood = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=path)
    assert flood.stdin is not None and flood.stdout is not None
    try:
        for word, number in (("stop", signal.SIGSTOP), ("cont", signal.SIGCONT)):
            assert flood.stdout.readline() == word + "\n"
            service.process.send_signal(number)
            flood.stdin.write("\n")
            flood.stdin.flush()
        assert flood.stdout.readline().startswith("done ")
        assert flood.wait(10) == 0
    finally:
        service.process.send_signal(signal.SIGCONT)
        flood.kill()
        flood.wait()
        flood.stdin.close()
        flood.stdout.close()


class Faulty(socket.socket):
    """A socket that, once armed, accepts ``takes`` bytes and then fails."""

    takes = -1

    def sendmsg(self, buffers: Any, *others: Any) -> int:
        if Faulty.takes < 0:
            return super().sendmsg(buffers, *others)
        if Faulty.takes == 0:
            raise OSError(105, "No buffer space available")
        part = bytes(buffers[0])[: Faulty.takes]
        Faulty.takes = 0
        return super().sendmsg([part], *others)


def test_half_a_request_ends_the_connection(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(Faulty, "takes", -1)
        monkeypatch.setattr("exitring_client._lines.socket.socket", Faulty)
        client = await Client.connect(service.socket)
        process = await client.spawn(["sleep", "60"])
        # Nothing was sent, so the connection stays usable.
        Faulty.takes = 0
        with pytest.raises(OSError, match="No buffer space") as alone:
            await client.stats()
        assert not isinstance(alone.value, ConnectionError)
        Faulty.takes = -1
        await client.stats()
        waiting = asyncio.ensure_future(process.wait())
        Faulty.takes = 10
        for ask in (client.stats(), client.stats(), waiting):
            with pytest.raises(ConnectionError, match="only in part.*No buffer space"):
                await ask
        Faulty.takes = -1
        await client.close()
        async with await Client.connect(service.socket) as again:
            await again.request(op="signal", watch=process.watch, signal=signal.SIGKILL)

    run(test())


def test_close_while_the_service_does_not_read(tmp_path: pathlib.Path) -> None:
    async def test() -> None:
        done = asyncio.Event()

        async def unresponsive(connection: Connection) -> None:
            await connection.welcome()
            connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await done.wait()

        async with Fake(tmp_path, unresponsive) as fake:
            client = await Client.connect(fake.socket)
            pidfd = os.pidfd_open(os.getpid())
            before = len(os.listdir("/proc/self/fd"))
            # More than the buffer of a socket holds.
            asking = [asyncio.ensure_future(client.watch(pidfd=pidfd, tag="x" * 60_000)) for _ in range(20)]
            for _ in range(100):
                await asyncio.sleep(0)
            await client.close()
            await client.close()
            for answer in await asyncio.gather(*asking, return_exceptions=True):
                assert isinstance(answer, ConnectionError)
            # The socket of the client and each copy of the descriptor are closed.
            assert len(os.listdir("/proc/self/fd")) == before - 1
            os.close(pidfd)
            done.set()

    run(test())


def test_a_refused_connection_raises_the_reason(service: Service) -> None:
    async def test() -> None:
        service.kill()
        service.start("--clients", "1")
        # The probe of the start may still be connected.
        while True:
            try:
                first = await Client.connect(service.socket)
                break
            except ServiceError:
                await asyncio.sleep(0.01)
        for _ in range(20):
            with pytest.raises(ServiceError) as refused:
                await Client.connect(service.socket)
            assert refused.value.code == "too_many_clients"
        await first.stats()
        await first.close()

    run(test())


def test_an_error_without_an_id_reaches_the_oldest_request(service: Service) -> None:
    async def test() -> None:
        deep: List[Any] = []
        for _ in range(30):
            deep = [deep]
        async with await Client.connect(service.socket) as client:
            asked = [client.stats(), client.request(op="list", after=deep), client.stats()]
            before, refused, after = await asyncio.gather(*asked, return_exceptions=True)
            assert isinstance(refused, ServiceError) and refused.code == "too_deep"
            assert isinstance(before, dict) and isinstance(after, dict)
            # The service closes the connection after this one, which later requests report.
            long, late = await asyncio.gather(client.spawn(["x" * 3_000_000]), client.stats(), return_exceptions=True)
            assert isinstance(long, ServiceError) and long.code == "line_too_long"
            assert isinstance(late, ConnectionError)

    run(test())


def test_contradictory_arguments_are_refused(service: Service) -> None:
    async def test() -> None:
        async with await Client.connect(service.socket) as client:
            pidfd = os.pidfd_open(os.getpid())
            with pytest.raises(ValueError, match="one of them"):
                await client.watch(os.getpid(), pidfd=pidfd)
            os.close(pidfd)
            with pytest.raises(OSError):
                await client.watch(pidfd=pidfd)
            with pytest.raises(ValueError, match="id"):
                await client.request(op="stats", id=1)
            assert await client.list() == []

    run(test())


def test_unwatch_raises_in_tasks_that_wait(service: Service) -> None:
    async def test() -> None:
        async with await Client.connect(service.socket) as client:
            child = subprocess.Popen(["sleep", "60"])
            try:
                watch = await client.watch(child.pid)
                waiting = [asyncio.ensure_future(watch.wait()) for _ in range(3)]
                await asyncio.sleep(0)
                await watch.unwatch()
                for end in await asyncio.gather(*waiting, return_exceptions=True):
                    assert isinstance(end, Unwatched)
                with pytest.raises(Unwatched):
                    await watch.wait()
                with pytest.raises(ServiceError):
                    await watch.unwatch()
            finally:
                child.kill()
                child.wait()

    run(test())


def test_connecting_waits_for_a_full_queue(tmp_path: pathlib.Path) -> None:
    async def test() -> None:
        path = tmp_path / "full"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(0)
            connecting = [asyncio.ensure_future(Client.connect(path)) for _ in range(4)]
            # One is in the queue, and has sent its hello; the others try again.
            await asyncio.sleep(0.05)
            assert not any(task.done() for task in connecting)

            async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await Connection(reader, writer).welcome()
                writer.close()

            server = await asyncio.start_unix_server(welcome, sock=listener)
            for client in await asyncio.gather(*connecting):
                await client.close()
            server.close()

    run(test())
