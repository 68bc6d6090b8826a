"""What the processes of a test use of the machine, which is part of the result."""

from __future__ import annotations

import time

import psutil


def family(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and those that it started and that still run, such as the workers of a server."""
    return [process, *process.children(recursive=True)]


def resident(process: psutil.Process) -> int:
    """Return the bytes of main memory of a process and its children; of pages that several share, each its part."""
    return sum(one.memory_full_info().pss for one in family(process))


class Cores:
    """Processor time since construction: of servers, of the load generator, and of everything else."""

    def __init__(self, *servers: psutil.Process) -> None:
        """Start to count; this process and its children are the load generator."""
        self._servers = servers
        self._before = self._now()

    def used(self) -> dict[str, float]:
        """Return the cores in use by name; what ``others`` used should be little."""
        wall, server, generator, busy = (now - then for now, then in zip(self._now(), self._before, strict=True))
        used = {"server": server, "generator": generator, "others": max(busy - server - generator, 0.0)}
        return {name: round(seconds / wall, 3) for name, seconds in used.items()}

    def _now(self) -> tuple[float, float, float, float]:
        own, system = psutil.Process().cpu_times(), psutil.cpu_times()
        servers = (one.cpu_times() for server in self._servers for one in family(server))
        return (
            time.monotonic(),
            sum(times.user + times.system + times.children_user + times.children_system for times in servers),
            own.user + own.system + own.children_user + own.children_system,
            sum(system) - system.idle - system.iowait,  # what the host took away included
        )
