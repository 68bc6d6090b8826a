"""Translations by the model itself, for what is learnt from pairs of sentences where nobody has translated any."""

from __future__ import annotations

from export.trained_model import TrainedModel
from export.verify import Evidence
from training.decode import greedy_batch
from training.progress_bar import progress

_BATCH = 32  # sentences of similar length
_SPARE_TOKENS = 16  # of a translation, beyond twice its source


def own_translations(trained: TrainedModel, evidence: Evidence) -> list[list[int]]:
    """Translate sentences greedily, many at once; return token ids without special ones, in the order of the sentences.

    Args:
        trained: The model.
        evidence: The sentences, and between which languages each is translated.
    """
    rows, starts = evidence.source_ids(trained), evidence.starts
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    found: dict[int, list[int]] = {}
    batches = [order[first : first + _BATCH] for first in range(0, len(order), _BATCH)]
    for batch in progress(batches, "translating for the shortlist"):
        longest = max(len(rows[index]) for index in batch)
        translated = greedy_batch(
            trained.model,
            [rows[index] for index in batch],
            max_length=min(evidence.max_length, 2 * longest + _SPARE_TOKENS),
            reverse_source=trained.reverse_source,
            starts=[starts[index] for index in batch],
        )
        found |= zip(batch, translated, strict=True)
    return [found[index] for index in range(len(rows))]
