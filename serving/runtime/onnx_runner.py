"""A bundle's graphs on ONNX Runtime, loaded and checked."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnxruntime as ort

from serving.bundle.bundle import Bundle, load_bundle
from serving.bundle.manifest import Manifest, Precision
from serving.bundle.shortlist import Shortlist
from serving.errors import StartupError
from serving.runtime.cuda_graphs import GraphedSession
from serving.runtime.device_grid import DeviceGrid
from serving.runtime.host_grid import HostGrid
from serving.runtime.loaded_model import LoadedModel
from serving.runtime.placement import placements
from serving.runtime.session import has_cuda, open_session
from serving.step import Edits, StepPlan

_LOG = logging.getLogger(__name__)


class OnnxRunner:
    """A bundle's graphs of one precision, loaded on one device. See :class:`serving.runtime.runner.Runner`."""

    def __init__(self, manifest: Manifest, precision: str, encoder: ort.InferenceSession,
                 decoder: ort.InferenceSession, device: str, shortlist: Shortlist | None = None) -> None:  # fmt: skip
        self.manifest, self.precision_name, self.shortlist = manifest, precision, shortlist
        self.encoder, self.decoder = encoder, decoder
        graphed, pad_id = (GraphedSession(encoder), GraphedSession(decoder)), manifest.special_ids.pad
        self.model = LoadedModel(manifest.precisions[precision], *graphed, device, pad_id, shortlist)
        self.special_ids, self.vocabulary_size = manifest.special_ids, manifest.vocabulary_size

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        *,
        precision: str = "auto",
        device: str = "auto",
        threads: int = 0,
        cuda_graphs: bool = True,
    ) -> OnnxRunner:
        """Load a bundle.

        Args:
            bundle: What :func:`serving.bundle.bundle.load_bundle` returned.
            precision: One of the manifest's, or ``auto``: the fastest one it has for the device.
            device: ``cpu``, ``cuda`` (an error where absent) or ``auto`` (CUDA where it works, else CPU, logged).
            threads: Threads of one operator on the CPU; 0 takes one for each core.
            cuda_graphs: Record runs on CUDA, where that works.

        Raises:
            StartupError: Precision or device is absent, the device cannot run the precision, or a graph does not load
                or is not what the manifest declares.
        """
        *better, last = placements(bundle.manifest, precision=precision, device=device, cuda=has_cuda())
        for chosen in better:
            try:
                return cls._load(bundle, *chosen, threads, cuda_graphs)
            except StartupError as error:
                _LOG.warning("CUDA does not work, running on the CPU", extra={"cause": str(error)})
        return cls._load(bundle, *last, threads, cuda_graphs)

    @classmethod
    def open_again(cls, directory: Path, manifest: Manifest, precision: str, device: str, threads: int) -> OnnxRunner:
        """Load a bundle that was opened before; the options are those of :meth:`open`.

        Raises:
            StartupError: It is no longer the same, or as :meth:`open`.
        """
        bundle = load_bundle(directory)
        if bundle.manifest != manifest:
            raise StartupError(f"{directory} has changed since it was loaded; reload the model")
        return cls.open(bundle, precision=precision, device=device, threads=threads)

    @classmethod
    def _load(cls, bundle: Bundle, device: str, precision: str, threads: int, cuda_graphs: bool) -> OnnxRunner:
        chosen = bundle.manifest.precisions[precision]

        def load(recording: bool) -> OnnxRunner:
            # The decoder needs the most memory while it loads, so the encoder comes after it.
            decoder, encoder = (
                open_session(
                    bundle.path(graph.file),
                    device=device,
                    threads=threads,
                    cuda_graphs=recording,
                    exact_products=chosen.seven_bits,
                )
                for graph in (chosen.decoder, chosen.encoder)
            )
            _check_declared(chosen, encoder, decoder)
            shortlist = Shortlist.load(bundle.path(chosen.shortlist)) if chosen.shortlist else None
            return cls(bundle.manifest, precision, encoder, decoder, device, shortlist)

        if device != "cuda" or not cuda_graphs:
            return _tried(load(False))
        try:
            return _tried(load(True))
        except Exception as error:  # ONNX Runtime raises many kinds: a graph or a driver may not allow recording
            runner = _tried(load(False))  # raises too where recording is not the cause, and then nothing is said of it
            _LOG.warning("no CUDA graphs, launching every kernel", extra={"cause": str(error)})
            return runner

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``."""
        return self.model.device

    def grid(self, beam: int, slots: int) -> HostGrid | DeviceGrid:
        """Make an empty grid for up to ``slots`` sentences with ``beam`` hypotheses each."""
        kind = HostGrid if self.device == "cpu" else DeviceGrid
        return kind(self.model, beam, slots)


def _tried(runner: OnnxRunner) -> OnnxRunner:
    """Run every graph once: the first caller does not wait for that, and a graph that cannot run serves nobody.

    Raises:
        StartupError: A graph loads and does not run.
    """
    try:
        _run_once(runner)
    except Exception as error:
        raise StartupError(
            f"{runner.manifest.label}: a graph does not run: {error}; export the bundle again"
        ) from error
    return runner


def _run_once(runner: OnnxRunner) -> None:
    ids, beam = runner.manifest.special_ids, 2
    grid = runner.grid(beam, 1)
    grid.admit([np.array([ids.eos], dtype=np.int64)])
    beams = np.zeros((1, beam), dtype=np.int64)
    plan = StepPlan(
        tokens=beams + ids.decoder_start, parents=beams, positions=np.zeros(1, dtype=np.int64),
        scores=np.zeros((1, beam), dtype=np.float32), targets=beams, edits=Edits.none(1, beam), candidates=2 * beam,
    )  # fmt: skip
    grid.step(plan)
    grid.keep(np.zeros(1, dtype=np.int64))


def _check_declared(precision: Precision, encoder: ort.InferenceSession, decoder: ort.InferenceSession) -> None:
    pasts, presents = {state.past for state in precision.state}, {state.present for state in precision.state}
    inputs = (*precision.decoder.inputs, *precision.memory, *precision.columns)
    outputs = precision.decoder.outputs
    declared = {
        "encoder inputs": ({spec.name for spec in precision.encoder.inputs}, encoder.get_inputs()),
        "encoder outputs": ({spec.name for spec in precision.encoder.outputs}, encoder.get_outputs()),
        "decoder inputs": ({spec.name for spec in inputs} | pasts, decoder.get_inputs()),
        "decoder outputs": ({spec.name for spec in outputs} | presents, decoder.get_outputs()),
    }
    differences = {what: said ^ {found.name for found in graph} for what, (said, graph) in declared.items()}
    problems = [f"{what} differ in {sorted(names)}" for what, names in differences.items() if names]
    if problems:
        raise StartupError(f"the graphs are not what the manifest declares: {'; '.join(problems)}; export again")
