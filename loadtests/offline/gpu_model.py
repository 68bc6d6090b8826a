"""A bundle on a GPU, or on the CPU through the code for GPUs; options of the checks; what the driver reports."""

from __future__ import annotations

import os
import subprocess
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from loadtests.offline.corpus import Corpus, read_corpus
from loadtests.offline.searches import Ids, Search
from loadtests.service.sentences import sentences
from serving.bundle.bundle import Bundle, load_bundle
from serving.decoding.hypothesis import FinishedHypothesis
from serving.decoding.options import DecodingOptions
from serving.engine.submission import Sentence
from serving.errors import StartupError
from serving.opening import offline_engine
from serving.runtime.device_grid import DeviceGrid
from serving.runtime.onnx_runner import OnnxRunner

BEAMS = (1, 4)


def add_options(add: Callable[..., object]) -> None:
    """Add the options that the checks and the benchmark share, to an argument parser or to pytest."""
    add("--bundle", type=Path, default=Path("models/en-fr/5"), help="with fp32 and fp16 (default: models/en-fr/5)")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu rehearses the code for GPUs (default: cuda)")
    add("--data", type=Path, help="corpora, or two files up to their languages (default: bundled sentences)")
    add("--sentences", type=int, default=1000, help="sentences of the text (default: 1000)")
    add("--max-length", type=int, default=60, help="target tokens (default: 60)")
    add("--out", type=Path, default=Path("runs/gpu-check"), help="folder for results (default: runs/gpu-check)")


def text(asked: Namespace, bundle: Bundle) -> Corpus:
    """Return the sentences that the options select."""
    if asked.data is None:
        return Corpus(sentences(None, None)[: asked.sentences], [])
    corpus = read_corpus(asked.data, bundle.manifest.languages)
    return Corpus(corpus.sources[: asked.sentences], corpus.references[: asked.sentences])


class _DeviceRunner(OnnxRunner):
    """Runner that steps on the CPU as on a GPU."""

    def grid(self, beam: int, slots: int) -> DeviceGrid:
        return DeviceGrid(self.model, beam, slots)


class GpuModel(AbstractContextManager["GpuModel"]):
    """One precision of a bundle in the engine."""

    def __init__(self, path: Path, precision: str, device: str, *, cuda_graphs: bool = True) -> None:
        """Open a bundle on ``cuda``, on ``cpu`` with the code for GPUs, or on ``host``, the usual way on the CPU."""
        bundle = load_bundle(path)
        if device == "cuda":
            self.runner = OnnxRunner.open(bundle, precision=precision, device="cuda", cuda_graphs=cuda_graphs)
        else:
            kind = _DeviceRunner if device == "cpu" else OnnxRunner
            self.runner = kind.open(bundle.on("cpu"), precision=precision, device="cpu", threads=1)
        self._engine = offline_engine(self.runner)

    def __exit__(self, *_: object) -> None:
        """Stop the engine."""
        self._engine.stop()

    @property
    def records(self) -> bool:
        """Whether decoder steps are recorded as CUDA graphs."""
        return self.runner.model.decoder.captures

    def translate(self, sources: Sequence[Ids], searches: Sequence[Search]) -> list[FinishedHypothesis]:
        """Return the best hypothesis of each source, each with its own search, all submitted at once."""
        submitted = [
            Sentence(
                np.array(source, dtype=np.int64),
                DecodingOptions(max_length=search.max_length, min_length=search.min_length, beam_size=search.beam),
            )
            for source, search in zip(sources, searches, strict=True)
        ]
        return [decoded.hypotheses[0] for decoded in self._engine.submit(submitted).future.result()]


def unusable(device: str) -> str | None:
    """Return the reason why a device cannot be used, if it cannot."""
    import onnxruntime  # after serving.runtime, which switches its telemetry off

    if device == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return "onnxruntime has no CUDA: install onnxruntime-gpu, or rehearse with --device cpu"
    try:
        card(device)
    except StartupError as error:
        return str(error)
    return None


def card(device: str) -> dict[str, str]:
    """Return name, driver and memory of the first GPU."""
    if device != "cuda":
        return {"name": "none: a rehearsal on the CPU", "driver_version": "none"}
    fields = ("name", "driver_version", "memory.total")
    return dict(zip(fields, _smi(fields), strict=True))


def used_bytes(device: str) -> int:
    """Return the memory in use: of the first GPU by anyone, or of this process on the CPU."""
    if device == "cuda":
        return int(_smi(("memory.used",))[0].split()[0]) << 20
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _smi(fields: Sequence[str]) -> list[str]:
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        out = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise StartupError(f"nvidia-smi does not run ({error}): needs an NVIDIA driver, or --device cpu") from error
    return [field.strip() for field in out.splitlines()[0].split(",")]
