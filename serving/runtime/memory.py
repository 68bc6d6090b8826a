"""Memory of the process: how much it is, and how it is given back when a model has ended."""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path

_STATM = Path("/proc/self/statm")


def release_memory() -> None:
    """Collect what nothing refers to, and have the C library return free pages, which it keeps otherwise."""
    gc.collect()
    with suppress(OSError, AttributeError):  # a C library without malloc_trim, such as musl
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes() -> int:
    """Return the bytes of this process that are in main memory; 0 where the system does not tell."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
