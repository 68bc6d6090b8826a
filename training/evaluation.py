"""Translate a test set and score it with sacrebleu (Post 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from training.data.tokenizer import Tokenizer
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


def translate_greedily(
    model: TranslationModel[Any], sources: Sequence[Sequence[int]], target: Tokenizer, *, max_length: int, reverse: bool
) -> list[str]:
    """Translate token ids to texts, in batches of like lengths; the order of the input is kept.

    Args:
        model: In eval mode.
        sources: Piece ids, without eos.
        target: To join pieces.
        max_length: Most tokens of a translation.
        reverse: Whether the model reads its source backwards.
    """
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    texts = [""] * len(sources)
    for start in range(0, len(order), ROWS_AT_ONCE):
        chunk = order[start : start + ROWS_AT_ONCE]
        ids = greedy_batch(model, [sources[i] for i in chunk], max_length=max_length, reverse_source=reverse)
        for i, text in zip(chunk, target.decode(ids), strict=True):
            texts[i] = text
    return texts
