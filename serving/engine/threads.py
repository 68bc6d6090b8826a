"""Workers that are threads of this process and share one loaded model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from serving.engine.lane import Lane
from serving.engine.worker import Worker
from serving.engine.workers import Surroundings, WorkQueue
from serving.runtime.runner import Runner

_LOG = logging.getLogger(__name__)


class Threads:
    """Makes them; see :class:`serving.engine.workers.WorkerKind`."""

    def __init__(self, runner: Runner, reopen: Callable[[], Runner] | None = None) -> None:
        """Share ``runner``; ``reopen`` loads the model again when it fails or hangs."""
        self._runner, self._reopen = runner, reopen

    def worker(self, number: int, queue: WorkQueue, surroundings: Surroundings, failures: int = 0) -> Worker:
        """Make a thread that is not started yet."""
        limits, observer, clock = surroundings.limits, surroundings.observer, surroundings.clock

        def make_lane(beam: int) -> Lane:
            return Lane(self._runner, beam, limits.slots(beam), observer=observer, clock=clock)

        return Worker(number, queue, surroundings, make_lane, partial(self.renew, surroundings.name), failures)

    def renew(self, name: str) -> None:
        """Load the model again, for lanes to come; if that fails, the old one stays."""
        if self._reopen is None:
            return
        try:
            self._runner = self._reopen()
        except Exception:
            _LOG.exception("engine %s: the model could not be loaded again", name)
