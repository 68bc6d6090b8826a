"""Runs a bundle on ONNX Runtime: encodes sources into slots and steps all slots x beams at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.bundle.bundle import Bundle
from serving.bundle.manifest import Axis, Manifest, Precision, StateSpec, TensorSpec
from serving.bundle.shortlist import Shortlist
from serving.decoding.constraints import no_edits
from serving.errors import StartupError
from serving.runtime.cache_table import CacheTable
from serving.runtime.cuda_graphs import GraphedSession, with_graphs_if_they_work
from serving.runtime.device_buffers import SlotGraphs
from serving.runtime.device_grid import DeviceGrid, DeviceModel
from serving.runtime.host_buffers import HostBuffer, SlotBuffer
from serving.runtime.host_encoder import HostEncoder
from serving.runtime.host_step import HostStep
from serving.runtime.session import PROVIDERS, open_session
from serving.runtime.size_buckets import SMALLEST_SHORTLIST, SMALLEST_WINDOW, fitting
from serving.step import Candidates, Ints, StepPlan

_LOG = logging.getLogger(__name__)

_FASTEST = {"cpu": ("int8", "fp32"), "cuda": ("fp16", "fp32")}  # precisions by device, fastest first
_FIRST_SLOTS = 8  # with memory; doubles


class OnnxRunner:
    """A bundle's graphs of one precision, loaded on one device."""

    def __init__(self, manifest: Manifest, precision: str, encoder: ort.InferenceSession,
                 decoder: ort.InferenceSession, device: str, shortlist: Shortlist | None = None) -> None:  # fmt: skip
        self.manifest, self.precision_name, self.precision = manifest, precision, manifest.precisions[precision]
        self.encoder, self.decoder, self.shortlist = encoder, decoder, shortlist
        self._device = device
        self.device_model = DeviceModel(
            self.precision, GraphedSession(encoder), GraphedSession(decoder), SlotGraphs(device),
            manifest.special_ids.pad,
        )  # fmt: skip

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
        """Loads a bundle.

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
        manifest = bundle.manifest
        if precision not in {"auto", *manifest.precisions}:
            raise StartupError(
                f"precision is {precision!r}, bundle {manifest.name}/{manifest.version} has "
                f"{', '.join(manifest.precisions)}: name one of these"
            )
        if device == "auto":
            if PROVIDERS["cuda"] in ort.get_available_providers():
                try:
                    return cls.open(bundle, precision=precision, device="cuda", threads=threads)
                except StartupError as error:
                    _LOG.warning("no CUDA, running on the CPU", extra={"cause": str(error)})
            device = "cpu"
        if precision == "auto":
            fastest = _FASTEST.get(device, ())
            precision = next((name for name in fastest if name in manifest.precisions), next(iter(manifest.precisions)))
        chosen = manifest.precisions[precision]
        if device in PROVIDERS and device not in chosen.devices:
            raise StartupError(f"precision {precision} runs on {', '.join(chosen.devices)}, not on {device}")

        def load(recording: bool) -> OnnxRunner:
            encoder, decoder = (
                open_session(bundle.path(graph.file), device=device, threads=threads, cuda_graphs=recording)
                for graph in (chosen.encoder, chosen.decoder)
            )
            _check_declared(chosen, encoder, decoder)
            shortlist = Shortlist.load(bundle.path(chosen.shortlist)) if chosen.shortlist else None
            return cls(manifest, precision, encoder, decoder, device, shortlist)

        return with_graphs_if_they_work(load, _try_out) if device == "cuda" and cuda_graphs else load(False)

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``."""
        return self._device

    def grid(self, beam: int, slots: int) -> OnnxGrid | DeviceGrid:
        """Makes an empty grid for up to ``slots`` sentences with ``beam`` hypotheses each."""
        return OnnxGrid(self, beam, slots) if self._device == "cpu" else DeviceGrid(self.device_model, beam, slots)


def _try_out(runner: OnnxRunner) -> None:
    """Runs every graph once."""
    ids, beam = runner.manifest.special_ids, 2
    grid = runner.grid(beam, 1)
    grid.admit([np.array([ids.eos], dtype=np.int64)])
    beams = np.zeros((1, beam), dtype=np.int64)
    plan = StepPlan(
        tokens=beams + ids.decoder_start, parents=beams, positions=np.zeros(1, dtype=np.int64),
        scores=np.zeros((1, beam), dtype=np.float32), targets=beams, edits=no_edits(1, beam), candidates=2 * beam,
    )  # fmt: skip
    grid.step(plan)
    grid.keep(np.zeros(1, dtype=np.int64))


def _check_declared(precision: Precision, encoder: ort.InferenceSession, decoder: ort.InferenceSession) -> None:
    declared = {
        "encoder inputs": ({t.name for t in precision.encoder.inputs}, {i.name for i in encoder.get_inputs()}),
        "encoder outputs": ({t.name for t in precision.encoder.outputs}, {o.name for o in encoder.get_outputs()}),
        "decoder inputs": (
            {t.name for t in (*precision.decoder.inputs, *precision.memory)} | {s.past for s in precision.state},
            {i.name for i in decoder.get_inputs()},
        ),
        "decoder outputs": (
            {t.name for t in precision.decoder.outputs} | {s.present for s in precision.state},
            {o.name for o in decoder.get_outputs()},
        ),
    }
    problems = [f"{what} differ in {sorted(said ^ found)}" for what, (said, found) in declared.items() if said != found]
    if problems:
        raise StartupError(f"the graphs are not what the manifest declares: {'; '.join(problems)}; export again")


class OnnxGrid:
    """Slots x beams of sentences in flight on the CPU; ``DeviceGrid`` is for other devices."""

    def __init__(self, runner: OnnxRunner, beam: int, slots: int) -> None:
        self._runner, self._beam, self._slots, self._busy = runner, beam, slots, 0
        self._specs: tuple[TensorSpec, ...] = (*runner.precision.memory, *runner.precision.state)
        self._windows = {
            Axis.SRC: SMALLEST_WINDOW,
            Axis.ENTRY: SMALLEST_WINDOW,
            Axis.SHORTLIST: SMALLEST_SHORTLIST,
            Axis.SLOT: min(slots, _FIRST_SLOTS),
        }
        self._buffers: list[tuple[TensorSpec, SlotBuffer]] = [
            (spec, HostBuffer(self._shape(spec), np.dtype(spec.dtype))) for spec in self._specs
        ]
        cached = any(Axis.ENTRY in spec.axes for spec in self._specs)
        self._entries = CacheTable(beam, slots) if cached else None
        self._source_lengths = np.zeros(slots, dtype=np.int64)
        self._shortlist_sizes = np.zeros(slots, dtype=np.int64)
        pad_id = runner.manifest.special_ids.pad
        self._encode = HostEncoder(runner.encoder, runner.precision.encoder, pad_id)
        self._binding = HostStep(runner.decoder, runner.precision, beam, slots, pad_id)

    @property
    def beam(self) -> int:
        """Hypotheses a slot."""
        return self._beam

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers."""
        return sum(buffer.nbytes for _, buffer in self._buffers)

    def _shape(self, spec: TensorSpec) -> tuple[int, ...]:
        return spec.shape({Axis.BEAM: self._beam, **self._windows})

    def _set_window(self, axis: Axis, needed: int) -> None:
        """Gives tensors with ``axis`` a bucket that fits: a larger one at once, a smaller one if it saves half."""
        wanted = fitting(self._windows[axis], needed)
        if wanted != self._windows[axis]:
            self._resize(axis, wanted)

    def _resize(self, axis: Axis, wanted: int) -> None:
        self._windows[axis] = wanted
        moved = [buffer.resize(self._shape(spec), self._busy) for spec, buffer in self._buffers if axis in spec.axes]
        if any(moved):
            self._binding.forget()

    def admit(self, sources: Sequence[Ints], prefixes: Sequence[Sequence[int]] = ()) -> None:
        """Encodes sources as one batch and places them in the next slots, in order. Each shape (src,), int64."""
        first, count = self._busy, len(sources)
        lengths = np.array([source.size for source in sources], dtype=np.int64)
        shortlists = self._shortlists(sources, prefixes)
        encoded = self._encode(sources, lengths, shortlists)
        self._source_lengths[first : first + count] = lengths
        if shortlists:
            self._shortlist_sizes[first : first + count] = [shortlist.size for shortlist in shortlists]
            widest = int(self._shortlist_sizes[: first + count].max())
            self._set_window(Axis.SHORTLIST, max(widest, SMALLEST_SHORTLIST))
        in_flight = self._source_lengths[: first + count]
        self._set_window(Axis.SRC, int(in_flight.max()))
        if in_flight.size > self._windows[Axis.SLOT]:
            self._resize(Axis.SLOT, min(self._slots, 1 << (in_flight.size - 1).bit_length()))
        for spec, buffer in self._buffers:
            buffer.write(first, self._initial(spec, encoded, count))
        if self._entries is not None:
            self._entries.admit(first, count)
        self._busy += count

    def _shortlists(self, sources: Sequence[Ints], prefixes: Sequence[Sequence[int]]) -> list[Ints]:
        shortlist = self._runner.shortlist
        if shortlist is None:
            return []
        return [
            shortlist.candidates(source, prefix)
            for source, prefix in zip(sources, prefixes or [()] * len(sources), strict=True)
        ]

    def _initial(self, spec: TensorSpec, encoded: dict[str, NDArray[np.generic]], count: int) -> NDArray[np.generic]:
        """What a new slot holds. Zeroed caches keep a broken predecessor (NaN) out of masked positions."""
        if not isinstance(spec, StateSpec):
            return encoded[spec.name]
        if spec.initial is None:
            return np.zeros((count, *(0 for _ in spec.axes[1:])), dtype=np.dtype(spec.dtype))
        alike = np.expand_dims(encoded[spec.initial], spec.axes.index(Axis.BEAM))
        return np.repeat(alike, self._beam, axis=spec.axes.index(Axis.BEAM))

    def step(self, plan: StepPlan) -> Candidates:
        """Runs the decoder once for all busy slots; the answer is valid until the next step."""
        cache = None
        if self._entries is not None:
            cache = self._entries.advance(plan.parents)
            self._set_window(Axis.ENTRY, cache[0].shape[3])
        windows = self._windows[Axis.ENTRY], self._windows[Axis.SRC], self._windows[Axis.SHORTLIST]
        return self._binding.run(plan, cache, self._source_lengths, windows, self._buffers)

    def keep(self, order: Ints) -> None:
        """Keeps some slots, frees the rest: slot i then holds what ``order[i]`` held. Shape (kept slot,), int64."""
        targets = np.flatnonzero(order != np.arange(order.size))
        if targets.size:
            sources = order[targets]
            for held in (self._source_lengths, self._shortlist_sizes):
                held[targets] = held[sources]
            for _, buffer in self._buffers:
                buffer.move(sources, targets)
            if self._entries is not None:
                self._entries.keep(order)
        self._busy = int(order.size)
