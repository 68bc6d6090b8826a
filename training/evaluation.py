"""Translate a validation set quickly, and score it with sacrebleu (Post 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from training.decode import greedy_batch
from training.models.contract import TranslationModel

ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Scores:
    """Corpus scores of detokenised, cased text.

    Attributes:
        bleu: BLEU, 0 to 100.
        chrf: chrF2, 0 to 100.
        signatures: How sacrebleu computed the two, to be quoted beside them.
    """

    bleu: float
    chrf: float
    signatures: tuple[str, str]


def score(translations: Sequence[str], references: Sequence[str]) -> Scores:
    """BLEU (13a tokenisation) and chrF2 against one reference each."""
    metrics = (BLEU(), CHRF())
    bleu, chrf = (metric.corpus_score(list(translations), [list(references)]).score for metric in metrics)
    return Scores(bleu, chrf, (str(metrics[0].get_signature()), str(metrics[1].get_signature())))


def greedy_ids(
    model: TranslationModel[Any], sources: Sequence[Sequence[int]], *, max_length: int, reverse: bool
) -> list[list[int]]:
    """Translate token ids greedily, in batches of like lengths; the order of the input is kept.

    Args:
        model: In eval mode.
        sources: Token ids, without eos.
        max_length: Most tokens of a translation.
        reverse: Whether the model reads its source backwards.
    """
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    found: list[list[int]] = [[] for _ in sources]
    for start in range(0, len(order), ROWS_AT_ONCE):
        chunk = order[start : start + ROWS_AT_ONCE]
        ids = greedy_batch(model, [sources[i] for i in chunk], max_length=max_length, reverse_source=reverse)
        for i, row in zip(chunk, ids, strict=True):
            found[i] = row
    return found
