"""A bundle on a GPU, or as if there were one; and what the driver says of the card."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from loadtests.offline.searches import Ids, Search
from serving.bundle.bundle import load_bundle
from serving.decoding.hypothesis import FinishedHypothesis
from serving.decoding.options import DecodingOptions
from serving.engine.engine import Engine
from serving.engine.scheduler import EngineLimits
from serving.engine.submission import Sentence
from serving.errors import StartupError
from serving.runtime.device_grid import DeviceGrid
from serving.runtime.onnx_runner import OnnxRunner

BEAMS = (1, 4)
_STATUS = Path("/proc/self/status")


class _DeviceRunner(OnnxRunner):
    """Steps on the CPU as on a GPU."""

    def grid(self, beam: int, slots: int) -> DeviceGrid:
        return DeviceGrid(self.device_model, beam, slots)


class GpuModel:
    """One precision of a bundle in the engine."""

    def __init__(self, path: Path, precision: str, device: str, *, cuda_graphs: bool = True) -> None:
        """Opens a bundle.

        Args:
            path: Of the bundle.
            precision: One of its precisions.
            device: ``cuda``; ``cpu`` is the host's usual way; ``pretended`` runs the code for GPUs on the CPU.
            cuda_graphs: Record runs, where that works.
        """
        bundle = load_bundle(path)
        if device == "cuda":
            self.runner = OnnxRunner.open(bundle, precision=precision, device="cuda", cuda_graphs=cuda_graphs)
        else:
            kind = _DeviceRunner if device == "pretended" else OnnxRunner
            self.runner = kind.open(bundle.on("cpu"), precision=precision, device="cpu", threads=1)
        manifest = bundle.manifest
        self._engine = Engine(
            self.runner,
            special_ids=manifest.special_ids,
            vocabulary_size=manifest.vocabulary_size,
            limits=EngineLimits(queue_sentences=1 << 20, queue_tokens=1 << 28),
        )

    def __enter__(self) -> GpuModel:
        """Is ready."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops the engine."""
        self._engine.stop()

    @property
    def records(self) -> bool:
        """Whether decoder steps are recorded as CUDA graphs."""
        return self.runner.device_model.decoder.captures

    def translate(self, sources: Sequence[Ids], searches: Sequence[Search]) -> list[FinishedHypothesis]:
        """The best hypothesis of each source, each with a search of its own, all submitted at once."""
        sentences = [
            Sentence(
                np.array(source, dtype=np.int64),
                DecodingOptions(max_length=search.max_length, min_length=search.min_length, beam_size=search.beam),
            )
            for source, search in zip(sources, searches, strict=True)
        ]
        return [decoded.hypotheses[0] for decoded in self._engine.submit(sentences).future.result()]


def card(device: str) -> dict[str, str]:
    """Name and driver of the first GPU."""
    if device != "cuda":
        return {"name": "none: a rehearsal on the CPU", "driver_version": "none"}
    fields = ("name", "driver_version", "memory.total")
    return dict(zip(fields, _smi(fields), strict=True))


def used_bytes(device: str) -> int:
    """Memory in use: of the first GPU by anyone, or else of this process."""
    if device == "cuda":
        return int(_smi(("memory.used",))[0].split()[0]) << 20
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))


def _smi(fields: Sequence[str]) -> list[str]:
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        out = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise StartupError(f"nvidia-smi does not run ({error}): needs an NVIDIA driver, or --device cpu") from error
    return [field.strip() for field in out.splitlines()[0].split(",")]
