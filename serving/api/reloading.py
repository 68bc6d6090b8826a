"""Values read from files, and again when a file changes: certificates and tokens are replaced without a restart."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

_LOG = logging.getLogger(__name__)

Value = TypeVar("Value")


class Reloaded(Generic[Value]):
    """Value of some files; if a changed file cannot be read, the last good value stays and the log says so once."""

    def __init__(self, files: Sequence[Path], read: Callable[[], Value]) -> None:
        """Read the files for the first time.

        Args:
            files: Whose changes count; links are followed, as Kubernetes replaces secrets by moving one.
            read: Reads the files; its errors are raised here, and logged later.
        """
        self._files = tuple(files)
        self._read = read
        self._lock = threading.Lock()
        self._state = self._stamp()
        self._value = read()

    def get(self) -> Value:
        """Return the value of the files as they are now."""
        with self._lock:
            state = self._stamp()
            if state != self._state:
                try:
                    value = self._read()
                except (OSError, ValueError) as error:
                    _LOG.error("reload_failed", extra={"files": list(map(str, self._files)), "error": str(error)})
                    self._state = state
                else:
                    if state == self._stamp():  # else a file changed while it was read: the next call reads again
                        self._value, self._state = value, state
                        _LOG.info("reloaded", extra={"files": list(map(str, self._files))})
            return self._value

    def _stamp(self) -> tuple[object, ...]:
        return tuple(_stamp(file) for file in self._files)


def _stamp(file: Path) -> object:
    try:
        found = file.stat()
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
