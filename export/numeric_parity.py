"""Do the graphs compute what the model computes? Log-probabilities and attention, step by step, at many shapes.

Slots join at different times, so their positions differ; beams are reordered at random before each step, so that a
wrong parent, cache entry or position cannot pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from serving.runtime.onnx_runner import OnnxRunner
from serving.step import Candidates, Edits, Floats, Ints, StepPlan
from training.models.contract import TranslationModel
from training.progress_bar import progress


@dataclass(frozen=True)
class Shape:
    """Sizes to check at: source lengths in tokens (the end token included) of each slot, beams, and steps."""

    sources: tuple[int, ...]
    beam: int
    steps: int


SHAPES = (
    Shape((1,), 1, 3),
    Shape((2,), 4, 4),
    Shape((7, 3, 5), 2, 20),
    Shape((1, 9, 4, 4, 6), 1, 18),
    Shape((33, 17, 2, 1, 8, 20, 5, 12), 4, 36),
)


@dataclass(frozen=True)
class Differences:
    """The largest ``|differences|`` between PyTorch and ONNX Runtime.

    Attributes:
        log_prob: Of a log-probability, in nats.
        attention: Of a weight of attention, of the sum of a hypothesis' weights, or between its largest weight and that
            of the position it is aligned with; 0 where graphs tell no attention.
    """

    log_prob: float
    attention: float = 0.0


@torch.inference_mode()
def largest_differences(
    model: TranslationModel[Any], runner: OnnxRunner, shapes: Sequence[Shape] = SHAPES, *, renormalize: bool = False
) -> Differences:
    """Compare a model with its graphs.

    Compares the candidates' scores and the targets' log-probabilities of every beam at every step, and its attention.
    Where the graphs have a shortlist, PyTorch's logits of all other tokens are -inf, and where they ``renormalize``,
    those of suppressed ones.
    """
    stage = f"comparing log-probabilities of {runner.precision_name}"
    found = [
        _differences(model, runner, shape, np.random.default_rng(number), renormalize)
        for number, shape in enumerate(progress(shapes, stage))
    ]
    return Differences(max(one.log_prob for one in found), max(one.attention for one in found))


class _Attention:
    """What the hypotheses of one slot have read, and what they attended to meanwhile."""

    def __init__(self, beam: int, src: int) -> None:
        self._read = np.zeros((beam, 0), dtype=np.int64)
        self._told = np.zeros((beam, 0, src), dtype=np.float32)
        self._aligned = np.zeros((beam, 0), dtype=np.int64)
        self._beyond = 0.0

    def add(self, parents: Ints, tokens: Ints, weights: Floats, aligned: Ints) -> None:
        """Let each hypothesis go on from a parent; weights have shape (beam, src), others (beam,)."""
        src = self._told.shape[2]
        self._beyond = max(self._beyond, float(weights[:, src:].max(initial=0)))
        self._read = np.concatenate([self._read[parents], tokens[:, None]], axis=1)
        self._told = np.concatenate([self._told[parents], weights[:, None, :src]], axis=1)
        self._aligned = np.concatenate([self._aligned[parents], aligned[:, None]], axis=1)

    def difference(self, model: TranslationModel[Any], source: Ints, head: tuple[int, int]) -> float:
        """Compare with the model, which reads everything at once; shape of the source (src,)."""
        beam = self._read.shape[0]
        rows, lengths = torch.from_numpy(source)[None].expand(beam, -1), torch.full((beam,), source.size)
        weights = model.attention(rows, lengths, torch.from_numpy(self._read))[head[0], :, head[1]]
        expected = (weights / weights.sum(dim=-1, keepdim=True)).numpy()  # over the source alone
        most = np.take_along_axis(self._told, self._aligned[:, :, None], axis=2)[:, :, 0]
        found = (self._told - expected, self._told.sum(axis=2) - 1, self._told.max(axis=2) - most, self._beyond)
        worst = max(float(np.abs(differences).max()) for differences in found)
        return worst if np.isfinite(worst) else np.inf


def _differences(
    model: TranslationModel[Any], runner: OnnxRunner, shape: Shape, rng: np.random.Generator, renormalize: bool
) -> Differences:
    vocabulary = model.vocabulary
    beam, slots = shape.beam, len(shape.sources)
    sources = [
        np.append(rng.integers(0, vocabulary.source_size, size=length - 1), vocabulary.eos) for length in shape.sources
    ]
    states = [_state(model, source, beam) for source in sources]
    without = vocabulary.suppressed if renormalize else ()
    barred = [_barred(runner, source, vocabulary.target_size, without) for source in sources]
    attention = [_Attention(beam, length) for length in shape.sources if runner.model.precision.has_attention]
    grid = runner.grid(beam, slots)
    early = -(-slots // 2)  # the others join one step later
    grid.admit(sources[:early])
    tokens = np.full((slots, beam), vocabulary.decoder_start)
    worst = 0.0
    for step in range(shape.steps):
        if step == 1 and early < slots:
            grid.admit(sources[early:])
        busy = early if step == 0 else slots
        positions = np.where(np.arange(busy) < early, step, step - 1)
        parents = rng.integers(0, beam, size=(busy, beam))
        for slot in range(busy):
            states[slot] = states[slot].select(torch.from_numpy(parents[slot]))
        plan = StepPlan(
            tokens=tokens[:busy],
            parents=parents,
            positions=positions,
            scores=rng.normal(size=(busy, beam)).astype(np.float32),
            targets=rng.integers(0, vocabulary.target_size, size=(busy, beam)),
            edits=Edits.none(busy, beam),
            candidates=vocabulary.target_size if beam == 1 else 2 * beam,
        )
        answer = grid.step(plan)
        for slot in range(busy):
            logits, states[slot] = model.decode_step(torch.from_numpy(plan.tokens[slot]), states[slot])
            logits = logits.masked_fill(barred[slot], -torch.inf)
            worst = max(worst, _slot_difference(logits, plan, answer, slot, vocabulary.suppressed))
        for slot, own in enumerate(attention[:busy]):
            own.add(parents[slot], plan.tokens[slot], grid.attention()[slot], answer.alignment[slot])
        tokens[:busy] = plan.targets
    sizes = runner.manifest.architecture.sizes
    head = int(sizes.get("alignment_layer", -1)), int(sizes.get("alignment_head", 0))
    pairs = zip(attention, sources, strict=False)
    return Differences(worst, max((own.difference(model, source, head) for own, source in pairs), default=0.0))


def _state(model: TranslationModel[Any], source: np.ndarray[Any, Any], beam: int) -> Any:
    rows = torch.from_numpy(source)[None].expand(beam, -1)
    return model.encode(rows, torch.full((beam,), source.size))


def _barred(
    runner: OnnxRunner, source: np.ndarray[Any, Any], vocabulary_size: int, suppressed: Sequence[int]
) -> torch.Tensor:
    """Mark the tokens that the shortlist of a source lacks, and the suppressed ones. Shape (vocab,), bool."""
    barred = torch.full((vocabulary_size,), runner.shortlist is not None)
    if runner.shortlist is not None:
        barred[runner.shortlist.candidates(source)] = False
    barred[list(suppressed)] = True
    return barred


def _slot_difference(
    logits: torch.Tensor, plan: StepPlan, answer: Candidates, slot: int, suppressed: Sequence[int]
) -> float:
    log_probs = torch.log_softmax(logits, dim=-1).numpy()
    targets = np.take_along_axis(log_probs, plan.targets[slot][:, None], axis=1)[:, 0]
    total = log_probs + plan.scores[slot][:, None]
    total[:, list(suppressed)] = -np.inf
    expected = -np.sort(-total.ravel())[: plan.candidates]
    alive = np.isfinite(expected)
    if not np.array_equal(alive, np.isfinite(answer.scores[slot])):
        return np.inf
    # Each candidate must also have the score of its own token and parent.
    own = total[answer.parents[slot], answer.tokens[slot]]
    scores = answer.scores[slot][alive]
    unlike = targets != answer.target_log_probs[slot]  # where both are -inf their difference is none
    found = (answer.target_log_probs[slot][unlike] - targets[unlike], scores - expected[alive], scores - own[alive])
    return float(max(np.abs(differences).max(initial=0) for differences in found))
