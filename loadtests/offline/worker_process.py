"""The process behind a worker: pickled calls come on standard input, pickled answers go to standard output."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from loadtests.offline.searches import Batches, Ids, Search
from loadtests.offline.worker import EngineSpec, Memory, Timed

_CLASSES = {
    "dragoman": "loadtests.offline.dragoman_engine:DragomanEngine",
    "ctranslate2": "loadtests.offline.ctranslate2_engine:CTranslate2Engine",
    "huggingface": "loadtests.offline.huggingface_engine:HuggingFaceEngine",
}
_KIB = 1024


class Served:
    """Methods that a worker may call."""

    def open(self, spec: EngineSpec, threads: int) -> None:
        """Load the model."""
        module, _, name = _CLASSES[spec.kind].partition(":")
        self._engine = getattr(import_module(module), name)(spec.path, spec.variant, threads)

    def translate(self, batches: Batches, search: Search, options: Mapping[str, object]) -> Timed:
        """Translate batch after batch; only this is timed."""
        outputs: list[Ids] = []
        started = time.perf_counter()
        for batch in batches:
            outputs += self._engine.translate(batch, search, options)
        return Timed(time.perf_counter() - started, outputs)

    def memory(self) -> Memory:
        """Return the memory of this process as Linux reports it."""
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        sizes = {name: value for name, _, value in (line.partition(":") for line in lines)}
        resident, peak = (int(sizes[name].split()[0]) * _KIB for name in ("VmRSS", "VmHWM"))
        return Memory(resident, peak)


def main() -> None:
    """Answer calls until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    served = Served()
    while True:
        try:
            method, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = False, getattr(served, method)(*arguments)
        except Exception as error:
            answer = True, f"{type(error).__name__}: {error}"
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
