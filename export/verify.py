"""How an export is proven right: values at many shapes, then whole translations of real sentences.

The reference is ``training.decode``, the slow and obvious search in PyTorch; the export runs in serving's own engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import sacrebleu
import torch

from export.errors import VerificationError
from export.values import SHAPES, largest_difference
from serving.bundle.manifest import Verification
from serving.decoding.options import DecodingOptions
from serving.engine.engine import Engine
from serving.engine.scheduler import EngineLimits
from serving.engine.submission import Sentence
from serving.runtime.onnx_runner import OnnxRunner
from serving.runtime.session import VERSION as ONNX_RUNTIME_VERSION
from training import decode
from training.checkpoint import LoadedCheckpoint
from training.data.tokenizer import load_tokenizer

MAX_LOG_PROB_DIFFERENCE = 1e-4  # nats
MIN_EQUAL_RATIO = 0.999
BEAM = 4


@dataclass(frozen=True)
class Evidence:
    """Real sentences to verify on.

    Attributes:
        sources: Sentences.
        references: Their human translations, or empty: then no BLEU is recorded.
        max_length: Target tokens at most.
    """

    sources: Sequence[str]
    references: Sequence[str]
    max_length: int


def verify(checkpoint: LoadedCheckpoint, runner: OnnxRunner, evidence: Evidence) -> Verification:
    """Compares an export with the model it was made of.

    Args:
        checkpoint: With the very weights the graphs hold.
        runner: The export, loaded.
        evidence: Real sentences.

    Returns:
        What was measured; ``reference_bleu`` is the checkpoint's, beam search in PyTorch.

    Raises:
        VerificationError: A figure misses its limit; lists every one.
    """
    ids = load_tokenizer(checkpoint.source_tokenizer_bytes).encode(evidence.sources)
    difference = largest_difference(checkpoint.model, runner)
    equal: dict[int, float] = {}
    outputs: dict[str, list[list[int]]] = {}
    for beam in (1, BEAM):
        outputs["reference"] = translate_in_torch(checkpoint, ids, beam, evidence.max_length)
        outputs["export"] = translate_in_engine(runner, ids, beam, evidence.max_length)
        pairs = zip(outputs["reference"], outputs["export"], strict=True)
        equal[beam] = float(np.mean([a == b for a, b in pairs]))
    scores: dict[str, float] = {}
    signature = None
    if evidence.references:
        for name, rows in outputs.items():
            scores[name], signature = bleu(checkpoint, rows, evidence.references)
    _require(difference, equal)
    return Verification(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={
            "dragoman": version("dragoman"),
            "torch": torch.__version__,
            "onnxruntime": ONNX_RUNTIME_VERSION,
        },
        shapes_checked=len(SHAPES),
        max_abs_log_prob_difference=difference,
        sentences=len(ids),
        greedy_equal_ratio=equal[1],
        beam_equal_ratio=equal[BEAM],
        beam_size=BEAM,
        reference_bleu=scores.get("reference"),
        export_bleu=scores.get("export"),
        bleu_signature=signature,
    )


def bleu(checkpoint: LoadedCheckpoint, rows: Sequence[Sequence[int]], references: Sequence[str]) -> tuple[float, str]:
    """BLEU (sacrebleu, 13a, cased) of translations as token ids, and its signature."""
    metric = sacrebleu.BLEU()
    texts = load_tokenizer(checkpoint.target_tokenizer_bytes).decode(rows)
    return round(metric.corpus_score(texts, [list(references)]).score, 2), str(metric.get_signature())


def _require(difference: float, equal: dict[int, float]) -> None:
    reasons = []
    if not difference <= MAX_LOG_PROB_DIFFERENCE:
        reasons.append(f"a log-probability differs by {difference:.1e}, at most {MAX_LOG_PROB_DIFFERENCE:.0e} may")
    reasons += [
        f"beam {beam}: {ratio:.2%} of the sentences have the reference's tokens, at least {MIN_EQUAL_RATIO:.1%} must"
        for beam, ratio in equal.items()
        if ratio < MIN_EQUAL_RATIO
    ]
    if reasons:
        raise VerificationError(reasons)


def translate_in_torch(
    checkpoint: LoadedCheckpoint, ids: Sequence[Sequence[int]], beam: int, max_length: int
) -> list[list[int]]:
    """The reference's best hypotheses as token ids, without special ids."""
    options = decode.DecodeOptions(beam_size=beam, max_length=max_length)
    reverse = checkpoint.config.data.reverse_source
    found = decode.translate(checkpoint.model, [list(row) for row in ids], options, reverse_source=reverse)
    return [list(hypotheses[0].tokens) for hypotheses in found]


def translate_in_engine(
    runner: OnnxRunner, ids: Sequence[Sequence[int]], beam: int, max_length: int
) -> list[list[int]]:
    """The export's best hypotheses as token ids, decoded in company by serving's engine."""
    manifest = runner.manifest
    options = DecodingOptions(max_length=max_length, beam_size=beam)
    sentences = [
        Sentence(np.array([*(row[::-1] if manifest.reverse_source else row), manifest.special_ids.eos]), options)
        for row in map(list, ids)
    ]
    limits = EngineLimits(queue_sentences=len(sentences), queue_tokens=sum(s.source.size for s in sentences) + 1)
    engine = Engine(runner, special_ids=manifest.special_ids, vocabulary_size=manifest.vocabulary_size, limits=limits)
    try:
        decoded: Any = engine.submit(sentences).future.result()
    finally:
        engine.stop()
    return [list(one.hypotheses[0].tokens) for one in decoded]
