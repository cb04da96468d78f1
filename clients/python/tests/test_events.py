"""The log, read by events()."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import socket
from typing import Any, List, Optional

import pytest

from exitring_client import Client, Exit, ProtocolError, ServiceError
from exitring_client._lines import Lines

from conftest import Service, run
from fake import Connection, Fake, record


async def some(client: Client, count: int) -> List[int]:
    """The next so many, by an iteration that is left."""
    seen = []
    async for event in client.events():
        assert isinstance(event, Exit)
        seen.append(event.seq)
        if len(seen) == count:
            break
    return seen


async def ended(client: Client, count: int) -> List[int]:
    """The places of so many processes, one after the other."""
    return [(await (await client.spawn(["true"])).wait()).seq for _ in range(count)]


def test_a_lost_connection_is_raised_each_time(service: Service) -> None:
    async def test() -> None:
        client = await Client.connect(service.socket, subscribe_from=0)
        seqs = await ended(client, 2)
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
        # There is nothing left to connect to, either.
        service.socket.unlink()
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(read(), 10)
        assert seen == seqs
        await client.close()

    run(test())


def test_close_is_raised(service: Service) -> None:
    async def test() -> None:
        client = await Client.connect(service.socket, subscribe_from=0)
        await ended(client, 1)
        events = client.events()
        await events.__anext__()
        # It waits for another when the connection is closed.
        reading = asyncio.ensure_future(events.__anext__())
        await asyncio.sleep(0.01)
        await client.close()
        with pytest.raises(ConnectionError, match="closed"):
            await reading
        with pytest.raises(ConnectionError, match="closed"):
            await client.events().__anext__()

    run(test())


def test_iterated_again_it_goes_on(service: Service) -> None:
    async def test() -> None:
        async with await Client.connect(service.socket, subscribe_from=0) as client:
            seqs = await ended(client, 6)
            assert await some(client, 2) == seqs[:2]
            assert await some(client, 3) == seqs[2:5]
            # One that was left, and not closed, does not stand in the way, and does not go on beside.
            left = client.events()
            assert getattr(await left.__anext__(), "seq") == seqs[5]
            more = await ended(client, 3)
            assert await some(client, 1) == more[:1]
            with pytest.raises(RuntimeError, match="again"):
                await left.__anext__()
            assert await some(client, 2) == more[1:]

    run(test())


def test_without_a_place_it_begins_with_the_connection(service: Service) -> None:
    async def test() -> None:
        async with await Client.connect(service.socket) as before:
            await ended(before, 3)
            async with await Client.connect(service.socket) as client:
                seqs = await ended(before, 2)
                assert await some(client, 2) == seqs

    run(test())


def test_what_is_not_read_stays_with_the_service(tmp_path: pathlib.Path) -> None:
    """32 MiB of records for a consumer that takes one, and asks for other things instead of more."""
    total = 32 * 2**20
    said = 0
    speaker: Optional[Connection] = None

    async def test() -> None:
        gone = asyncio.Event()

        async def serve(connection: Connection) -> None:
            nonlocal said, speaker
            subscribe = await connection.welcome()
            if subscribe["id"] != "subscribe":
                while True:
                    connection.say(id=(await connection.hear())["id"], ok={"stats": {}})
            speaker = connection
            line = record(0, 1, "x" * 1000)
            text = [json.dumps({"exit": {**line, "seq": seq}}) + "\n" for seq in range(1, total // 1000 + 1)]
            # In one piece: the loop's buffer is slow with many.
            said = connection.say_text("".join(text).encode())
            # It reads the end, or a broken pipe, once who reads has left.
            try:
                await connection.hear()
            except (EOFError, ConnectionError):
                gone.set()

        async with Fake(tmp_path, serve) as fake, await Client.connect(fake.socket, subscribe_from=0) as client:
            async for _ in client.events():
                # With the client's reader on its own, each turn of the loop would take another 200 kB.
                for _ in range(500):
                    await client.stats()
                assert speaker is not None
                taken = said - speaker.writer.transport.get_write_buffer_size()
                assert said >= total and 1000 <= taken < 2 * 2**20
                break
            await asyncio.wait_for(gone.wait(), 10)
            # It is left, and nothing of it is kept.
            assert client._events._stream is None and not client._waiting

    run(test())


def test_the_others_have_their_turn_while_much_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        # All is there before it is read, and no read of it has to wait.
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
            other = Service(service.folder / "other")
            other.folder.mkdir()
            other.start()
            try:
                os.rename(other.socket, service.socket)
                with pytest.raises(ConnectionError, match="not the service"):
                    await client.events().__anext__()
                # The first is there still.
                await client.stats()
            finally:
                other.kill()

    run(test())


def test_events_that_are_refused_say_why(service: Service) -> None:
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
def test_a_record_that_is_none_is_told(tmp_path: pathlib.Path, line: Any) -> None:
    async def serve(connection: Connection) -> None:
        subscribe = await connection.welcome()
        if subscribe["id"] == "subscribe":
            connection.say(**line)
        await connection.hear()

    async def test() -> None:
        async with Fake(tmp_path, serve) as fake, await Client.connect(fake.socket, subscribe_from=0) as client:
            with pytest.raises(ProtocolError):
                await client.events().__anext__()

    run(test())


def test_only_who_reads_from_the_start_acknowledges_on_the_way(service: Service) -> None:
    async def test() -> None:
        for place in (None, 1, 7):
            with pytest.raises(ValueError, match="subscribe_from=0"):
                await Client.connect(service.socket, subscribe_from=place, ack_every=1)
        with pytest.raises(ValueError):
            await Client.connect(service.socket, subscribe_from=0, ack_every=-1)

    run(test())


def test_what_was_given_and_done_with_is_acknowledged(service: Service) -> None:
    async def test() -> None:
        async with await Client.connect(service.socket, "me") as client:
            seqs = await ended(client, 7)
        async with await Client.connect(service.socket, "me", subscribe_from=0, ack_every=2) as client:
            # The fourth was given, and the consumer left before it asked for more: perhaps it is not done with.
            assert await some(client, 4) == seqs[:4]
            async with await Client.connect(service.socket, "me", subscribe_from=0) as late:
                assert await some(late, 5) == seqs[2:]
            # Those that come while nobody reads are not.
            seqs += await ended(client, 5)
            async with await Client.connect(service.socket, "me", subscribe_from=0) as late:
                assert await some(late, 10) == seqs[2:]
            # Reading on says that the fourth is.
            assert await some(client, 2) == seqs[4:6]
            async with await Client.connect(service.socket, "me", subscribe_from=0) as late:
                assert await some(late, 7) == seqs[5:]

    run(test())
