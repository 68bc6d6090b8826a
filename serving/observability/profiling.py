"""A sampling profile of the process: which code its threads are in, many times a second.

Source: statistical profiling as in py-spy, from within, since containers do not let one process look into another.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from types import FrameType

_PERIOD = 0.01  # seconds


def profile(seconds: float) -> str:
    """Look at every thread but this one for some seconds.

    Returns:
        Folded stacks, which flamegraph.pl and speedscope read: a line for each stack that was seen, outermost frame
        first, with the thread's name before it and the number of times behind it, most often first.
    """
    stacks, own = Counter[str](), threading.get_ident()
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident != own:
                stacks[f"{names.get(ident, 'thread')};{_folded(frame)}"] += 1
        time.sleep(min(_PERIOD, end - now))
    return "".join(f"{stack} {count}\n" for stack, count in stacks.most_common())


def _folded(frame: FrameType | None) -> str:
    frames = []
    while frame:
        module = frame.f_globals.get("__name__", "")
        frames.append(f"{module}.{frame.f_code.co_qualname}:{frame.f_lineno}")
        frame = frame.f_back
    return ";".join(reversed(frames))
