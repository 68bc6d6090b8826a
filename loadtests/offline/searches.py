"""Token ids and search options, the same for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Ids = list[int]  # token ids: of a source with the end token, of a translation without
Batches = Sequence[Sequence[Ids]]
SHORTLIST = "-shortlist"  # after the name of a precision or compute type that uses the bundle's shortlist


@dataclass(frozen=True)
class Search:
    """Greedy or beam search with the defaults of a bundle: score = sum of log p / length, the end token counted.

    A sentence ends when ``beam`` hypotheses have ended, the default of all engines.
    """

    beam: int  # hypotheses kept at each step; 1 is greedy
    max_length: int  # maximum of target tokens, without the end token
    min_length: int = 0  # target tokens before the end token is admitted; ``max_length`` forces a length
    suppressed: tuple[int, ...] = ()  # ids that are never emitted; special ones never are in this engine
