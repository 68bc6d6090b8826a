"""How a model uses the cores of a CPU: a function of its size, so that nobody has to choose."""

from __future__ import annotations

import math
import os
from pathlib import Path

# Bytes of a bundle. A step of a model of 8 MB takes as long on one thread as on two, so that its cores are better used
# by workers that do not wait for each other; a step of a large model is quicker on all of them.
_SMALL = 32 << 20
_MOST = 8  # workers, each of which has caches of its own


def suitable_workers(nbytes: int) -> int:
    """Return the number of workers for a bundle of so many bytes on the cores that this process may use."""
    return min(_cores(), _MOST) if nbytes <= _SMALL else 1


def suitable_threads(workers: int) -> int:
    """Return the number of threads for an operator of each worker; 0 stands for one for each physical core."""
    if workers > 1:
        return 1
    quota = cores_of_quota()
    return quota if quota < _cores_there() else 0


def cores_of_quota(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many cores the limit of a container is worth, rounded up; 0 where there is none.

    Args:
        groups: Where the control groups of the container are mounted, of version 2 or 1
            (https://docs.kernel.org/admin-guide/cgroup-v2.html, ``cpu.max``).
    """
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((groups / file).read_text(encoding="ascii") for file in files).split()
        except (OSError, ValueError):
            continue
        if quota.isdecimal():  # not "max", and not -1
            return max(1, math.ceil(int(quota) / int(period)))
    return 0


def _cores() -> int:
    return min(_cores_there(), cores_of_quota() or _cores_there())


def _cores_there() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
