"""Decoding options of one sentence."""

from __future__ import annotations

from dataclasses import dataclass

from serving.bundle.manifest import SearchConventions
from serving.decoding.terms import Terms
from serving.messages import EarlyStopping, Sampling

_ORDINARY = SearchConventions()


@dataclass(frozen=True)
class DecodingOptions:
    """Validated decoding options of one sentence, with nothing left unset.

    A field that bears the name of one in :class:`serving.messages.Options` is filled from it.

    Attributes:
        beam_size: Hypotheses kept at each step; 1 is greedy.
        n_best: Hypotheses returned at most; a search ends with up to ``2 * beam_size`` of them.
        length_penalty: alpha in score = sum of log p / length ** alpha; length counts the end token.
        early_stopping: When a beam search stops; greedy search always ends with its only hypothesis.
        min_length: Target tokens before the end token is admitted.
        max_length: Target tokens at most, the end token not counted.
        no_repeat_ngram_size: No n-gram of this size occurs twice; 0 is off.
        repetition_penalty: Log-probabilities of tokens already produced are multiplied by this; 1 is off.
        prefix: Target tokens the translation must begin with.
        beside: The prefix is a whole translation, with its end token, which has a place in the beam of an ordinary
            search. If that finds it anyway, each step is the same, and so is each log-probability, to the bit.
        start: Target tokens that come even before those, such as a language's. They have a log-probability of 0, count
            in the score's length, and are no part of a hypothesis.
        groups: Groups that the beam is divided into, whose hypotheses differ; the beam size is a multiple of it.
        diversity_penalty: What it costs a group to go on as another does, in nats.
        sampling: Random choice instead of search; has a seed.
        search: What the model's users expect of a search besides.
        terms: What the translation must contain; None is nothing.
        enough: Finished hypotheses that end the search; 0 is the beam size.
    """

    max_length: int
    beam_size: int = 1
    n_best: int = 1
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = EarlyStopping.ON
    min_length: int = 0
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0
    prefix: tuple[int, ...] = ()
    beside: bool = False
    start: tuple[int, ...] = ()
    groups: int = 1
    diversity_penalty: float = 0.0
    sampling: Sampling | None = None
    search: SearchConventions = _ORDINARY
    terms: Terms | None = None
    enough: int = 0

    @property
    def given_tokens(self) -> tuple[int, ...]:
        """Tokens that the translation contains whatever the model thinks of them."""
        return self.prefix if self.terms is None else (*self.prefix, *self.terms.symbols.tolist())
