"""Directories that are there whole or not at all, and that one process fills while others wait."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def complete_directory(place: Path) -> Iterator[Path]:
    """Give an empty directory to fill; it becomes `place`, replacing what was there, unless an error is raised."""
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        yield partial
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold a directory, made if need be: of the processes of a run the first prepares it, the others wait."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
