"""Memory given back to the system when a model has ended."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress


def release_memory() -> None:
    """Collect what nothing refers to, and have the C library return free pages, which it keeps otherwise."""
    gc.collect()
    with suppress(OSError, AttributeError):  # a C library without malloc_trim, such as musl
        ctypes.CDLL(None).malloc_trim(0)
