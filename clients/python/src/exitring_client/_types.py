"""The values in lines of the service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Literal, Optional, Union

from ._errors import ProtocolError


#: The version of the protocol.
VERSION = 1


#: A value of a resource limit: a number, or "unlimited".
LimitValue = Union[int, Literal["unlimited"]]


@dataclass(frozen=True)
class Limit:
    """The limit of one resource. What is ``None`` is inherited from the service."""

    soft: Optional[LimitValue] = None
    hard: Optional[LimitValue] = None

    def fields(self) -> Dict[str, LimitValue]:
        """Make the object of the protocol."""
        values = {"soft": self.soft, "hard": self.hard}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class CgroupLimits:
    """A cgroup for a process and all its descendants, with limits of all of them together."""

    #: Bytes, of which none may be swap.
    memory: Optional[int] = None
    #: Processes and threads at a time.
    processes: Optional[int] = None
    #: CPU time, as a number of CPUs.
    cpus: Optional[float] = None

    def fields(self) -> Dict[str, Union[int, float]]:
        """Make the object of the protocol."""
        values = {"memory": self.memory, "processes": self.processes, "cpus": self.cpus}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class CgroupUsage:
    """What the cgroup of a process reported when the process had ended."""

    #: How many processes the process has left.
    leftover: int
    #: Known if there is a limit of memory.
    peak_memory_bytes: Optional[int] = None
    #: Known if there is a limit of memory.
    oom_kills: Optional[int] = None


@dataclass(frozen=True)
class Usage:
    """The resources that a process used, including those of descendants that were waited for."""

    user_s: float
    system_s: float
    max_rss_bytes: int


@dataclass(frozen=True)
class Exit:
    """How a process ended."""

    seq: int
    watch: int
    pid: int
    tag: str
    client: str
    uid: int
    spawned: bool
    #: The exit code, if the process exited.
    code: Optional[int]
    #: The number of the signal, if one ended the process.
    signal: Optional[int]
    core_dumped: bool
    #: Why neither is known, if so: ``"not_a_child"``, ``"service_down"`` and so on.
    unknown: Optional[str]
    usage: Optional[Usage]
    began_ms: int
    ended_ms: int
    timed_out: bool
    #: What the cgroup of the process reported, if it was started with one.
    cgroup: Optional[CgroupUsage] = None

    @property
    def returncode(self) -> Optional[int]:
        """As in ``subprocess``: the code, or the negative number of the signal. ``None`` if unknown."""
        if self.signal is not None:
            return -self.signal
        return self.code

    @staticmethod
    def of(record: Dict[str, Any]) -> "Exit":
        """Make an exit of a record of the protocol."""
        outcome = record["outcome"]
        signaled = outcome.get("signaled", {})
        usage = record.get("usage")
        cgroup = record.get("cgroup")
        return Exit(
            seq=record["seq"],
            watch=record["watch"],
            pid=record["pid"],
            tag=record.get("tag", ""),
            client=record.get("client", ""),
            uid=record["uid"],
            spawned=record["spawned"],
            code=outcome.get("exited"),
            signal=signaled.get("signal"),
            core_dumped=signaled.get("core_dumped", False),
            unknown=outcome.get("unknown"),
            usage=None
            if usage is None
            else Usage(
                user_s=usage["user_us"] / 1e6,
                system_s=usage["system_us"] / 1e6,
                max_rss_bytes=usage["max_rss_bytes"],
            ),
            began_ms=record["began_ms"],
            ended_ms=record["ended_ms"],
            timed_out=record.get("timed_out", False),
            cgroup=None
            if cgroup is None
            else CgroupUsage(
                leftover=cgroup["leftover"],
                peak_memory_bytes=cgroup.get("peak_memory_bytes"),
                oom_kills=cgroup.get("oom_kills"),
            ),
        )


@dataclass(frozen=True)
class Lost:
    """Records that were dropped unacknowledged, because they were too many or too old."""

    first: int
    last: int
    count: int


@dataclass(frozen=True)
class Welcome:
    """The answer of the service to the hello."""

    version: int
    service: str
    instance: str
    uid: int
    limits: Dict[str, int]


def event(line: Dict[str, Any]) -> Union[Exit, Lost, None]:
    """Decode a line that is not an answer.

    Returns ``None`` for events of later versions of the service.
    """
    try:
        if "exit" in line:
            return Exit.of(line["exit"])
        if "lost" in line:
            lost = line["lost"]
            return Lost(lost["from"], lost["to"], lost["count"])
    except (AttributeError, KeyError, TypeError) as wrong:
        raise ProtocolError(f"the service sent {line!r}") from wrong
    return None
