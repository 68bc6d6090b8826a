"""The watchdog of an engine: a thread that notices when a worker's does not come back."""

from __future__ import annotations

import threading
from collections.abc import Callable

_CHECKS = 4  # within the time that a run may take


class Watchdog:
    """Thread that checks again and again until it is stopped."""

    def __init__(self, check: Callable[[], None], seconds: float, name: str) -> None:
        """Prepare to call ``check`` several times in ``seconds``, which is how long a run of the model may take."""
        self._check, self._period = check, seconds / _CHECKS
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watchdog-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for a check that is in progress."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(self._period):
            self._check()
