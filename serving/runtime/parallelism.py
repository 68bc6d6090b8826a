"""How a model uses the cores of a CPU: a function of its size, so that nobody has to choose."""

from __future__ import annotations

import os

# Bytes of a bundle. A step of a model of 8 MB takes as long on one thread as on two, so that its cores are better used
# by workers that do not wait for each other; a step of a large model is quicker on all of them.
_SMALL = 32 << 20
_MOST = 8  # workers, each of which has caches of its own


def suitable_workers(nbytes: int) -> int:
    """Return the number of workers for a bundle of so many bytes on the cores that this process may use."""
    return min(_cores(), _MOST) if nbytes <= _SMALL else 1


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
