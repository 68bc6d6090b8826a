"""A progress bar with an estimate of the time left, for work that takes longer than a user waits without a sign."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

_LOG_SECONDS = 10.0  # between two lines where standard error is a file or a pipe

Item = TypeVar("Item")


def progress(items: Iterable[Item], stage: str, *, total: int | None = None) -> Iterator[Item]:
    """Yield the items while standard error shows how many are done and how long the rest will take.

    On a terminal the bar is drawn at once and disappears at the end. Elsewhere a line is written every few seconds, and
    none for work that is done before the first is due.

    Args:
        items: What the work goes through.
        stage: Name of the work, shown before the bar.
        total: Number of items; needed if ``items`` has no length.
    """
    terminal = sys.stderr.isatty()
    yield from tqdm(
        items,
        desc=stage,
        total=total,
        file=sys.stderr,
        leave=False,
        delay=0 if terminal else _LOG_SECONDS,
        mininterval=0.1 if terminal else _LOG_SECONDS,
        bar_format=None if terminal else "{desc}: {n_fmt} of {total_fmt} after {elapsed}, {remaining} left\n",
    )
