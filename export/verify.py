"""Verification of an export: values at many shapes, then whole translations of real sentences.

The reference is ``training.decode``, the slow and obvious search in PyTorch; the export runs in serving's own engine.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import sacrebleu
import torch
from numpy.typing import NDArray
from torch import nn

from export.errors import VerificationError
from export.numeric_parity import SHAPES, largest_differences
from export.trained_model import TrainedModel
from serving.bundle.manifest import LanguagePair, VerificationRecord
from serving.decoding.options import DecodingOptions
from serving.engine.submission import Sentence
from serving.opening import offline_engine
from serving.runtime.onnx_runner import OnnxRunner
from serving.runtime.session import VERSION as ONNX_RUNTIME_VERSION
from training import decode
from training.progress_bar import progress

MAX_LOG_PROB_DIFFERENCE = 1e-4  # nats
MAX_ATTENTION_DIFFERENCE = 1e-4
MIN_EQUAL_RATIO = 0.999
MAX_BLEU_LOSS = 0.3  # of a precision that rounds
MAX_HALF_DIFFERENCE = 0.1  # nats, of fp16
MIN_AGREEMENT = 70.0  # BLEU of its translations against PyTorch's, where there are no human ones
BEAM = 4
_LARGE = 20_000_000  # parameters, from which on PyTorch's steps take longer than Python's
_UNROUNDED = ("fp32", "fp32-shortlist")
_FIRST = 20  # translations, after which a model that does not end its sentences is found out

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evidence:
    """Real sentences to verify on.

    Attributes:
        sources: Sentences.
        references: Their human translations, or empty: then no BLEU is recorded.
        max_length: Target tokens at most.
        languages: Of each sentence; empty where the model need not be told.
    """

    sources: Sequence[str]
    references: Sequence[str]
    max_length: int
    languages: Sequence[LanguagePair] = ()

    def source_ids(self, trained: TrainedModel) -> list[list[int]]:
        """Return the sentences as token ids, with those of the languages before them."""
        pairs = self.languages or [LanguagePair("", "")] * len(self.sources)
        ids = trained.encode(self.sources)
        return [[*pair.before_source, *row] for pair, row in zip(pairs, ids, strict=True)]

    @property
    def starts(self) -> list[tuple[int, ...]]:
        """The tokens that the languages put before each translation."""
        return [pair.before_target for pair in self.languages] or [()] * len(self.sources)


@dataclass(frozen=True)
class Translations:
    """Translations of the evidence by PyTorch.

    Attributes:
        tokens: Token ids of the best hypotheses, without special ids, by the size of the beam.
        bleu: Of the larger beam, if there are references.
    """

    tokens: dict[int, list[list[int]]]
    bleu: float | None


def translate_evidence(trained: TrainedModel, evidence: Evidence) -> Translations:
    """Translate the evidence in PyTorch, greedily and by beam search."""
    ids, starts = evidence.source_ids(trained), evidence.starts
    tokens = {beam: translate_in_torch(trained, ids, beam, evidence.max_length, starts) for beam in (1, BEAM)}
    score = bleu(trained, tokens[BEAM], evidence.references)[0] if evidence.references else None
    return Translations(tokens, score)


def verify(
    trained: TrainedModel,
    runner: OnnxRunner,
    evidence: Evidence,
    expected: Translations,
    *,
    max_bleu_loss: float | None = None,
) -> VerificationRecord:
    """Compare an export with the model it was made of.

    Args:
        trained: With the very weights the graphs hold.
        runner: The export, loaded.
        evidence: Real sentences.
        expected: What PyTorch makes of them.
        max_bleu_loss: None for a precision that computes what PyTorch does; else what rounding may cost, and without
            references the translations must agree with PyTorch's, unless the loss may be infinite.

    Returns:
        What was measured; ``reference_bleu`` is PyTorch's.

    Raises:
        VerificationError: A figure misses its limit; lists every one.
    """
    sources, starts = [trained.framed(row) for row in evidence.source_ids(trained)], evidence.starts
    found = {beam: translate_in_engine(runner, sources, beam, evidence.max_length, starts) for beam in expected.tokens}
    equal = {
        beam: float(np.mean([a == b for a, b in zip(expected.tokens[beam], found[beam], strict=True)]))
        for beam in expected.tokens
    }
    score, signature = bleu(trained, found[BEAM], evidence.references) if evidence.references else (None, None)
    differences = largest_differences(trained.model, runner, renormalize=trained.search.renormalize)
    record = VerificationRecord(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={
            "dragoman": version("dragoman"),
            "torch": torch.__version__,
            "onnxruntime": ONNX_RUNTIME_VERSION,
        },
        shapes_checked=len(SHAPES),
        max_abs_log_prob_difference=differences.log_prob,
        sentences=len(sources),
        greedy_equal_ratio=equal[1],
        beam_equal_ratio=equal[BEAM],
        beam_size=BEAM,
        reference_bleu=expected.bleu,
        export_bleu=score,
        bleu_signature=signature,
    )
    if runner.precision_name in _UNROUNDED:
        require_attention(differences.attention, runner.precision_name)
    if max_bleu_loss is None:
        require_equal(record)
    else:
        words = trained.decode(expected.tokens[BEAM])
        record = record.model_copy(update={"agreement_bleu": bleu(trained, found[BEAM], words)[0]})
        require_close(record, max_bleu_loss, runner.precision_name)
    return record


def bleu(trained: TrainedModel, rows: Sequence[Sequence[int]], references: Sequence[str]) -> tuple[float, str]:
    """BLEU (sacrebleu, 13a, cased) of translations as token ids, and its signature."""
    metric = sacrebleu.BLEU()
    texts = trained.decode(rows)
    return round(metric.corpus_score(texts, [list(references)]).score, 2), str(metric.get_signature())


def require_attention(difference: float, precision: str) -> None:
    """Check that attention is the model's, of a precision that does not round.

    Raises:
        VerificationError: It is not.
    """
    if not difference <= MAX_ATTENTION_DIFFERENCE:
        limit = f"at most {MAX_ATTENTION_DIFFERENCE:.0e} may"
        raise VerificationError([f"{precision}: a weight of attention differs by {difference:.1e}, {limit}"])


def require_equal(record: VerificationRecord) -> None:
    """Check that an fp32 export is as good as it must be.

    Raises:
        VerificationError: It does not; lists every reason.
    """
    difference, reasons = record.max_abs_log_prob_difference, []
    if not difference <= MAX_LOG_PROB_DIFFERENCE:
        reasons.append(f"a log-probability differs by {difference:.1e}, at most {MAX_LOG_PROB_DIFFERENCE:.0e} may")
    reasons += [
        f"beam {beam}: {ratio:.2%} of the sentences have the reference's tokens, at least {MIN_EQUAL_RATIO:.1%} must"
        for beam, ratio in ((1, record.greedy_equal_ratio), (record.beam_size, record.beam_equal_ratio))
        if ratio < MIN_EQUAL_RATIO
    ]
    if reasons:
        raise VerificationError(reasons)


def require_close(record: VerificationRecord, max_bleu_loss: float, precision: str = "int8") -> None:
    """Check that an export that rounds, int8 or fp16, or has a shortlist, is as good as it must be.

    Raises:
        VerificationError: It does not; lists every reason.
    """
    difference, reasons = record.max_abs_log_prob_difference, []
    if not np.isfinite(difference):
        reasons.append(f"{precision}: a log-probability differs by {difference}")
    elif precision == "fp16" and np.isfinite(max_bleu_loss) and difference > MAX_HALF_DIFFERENCE:
        reasons.append(f"fp16: a log-probability differs by {difference:.1e}, at most {MAX_HALF_DIFFERENCE} may")
    elif precision == "fp32-shortlist" and difference > MAX_LOG_PROB_DIFFERENCE:
        reasons.append(
            f"{precision}: a log-probability differs by {difference:.1e}, at most {MAX_LOG_PROB_DIFFERENCE:.0e} may"
        )
    if record.reference_bleu is not None and record.export_bleu is not None:
        if record.reference_bleu - record.export_bleu > max_bleu_loss:
            reasons.append(
                f"{precision}: BLEU is {record.export_bleu:.2f} where PyTorch has {record.reference_bleu:.2f}, at most "
                f"{max_bleu_loss} may be lost: export without {precision}, or allow more with --max-bleu-loss"
            )
    elif np.isfinite(max_bleu_loss) and (record.agreement_bleu or 0) < MIN_AGREEMENT:
        reasons.append(
            f"{precision}: BLEU against PyTorch's translations is {record.agreement_bleu}, at least {MIN_AGREEMENT} is "
            f"needed: give references, export without {precision}, or set --max-bleu-loss inf"
        )
    if reasons:
        raise VerificationError(reasons)


def translate_in_torch(
    trained: TrainedModel,
    ids: Sequence[Sequence[int]],
    beam: int,
    max_length: int,
    starts: Sequence[tuple[int, ...]] = (),
) -> list[list[int]]:
    """Return the reference's best hypotheses as token ids, without special ids; arguments as for the engine."""
    search: dict[str, Any] = {"early_stopping": trained.defaults.early_stopping.value, **dict(trained.search)}

    def translated(row: Sequence[int], start: tuple[int, ...]) -> list[int]:
        options = decode.DecodeOptions(beam_size=beam, max_length=max_length, start=start, **search)
        ((best, *_),) = decode.translate(trained.model, [list(row)], options, reverse_source=trained.reverse_source)
        return list(best.tokens)

    found = list[list[int]]()
    with _a_thread_each(trained.model) as pool:
        answers = pool.map(translated, ids, starts or [()] * len(ids))
        for tokens in progress(answers, f"translating in PyTorch, beam {beam}", total=len(ids)):
            found.append(tokens)
            if len(found) == _FIRST:
                _warn_of_endless(found, max_length)
    return found


@contextmanager
def _a_thread_each(model: nn.Module) -> Iterator[ThreadPoolExecutor]:
    """Share sentences out to threads: one sentence's step is too small to share, threads would wait for milliseconds.

    Steps of small models are Python for the most part, which does not run at the same time: one thread has them all.
    """
    threads = torch.get_num_threads()
    large = sum(parameter.numel() for parameter in model.parameters()) >= _LARGE
    pool = ThreadPoolExecutor(threads if large else 1)
    torch.set_num_threads(1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _warn_of_endless(found: Sequence[Sequence[int]], max_length: int) -> None:
    """Say early that a model hardly ever ends its sentences: verification then takes as long as it possibly can."""
    endless = sum(len(tokens) >= max_length for tokens in found)
    if endless * 2 > len(found):
        _LOG.warning(
            "%d of the first %d translations reach the limit of %d tokens, so verification will be slow and the "
            "model is of little use: train it for longer, or lower --max-target-tokens",
            endless,
            len(found),
            max_length,
        )


def translate_in_engine(
    runner: OnnxRunner,
    sources: Sequence[NDArray[np.int64]],
    beam: int,
    max_length: int,
    starts: Sequence[tuple[int, ...]] = (),
) -> list[list[int]]:
    """Return the export's best hypotheses as token ids, decoded in company by serving's engine.

    Args:
        runner: The export, loaded.
        sources: What the encoder reads, special ids included. Shapes (src,).
        beam: Size of the beam.
        max_length: Target tokens at most.
        starts: Tokens that languages put before each translation, if they do.
    """
    manifest = runner.manifest
    options = DecodingOptions(
        max_length=max_length,
        beam_size=beam,
        early_stopping=manifest.defaults.early_stopping,
        search=manifest.search,
    )
    sentences = [
        Sentence(source, replace(options, start=start))
        for source, start in zip(sources, starts or [()] * len(sources), strict=True)
    ]
    with offline_engine(runner) as engine:
        futures = [engine.submit([sentence]).future for sentence in sentences]
        stage = f"translating with {runner.precision_name}, beam {beam}"
        decoded = [future.result()[0] for future in progress(futures, stage)]
    return [list(one.hypotheses[0].tokens) for one in decoded]
