"""What is compared with another library: lists of hypotheses, and how often and how far they differ."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import cycle

from export.trained_model import TrainedModel
from serving.decoding.hypothesis import FinishedHypothesis
from serving.decoding.options import DecodingOptions
from tests.agreement.torch_search import translated

COUNT = int(os.environ.get("DRAGOMAN_AGREEMENT", "12"))  # sources of each search
FULL = COUNT >= 1000  # then every search is made
LIMIT = 24  # tokens of a translation, the end token among them
# Rounding is of all sizes, and where seven hypotheses are within 1e-6 few changes give the order of the other library.
_TRIES, _ROUNDING = 600, (1e-6, 3e-6, 1e-5)  # nats

Theirs = tuple[list[list[int]], list[float]]  # token ids of the hypotheses and their scores, best first


@dataclass(frozen=True)
class Ours:
    """Sources that serving's search translates over a model; once, however often they are compared."""

    trained: TrainedModel
    sources: Sequence[list[int]]
    options: DecodingOptions

    @cached_property
    def hypotheses(self) -> list[list[FinishedHypothesis]]:
        """Of each source, best first."""
        return translated(self.trained, self.sources, self.options)


@dataclass
class Agreement:
    """Counts over many searches.

    Attributes:
        sources: Compared.
        different: Of them, those of which a token of any hypothesis differs.
        unexplained: Of these, those that no rounding explains, in words.
        score: Largest difference of a score where the tokens are the same, of scores below -1 a share of them.
        lengths: Of the hypotheses.
    """

    sources: int = 0
    different: int = 0
    unexplained: list[str] = field(default_factory=list)
    score: float = 0.0
    lengths: set[int] = field(default_factory=set)

    def add(self, ours: Ours, theirs: Sequence[Theirs]) -> None:
        """Compare two translations of the same sources."""
        for source, found, (tokens, scores) in zip(ours.sources, ours.hypotheses, theirs, strict=True):
            self.sources += 1
            self.lengths |= {len(hypothesis) for hypothesis in tokens}
            if tokens_of(found) == tokens:
                for hypothesis, score in zip(found, scores, strict=bool(scores)):
                    self.score = max(self.score, abs(hypothesis.score - score) / max(1.0, abs(score)))
                continue
            self.different += 1
            if not is_a_tie(ours.trained, source, ours.options, tokens):
                self.unexplained.append(f"{source} with {ours.options}: {found} and {tokens} with scores {scores}")

    def check(self, name: str) -> None:
        """Fail unless 99.9 % are the same, all others are ties, and scores agree."""
        share = 1 - self.different / self.sources
        print(f"\n{name}: {self.sources} translations, {self.different} different ({share:.4%} the same), ", end="")
        print(f"{len(self.unexplained)} of them no ties; scores within {self.score:.1e}")
        assert not self.unexplained
        assert share >= 0.999 or self.sources < 1000
        assert self.score < 1e-4
        assert len(self.lengths) > 3


def tokens_of(hypotheses: Sequence[FinishedHypothesis]) -> list[list[int]]:
    """The token ids of each."""
    return [list(hypothesis.tokens) for hypothesis in hypotheses]


def is_a_tie(trained: TrainedModel, source: list[int], options: DecodingOptions, tokens: list[list[int]]) -> bool:
    """Whether moving the logits by as much as rounding does gives the other library's hypotheses."""
    draws = zip(range(_TRIES), cycle(_ROUNDING), strict=False)
    tries = (translated(trained, [source], options, noise=noise, seed=seed)[0] for seed, noise in draws)
    return any(tokens_of(found) == tokens for found in tries)
