"""An engine in a process of its own, so that neither memory nor threads are shared with its rivals."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from loadtests.offline.searches import Batches, Ids, Search

_ROOT = Path(__file__).parents[2]


class EngineSpec(NamedTuple):
    """An engine and its model."""

    kind: str  # ``dragoman``, ``ctranslate2`` or ``huggingface``
    variant: str  # its precision or compute type; ``TYPE*N`` runs N batches at a time
    path: Path  # the bundle, or the converted model

    def __str__(self) -> str:
        return f"{self.kind}/{self.variant}"

    @property
    def type(self) -> str:
        """Precision or compute type."""
        return self.variant.partition("*")[0]

    @property
    def parallel(self) -> bool:
        """Whether several batches run at a time."""
        return "*" in self.variant


class Timed(NamedTuple):
    """Translations of all batches, one batch after the other, and the seconds they took."""

    seconds: float
    outputs: list[Ids]


class Memory(NamedTuple):
    """Resident memory of a worker's process in bytes, and its peak."""

    resident: int
    peak: int


class Worker(AbstractContextManager["Worker"]):
    """The parent's side of a worker; ends it on exit.

    Attributes:
        spec: The engine it runs.
        start_seconds: Time from the start of its process until it could translate.
    """

    def __init__(self, spec: EngineSpec, threads: int) -> None:
        """Start the process and wait until its model is loaded.

        Raises:
            RuntimeError: It could not be loaded.
        """
        self.spec = spec
        started = time.perf_counter()
        command = [sys.executable, "-m", "loadtests.offline.worker_process"]
        self._process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            self._call("open", spec, threads)
        except BaseException:
            self.__exit__()
            raise
        self.start_seconds = time.perf_counter() - started

    def translate(self, batches: Batches, search: Search, options: Mapping[str, object] | None = None) -> Timed:
        """Translate batches of source token ids one after the other."""
        timed: Timed = self._call("translate", batches, search, options or {})
        return timed

    def memory(self) -> Memory:
        """Return the resident memory of its process."""
        found: Memory = self._call("memory")
        return found

    def _call(self, method: str, *arguments: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        pickle.dump((method, arguments), self._process.stdin)
        self._process.stdin.flush()
        try:
            failed, answer = pickle.load(self._process.stdout)
        except EOFError:
            raise RuntimeError(f"the process of {self.spec} died with status {self._process.wait()}") from None
        if failed:
            raise RuntimeError(f"{self.spec}: {answer}")
        return answer

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
