"""The client against a real service."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any, Awaitable, Callable

import pytest

from exitring_client import CgroupLimits, Client, Exit, Limit, Lost, ServiceError

from conftest import ROOT, Service, run


def test_a_spawned_process_reports_how_it_ended(service: Service) -> None:
    async def test() -> None:
        async with await Client.connect(service.socket) as client:
            assert client.welcome.uid == os.getuid()
            out = service.directory / "out"
            process = await client.spawn(
                ["sh", "-c", 'echo "$A"; pwd; exit 3'],
                env={"A": "b", "PATH": os.environ["PATH"]},
                cwd=service.directory,
                stdout=out,
                tag="a tag",
            )
            ended = await process.wait()
            assert (ended.returncode, ended.code, ended.signal) == (3, 3, None)
            assert (ended.tag, ended.spawned, ended.unknown) == ("a tag", True, None)
            assert ended.usage is not None and ended.usage.max_rss_bytes > 0
            assert out.read_text() == f"b\n{service.directory.resolve()}\n"
            # A second call returns the same exit.
            assert await process.wait() == ended

    run(test())


def test_a_spawned_process_has_its_limits_nice_value_and_umask(service: Service) -> None:
    async def test() -> None:
        async with await Client.connect(service.socket) as client:
            out = service.directory / "out"
            nice = min(19, os.nice(0) + 3)
            limits = {"nofile": Limit(soft=50, hard=60), "core": Limit(hard=0), "cpu": Limit()}
            process = await client.spawn(
                ["sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -Sc; nice; umask"],
                limits=limits,
                nice=nice,
                umask=0o077,
                stdout=out,
            )
            assert (await process.wait()).returncode == 0
            assert out.read_text().split() == ["50", "60", "0", str(nice), "0077"]
            assert out.stat().st_mode & 0o777 == 0o600
            for wrong, code in [
                ({"limits": {"speed": Limit(1)}}, "bad_request"),
                ({"limits": {"nofile": Limit(2, 1)}}, "out_of_range"),
                ({"limits": {"nofile": Limit("unlimited", 1)}}, "out_of_range"),
                ({"nice": 20}, "out_of_range"),
                ({"umask": 0o1000}, "out_of_range"),
            ]:
                arguments: Any = wrong
                with pytest.raises(ServiceError) as refused:
                    await client.spawn(["true"], **arguments)
                assert refused.value.code == code

    run(test())


def test_a_service_without_a_cgroup_refuses_cgroup_limits(service: Service) -> None:
    async def test() -> None:
        async with await Client.connect(service.socket) as client:
            for limits, code in [
                (CgroupLimits(), "unsupported"),
                (CgroupLimits(memory=1 << 30, processes=100, cpus=1.5), "unsupported"),
                (CgroupLimits(cpus=0), "bad_request"),
            ]:
                with pytest.raises(ServiceError) as refused:
                    await client.spawn(["true"], cgroup=limits)
                assert refused.value.code == code
            process = await client.spawn(["true"])
            assert (await process.wait()).cgroup is None

    run(test())


def test_signals_and_timeouts(service: Service) -> None:
    async def test() -> None:
        async with await Client.connect(service.socket) as client:
            killed = await client.spawn(["sleep", "1000"])
            await killed.signal(signal.SIGKILL)
            late = await client.spawn(["sleep", "1000"], timeout=0.05, grace=1)
            assert (await killed.wait()).returncode == -signal.SIGKILL
            ended = await late.wait()
            assert ended.returncode == -signal.SIGTERM and ended.timed_out

    run(test())


def test_own_children_by_pid_and_pidfd(service: Service) -> None:
    async def test() -> None:
        async with await Client.connect(service.socket) as client:
            child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
            pidfd = os.pidfd_open(child.pid)
            by_pidfd = await client.watch(pidfd=pidfd)
            os.close(pidfd)
            by_pid = await client.watch(child.pid)
            reaped = await client.watch(child.pid, until="reaped")
            forgotten = await client.watch(child.pid)
            assert by_pidfd.pid == child.pid
            assert len(await client.list()) == 4
            await forgotten.unwatch()
            assert child.stdin is not None
            child.stdin.close()
            await asyncio.gather(by_pidfd.wait(), by_pid.wait())
            # The record waits until this process reaps.
            assert child.wait() == 0
            assert (await reaped.wait()).returncode == 0

    run(test())


def test_refusals_have_a_code(service: Service) -> None:
    async def test() -> None:
        async with await Client.connect(service.socket) as client:

            async def code(ask: Callable[[], Awaitable[object]]) -> str:
                with pytest.raises(ServiceError) as refused:
                    await ask()
                return refused.value.code

            assert await code(lambda: client.spawn(["/nonesuch"])) == "cannot_start"
            assert await code(lambda: client.spawn([])) == "out_of_range"
            assert await code(lambda: client.watch(-1)) == "no_such_process"
            assert await code(lambda: client.watch()) == "not_a_pidfd"
            assert await code(lambda: client.request(op="dance")) == "bad_request"
            # The connection stays usable.
            assert (await client.stats())["watched"] == 0

    run(test())


def test_each_of_many_tasks_gets_its_own_answer(service: Service) -> None:
    async def test() -> None:
        async with await Client.connect(service.socket) as client:

            async def one(nth: int) -> None:
                process = await client.spawn(["sh", "-c", f"exit {nth % 256}"])
                assert (await process.wait()).code == nth % 256

            await asyncio.gather(*(one(nth) for nth in range(300)))
            assert not client._waiting and not client._connection.unanswered

    run(test())


def test_a_cancelled_request_does_not_disturb_others(service: Service) -> None:
    async def test() -> None:
        async with await Client.connect(service.socket) as client:
            for _ in range(50):
                asking = asyncio.create_task(client.stats())
                await asyncio.sleep(0)
                asking.cancel()
            process = await client.spawn(["true"])
            assert (await process.wait()).returncode == 0

    run(test())


def test_records_outlive_the_service_and_its_clients(service: Service) -> None:
    async def test() -> None:
        client = await Client.connect(service.socket, "me")
        process = await client.spawn(["sh", "-c", "exit 4"])
        assert (await process.wait()).code == 4
        running = await client.spawn(["sleep", "0.5"])
        service.kill()
        with pytest.raises(ConnectionError):
            await running.wait()
        with pytest.raises(ConnectionError):
            await client.stats()
        await client.close()
        service.start()
        async with await Client.connect(service.socket, "me", subscribe_from=0) as again:
            seen = []
            async for event in again.events():
                assert isinstance(event, Exit)
                seen.append(event)
                if len(seen) == 2:
                    break
            assert [event.watch for event in seen] == [process.watch, running.watch]
            assert seen[0].code == 4
            assert await again.ack(seen[-1].seq) == 2

    run(test())


def test_dropped_records_are_reported(service: Service) -> None:
    async def test() -> None:
        service.kill()
        service.start("--keep", "2")
        async with await Client.connect(service.socket) as client:
            for _ in range(10):
                await (await client.spawn(["true"])).wait()
            async with await Client.connect(service.socket, subscribe_from=0) as late:
                lost = await late.events().__anext__()
                assert isinstance(lost, Lost) and lost.count >= 7

    run(test())


def test_the_example_with_fewer_processes(service: Service) -> None:
    example = ROOT / "clients/python/examples/thousands.py"
    for way in ("spawn", "watch"):
        done = subprocess.run(
            [sys.executable, str(example), str(service.socket), "--way", way, "--count", "200"],
            env={**os.environ, "PYTHONPATH": str(ROOT / "clients/python/src")},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert "200 processes" in done.stdout
