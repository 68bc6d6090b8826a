"""Directories that are there whole or not at all, and that one process fills while others wait."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.errors import DataError


@contextmanager
def complete_directory(place: Path) -> Iterator[Path]:
    """Give an empty directory to fill; it becomes ``place``, replacing what was there, unless an error is raised.

    Raises:
        DataError: If a file in it cannot be written, most often because the disk is full.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        yield partial
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.filename is None:  # a failed write does not say where
            raise DataError(
                f"{place} cannot be written ({error.strerror or error}); make room, or set cache_dir to another disk."
            ) from error
        raise


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold a directory, made if need be: of the processes of a run the first prepares it, the others wait."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
