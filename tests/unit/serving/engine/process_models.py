"""Toy models for workers in other processes: what loads them is found by its name there."""

from __future__ import annotations

import os
import signal
import threading
import time

from serving.errors import StartupError
from serving.step import Candidates, StepPlan
from tests.toy_runner import ToyGrid, ToyRunner
from tests.unit.serving.engine.toy_engine import MODEL

CRASHES, HANGS, FAILS, SLOW = 11, 12, 13, 14  # tokens of a source that make the model do so


class _Grid(ToyGrid):
    def step(self, plan: StepPlan) -> Candidates:
        tokens = {token for source in self._sources for token in source}
        if CRASHES in tokens:
            os.kill(os.getpid(), signal.SIGKILL)
        if HANGS in tokens:
            threading.Event().wait()
        if FAILS in tokens:
            raise RuntimeError("device lost")
        if SLOW in tokens:
            time.sleep(0.02)
        return super().step(plan)


class _Runner(ToyRunner):
    def grid(self, beam: int, slots: int) -> ToyGrid:
        return _Grid(self, beam, slots)


def open_toy() -> ToyRunner:
    """The toy model, which some tokens break."""
    return _Runner(MODEL)


def open_absent() -> ToyRunner:
    """No model at all."""
    raise StartupError("the disk is gone")


def open_and_die() -> ToyRunner:
    """Not even an error."""
    os._exit(3)


def open_once(token: str) -> ToyRunner:
    """The toy model, for the first process that takes the file away; no model for others."""
    try:
        os.unlink(token)
    except FileNotFoundError:
        raise StartupError("the disk is gone") from None
    return open_toy()
