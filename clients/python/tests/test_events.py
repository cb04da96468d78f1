"""Reading the log by events()."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import socket
from typing import Any, List, Optional

import pytest

from exitring_client import CgroupUsage, Client, Exit, ProtocolError, ServiceError
from exitring_client._lines import Lines

from conftest import Service, run
from fake import Connection, Fake, record


async def some(client: Client, count: int) -> List[int]:
    """The positions of the next ``count`` records, by an iteration that is left."""
    seen = []
    async for event in client.events():
        assert isinstance(event, Exit)
        seen.append(event.seq)
        if len(seen) == count:
            break
    return seen


async def run_some(client: Client, count: int) -> List[int]:
    """The positions of ``count`` processes that run one after the other."""
    return [(await (await client.spawn(["true"])).wait()).seq for _ in range(count)]


def test_what_a_cgroup_reported_is_in_the_exit() -> None:
    line = record(1, 2)
    assert Exit.of(line).cgroup is None
    assert Exit.of({**line, "cgroup": {"leftover": 2}}).cgroup == CgroupUsage(2)
    counted = {"leftover": 0, "peak_memory_bytes": 4096, "oom_kills": 1}
    assert Exit.of({**line, "cgroup": counted}).cgroup == CgroupUsage(0, 4096, 1)


def test_a_lost_connection_is_raised_each_time(service: Service) -> None:
    async def test() -> None:
        client = await Client.connect(service.socket, subscribe_from=0)
        seqs = await run_some(client, 2)
        seen: List[int] = []

        async def read() -> None:
            async for event in client.events():
                assert isinstance(event, Exit)
                seen.append(event.seq)

        reading = asyncio.ensure_future(read())
        while len(seen) < 2:
            await asyncio.sleep(0.001)
        service.kill()
        with pytest.raises(ConnectionError):
            await reading
        with pytest.raises(ConnectionError):
            await client.stats()
        # Without the socket no reconnection is possible, either.
        service.socket.unlink()
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(read(), 10)
        assert seen == seqs
        await client.close()

    run(test())


def test_close_ends_an_iteration(service: Service) -> None:
    async def test() -> None:
        client = await Client.connect(service.socket, subscribe_from=0)
        await run_some(client, 1)
        events = client.events()
        await events.__anext__()
        # It waits for the next record when the connection is closed.
        reading = asyncio.ensure_future(events.__anext__())
        await asyncio.sleep(0.01)
        await client.close()
        with pytest.raises(ConnectionError, match="closed"):
            await reading
        with pytest.raises(ConnectionError, match="closed"):
            await client.events().__anext__()

    run(test())


def test_a_new_iteration_continues(service: Service) -> None:
    async def test() -> None:
        async with await Client.connect(service.socket, subscribe_from=0) as client:
            seqs = await run_some(client, 6)
            assert await some(client, 2) == seqs[:2]
            assert await some(client, 3) == seqs[2:5]
            # An iteration that was left but not closed neither blocks the new one nor continues
            # beside it.
            left = client.events()
            assert getattr(await left.__anext__(), "seq") == seqs[5]
            more = await run_some(client, 3)
            assert await some(client, 1) == more[:1]
            with pytest.raises(RuntimeError, match="again"):
                await left.__anext__()
            assert await some(client, 2) == more[1:]

    run(test())


def test_without_a_position_it_begins_with_the_connection(service: Service) -> None:
    async def test() -> None:
        async with await Client.connect(service.socket) as before:
            await run_some(before, 3)
            async with await Client.connect(service.socket) as client:
                seqs = await run_some(before, 2)
                assert await some(client, 2) == seqs

    run(test())


def test_unread_records_stay_with_the_service(tmp_path: pathlib.Path) -> None:
    """32 MiB of records for a consumer that reads one, and then sends other requests."""
    total = 32 * 2**20
    sent = 0
    sender: Optional[Connection] = None

    async def test() -> None:
        gone = asyncio.Event()

        async def serve(connection: Connection) -> None:
            nonlocal sent, sender
            subscribe = await connection.welcome()
            if subscribe["id"] != "subscribe":
                while True:
                    connection.send(id=(await connection.receive())["id"], ok={"stats": {}})
            sender = connection
            line = record(0, 1, "x" * 1000)
            text = [json.dumps({"exit": {**line, "seq": seq}}) + "\n" for seq in range(1, total // 1000 + 1)]
            # In one piece, because the loop's buffer is slow with many.
            sent = connection.send_text("".join(text).encode())
            # It reads the end, or a broken pipe, once the consumer has left.
            try:
                await connection.receive()
            except (EOFError, ConnectionError):
                gone.set()

        async with Fake(tmp_path, serve) as fake, await Client.connect(fake.socket, subscribe_from=0) as client:
            async for _ in client.events():
                # If the client read ahead, each turn of the loop would read another 200 kB.
                for _ in range(500):
                    await client.stats()
                assert sender is not None
                taken = sent - sender.writer.transport.get_write_buffer_size()
                assert sent >= total and 1000 <= taken < 2 * 2**20
                break
            await asyncio.wait_for(gone.wait(), 10)
            # The iteration was left, and none of its records is in memory.
            assert client._events._stream is None and not client._waiting

    run(test())


def test_other_tasks_run_while_data_keeps_coming(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        # All data is there before the first read, so that no read waits.
        monkeypatch.setattr("exitring_client._lines._READ_BYTES", 100)
        here, there = socket.socketpair()
        with here, there:
            here.setblocking(False)
            there.sendall((b"x" * 99 + b"\n") * 500)
            turns = 0

            async def other() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            beside = asyncio.ensure_future(other())
            lines = Lines(here)
            for _ in range(500):
                assert await lines.some() == [b"x" * 99]
            beside.cancel()
            assert turns >= 499

    run(test())


def test_another_service_on_the_same_path_is_refused(service: Service) -> None:
    async def test() -> None:
        async with await Client.connect(service.socket, subscribe_from=0) as client:
            other = Service(service.directory / "other")
            other.directory.mkdir()
            other.start()
            try:
                os.rename(other.socket, service.socket)
                with pytest.raises(ConnectionError, match="not the service"):
                    await client.events().__anext__()
                # The first service still answers.
                await client.stats()
            finally:
                other.kill()

    run(test())


def test_refused_events_raise_the_reason(service: Service) -> None:
    async def test() -> None:
        service.kill()
        service.start("--clients", "1")
        while True:
            try:
                client = await Client.connect(service.socket)
                break
            except ServiceError:
                await asyncio.sleep(0.01)
        with pytest.raises(ServiceError) as refused:
            await client.events().__anext__()
        assert refused.value.code == "too_many_clients"
        await client.stats()
        await client.close()

    run(test())


@pytest.mark.parametrize("line", [{"exit": {"seq": 1}}, {"lost": 3}, {"exit": {**record(1, 1), "outcome": 3}}])
def test_a_malformed_record_is_an_error(tmp_path: pathlib.Path, line: Any) -> None:
    async def serve(connection: Connection) -> None:
        subscribe = await connection.welcome()
        if subscribe["id"] == "subscribe":
            connection.send(**line)
        await connection.receive()

    async def test() -> None:
        async with Fake(tmp_path, serve) as fake, await Client.connect(fake.socket, subscribe_from=0) as client:
            with pytest.raises(ProtocolError):
                await client.events().__anext__()

    run(test())


def test_ack_every_requires_reading_from_the_start(service: Service) -> None:
    async def test() -> None:
        for place in (None, 1, 7):
            with pytest.raises(ValueError, match="subscribe_from=0"):
                await Client.connect(service.socket, subscribe_from=place, ack_every=1)
        with pytest.raises(ValueError):
            await Client.connect(service.socket, subscribe_from=0, ack_every=-1)

    run(test())


def test_processed_records_are_acknowledged(service: Service) -> None:
    async def test() -> None:
        async with await Client.connect(service.socket, "me") as client:
            seqs = await run_some(client, 7)
        async with await Client.connect(service.socket, "me", subscribe_from=0, ack_every=2) as client:
            # The consumer left before it asked for the fifth, so the fourth may not be processed.
            assert await some(client, 4) == seqs[:4]
            async with await Client.connect(service.socket, "me", subscribe_from=0) as late:
                assert await some(late, 5) == seqs[2:]
            # Records that come while nobody reads are not acknowledged.
            seqs += await run_some(client, 5)
            async with await Client.connect(service.socket, "me", subscribe_from=0) as late:
                assert await some(late, 10) == seqs[2:]
            # Reading on acknowledges the fourth.
            assert await some(client, 2) == seqs[4:6]
            async with await Client.connect(service.socket, "me", subscribe_from=0) as late:
                assert await some(late, 7) == seqs[5:]

    run(test())
