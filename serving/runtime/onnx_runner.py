"""Runs a bundle on ONNX Runtime: encodes sources into slots and steps all slots x beams at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from weakref import WeakSet

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.bundle.bundle import Bundle
from serving.bundle.manifest import Axis, Manifest, Precision, StateSpec, TensorSpec
from serving.decoding.step import Candidates, Ints, StepPlan
from serving.errors import StartupError
from serving.runtime.buffers import SlotBuffer, allocate
from serving.runtime.cache_entries import CacheEntries
from serving.runtime.encoder_run import EncoderRun
from serving.runtime.session import PROVIDERS, open_session
from serving.runtime.step_binding import StepBinding

log = logging.getLogger(__name__)

_FASTEST = {"cpu": ("int8", "fp32"), "cuda": ("fp16", "fp32")}  # precisions by device, fastest first
_SMALLEST_BUCKET = 8  # positions
_FIRST_SLOTS = 8  # with memory; doubles


def bucket(size: int) -> int:
    """The smallest bucket that holds ``size`` positions: multiples of 8, from 64 on about an eighth apart."""
    step = max(_SMALLEST_BUCKET, 1 << (size - 1).bit_length() >> 3)
    return -(-size // step) * step


class OnnxRunner:
    """A bundle's graphs of one precision, loaded on one device."""

    def __init__(self, manifest: Manifest, precision: str, encoder: ort.InferenceSession,
                 decoder: ort.InferenceSession, device: str) -> None:  # fmt: skip
        self.manifest, self.precision_name, self.precision = manifest, precision, manifest.precisions[precision]
        self.encoder, self.decoder = encoder, decoder
        self._device = device
        self._grids: WeakSet[OnnxGrid] = WeakSet()

    @classmethod
    def open(cls, bundle: Bundle, *, precision: str = "auto", device: str = "auto", threads: int = 0) -> OnnxRunner:
        """Loads a bundle.

        Args:
            bundle: What :func:`serving.bundle.bundle.load_bundle` returned.
            precision: One of the manifest's, or ``auto``: the fastest one it has for the device.
            device: ``cpu``, ``cuda`` (an error where absent) or ``auto`` (CUDA where it works, else CPU, logged).
            threads: Threads of one operator on the CPU; 0 takes one for each core.

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
                    log.warning("no CUDA, running on the CPU", extra={"cause": str(error)})
            device = "cpu"
        if precision == "auto":
            fastest = _FASTEST.get(device, ())
            precision = next((name for name in fastest if name in manifest.precisions), next(iter(manifest.precisions)))
        chosen = manifest.precisions[precision]
        if device in PROVIDERS and device not in chosen.devices:
            raise StartupError(f"precision {precision} runs on {', '.join(chosen.devices)}, not on {device}")
        encoder, decoder = (
            open_session(bundle.path(graph.file), device=device, threads=threads)
            for graph in (chosen.encoder, chosen.decoder)
        )
        _check_declared(chosen, encoder, decoder)
        return cls(manifest, precision, encoder, decoder, device)

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``."""
        return self._device

    def grid(self, beam: int, slots: int) -> OnnxGrid:
        """Makes an empty grid for up to ``slots`` sentences with ``beam`` hypotheses each."""
        grid = OnnxGrid(self, beam, slots)
        self._grids.add(grid)
        return grid

    def state_bytes(self) -> int:
        """Bytes held for memory and state by all grids."""
        return sum(grid.nbytes for grid in self._grids)


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
    """Slots x beams of sentences in flight; their memory and state never leave the device."""

    def __init__(self, runner: OnnxRunner, beam: int, slots: int) -> None:
        self._runner, self._beam, self._slots, self._busy = runner, beam, slots, 0
        self._specs: tuple[TensorSpec, ...] = (*runner.precision.memory, *runner.precision.state)
        self._windows = {Axis.SRC: _SMALLEST_BUCKET, Axis.ENTRY: _SMALLEST_BUCKET, Axis.SLOT: min(slots, _FIRST_SLOTS)}
        self._buffers: list[tuple[TensorSpec, SlotBuffer]] = [
            (spec, allocate(runner.device, self._shape(spec), np.dtype(spec.dtype))) for spec in self._specs
        ]
        cached = any(Axis.ENTRY in spec.axes for spec in self._specs)
        self._entries = CacheEntries(beam, slots) if cached else None
        self._source_lengths = np.zeros(slots, dtype=np.int64)
        pad_id = runner.manifest.special_ids.pad
        self._encode = EncoderRun(runner.encoder, runner.precision.encoder, pad_id)
        self._binding = StepBinding(runner.decoder, runner.precision, beam, slots, pad_id)

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
        """Gives tensors with ``axis`` a bucket that fits: a larger one at once, a smaller one if it saves a quarter."""
        current, wanted = self._windows[axis], bucket(needed)
        if wanted == current or current * 3 < wanted * 4 < current * 4:
            return
        self._resize(axis, wanted)

    def _resize(self, axis: Axis, wanted: int) -> None:
        self._windows[axis] = wanted
        moved = [buffer.resize(self._shape(spec), self._busy) for spec, buffer in self._buffers if axis in spec.axes]
        if any(moved):
            self._binding.forget()

    def admit(self, sources: Sequence[Ints]) -> None:
        """Encodes sources as one batch and places them in the next slots, in order. Each shape (src,), int64."""
        first, count = self._busy, len(sources)
        lengths = np.array([source.size for source in sources], dtype=np.int64)
        encoded = self._encode(sources, lengths)
        self._source_lengths[first : first + count] = lengths
        in_flight = self._source_lengths[: first + count]
        self._set_window(Axis.SRC, int(in_flight.max()))
        if in_flight.size > self._windows[Axis.SLOT]:
            self._resize(Axis.SLOT, min(self._slots, 1 << (in_flight.size - 1).bit_length()))
        for spec, buffer in self._buffers:
            buffer.write(first, self._initial(spec, encoded, count))
        if self._entries is not None:
            self._entries.admit(first, count)
        self._busy += count

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
        windows = self._windows[Axis.ENTRY], self._windows[Axis.SRC]
        return self._binding.run(plan, cache, self._source_lengths, windows, self._buffers)

    def keep(self, order: Ints) -> None:
        """Keeps some slots, frees the rest: slot i then holds what ``order[i]`` held. Shape (kept slot,), int64."""
        targets = np.flatnonzero(order != np.arange(order.size))
        if targets.size:
            sources = order[targets]
            self._source_lengths[targets] = self._source_lengths[sources]
            for _, buffer in self._buffers:
                buffer.move(sources, targets)
            if self._entries is not None:
                self._entries.keep(order)
        self._busy = int(order.size)
