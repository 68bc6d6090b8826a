"""Denormal numbers taken for 0, in blocks of code that multiply.

A masked position gets exp(-inf), which kernels compute through numbers too small for a float's full precision. x86
processors do arithmetic with such denormal numbers in microcode: attention to a window of which a third is in use took
twice as long, and where real scores were 87 apart, twenty times. A flag of the processor, one for each thread, makes
them 0. Results change in no bit that matters: what is lost is below 1.2e-38.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_LIBC = ctypes.PyDLL(None)  # does not release Python's lock for a call of some nanoseconds
# Processors of other kinds compute with denormal numbers at speed.
SUPPORTED = sys.platform == "linux" and platform.machine() == "x86_64" and hasattr(_LIBC, "fesetenv")
_MXCSR = 7  # number of the word of ``fenv_t`` that holds the flags of SSE and AVX, in glibc and musl
_FLUSH_TO_ZERO, _DENORMALS_ARE_ZERO = 1 << 15, 1 << 6
_Environment = ctypes.c_uint32 * 8


@contextmanager
def denormals_are_zero() -> Iterator[None]:
    """Take denormal numbers for 0 on this thread within the block; afterwards all is as it was before."""
    if not SUPPORTED:
        yield
        return
    before = _Environment()
    _LIBC.fegetenv(before)
    inside = _Environment(*before)
    inside[_MXCSR] |= _FLUSH_TO_ZERO | _DENORMALS_ARE_ZERO
    _LIBC.fesetenv(inside)
    try:
        yield
    finally:
        _LIBC.fesetenv(before)
