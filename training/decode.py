"""Greedy and beam search in PyTorch: slow, obvious, and the reference that every other decoder is compared with.

The search, for one sentence and beam width B:

1. One live hypothesis, score 0, whose first input is the decoder's start token.
2. Each step takes the float32 log-softmax over the whole vocabulary. Log-probs of tokens already generated are
   multiplied by the repetition penalty; then some tokens are ruled out: pad, unk, bos and the start token always,
   those that would repeat an n-gram, and eos below the minimum length; with ``renormalize`` the others gain what these
   lose. While a prefix is being forced, its token is the only candidate, and none of these edits applies.
3. Candidates are all (live hypothesis, token) pairs, scored by the sum of log-probs; the best 2B count, ties going to
   the lower (hypothesis, token). An eos candidate ranked among the first B finishes its hypothesis with score
   sum / length^alpha, length counting eos; one ranked lower is dropped. The first B others live on.
4. The sentence ends when B hypotheses have finished, or as ``early_stopping`` says, or after ``max_length`` tokens;
   then live ones, best first, fill up the pool, with score sum / length^alpha.

Greedy search is the case B = 1, which always ends with its first hypothesis. What searches of other toolkits do
differently has options of its own; they are at the end of ``DecodeOptions``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from training.data.batches import make_source
from training.models.contract import TranslationModel, Vocabulary


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """Options of a search.

    Attributes:
        beam_size: Width B of the beam; 1 is greedy.
        n_best: Most hypotheses returned.
        length_penalty: Exponent alpha of the length that the summed log-prob is divided by.
        min_length: Fewest tokens of a finished hypothesis, eos not counted.
        max_length: Most tokens of a hypothesis, eos not counted.
        no_repeat_ngram_size: Forbid any n-gram of this size to occur twice; 0 for no limit.
        repetition_penalty: Factor on the log-probs of tokens already generated; above 1 discourages them.
        prefix: Token ids that every hypothesis starts with.
        start: Token ids that come even before those, such as a language's: with a log-prob of 0, counted in the length
            of the score, and in no hypothesis.
        early_stopping: When to stop: ``on``, when B have finished; ``best``, the same, and sooner if the best live
            hypothesis, at its present length, scores no better than the ``n_best``-th finished one; ``heuristic``, when
            B have finished and it scores no better than the B-th best; ``never``, the same, with the score that it
            would have if it reached ``max_length`` for free.
        renormalize: Tokens that are ruled out leave the others more likely.
        ends_at_limit: The last of ``max_length`` tokens is eos, for free; it does not count as finished.
        ranked_at_limit: At the limit the first B candidates enter the pool, and no others fill it up.
        prefix_scored: Whether the log-probs of the prefix are part of the score.
        prefix_counted: Whether its tokens are part of the length.
        end_after_prefix: An eos right behind a start or prefix: ``any``, counts as ever; ``best``, only at the first
            rank, and no other takes its place; ``costly``, at any rank, but at others than the first with a log-prob
            and a sum of -1e10.
        beam_shrinks: A finished hypothesis keeps its place: B falls by one.
    """

    beam_size: int = 1
    n_best: int = 1
    length_penalty: float = 1.0
    min_length: int = 0
    max_length: int = 256
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0
    prefix: tuple[int, ...] = ()
    start: tuple[int, ...] = ()
    early_stopping: Literal["on", "best", "heuristic", "never"] = "on"
    renormalize: bool = False
    ends_at_limit: bool = False
    ranked_at_limit: bool = False
    prefix_scored: bool = True
    prefix_counted: bool = True
    end_after_prefix: Literal["any", "best", "costly"] = "any"
    beam_shrinks: bool = False

    def counting_start(self) -> DecodeOptions:
        """Let prefix and lengths count the start."""
        lengths = {name: len(self.start) + getattr(self, name) for name in ("min_length", "max_length")}
        return replace(self, prefix=(*self.start, *self.prefix), **lengths)

    def score(self, total: float, length: int, free: float) -> float:
        """Score of a summed log-prob, by options that count the start; ``free`` of it belong to the prefix."""
        total = total if self.prefix_scored else total - free
        length = length if self.prefix_counted else length - (len(self.prefix) - len(self.start))
        return float(total / max(length, 1) ** self.length_penalty)


@dataclass(frozen=True)
class ReferenceHypothesis:
    """One translation.

    Attributes:
        tokens: Generated token ids, prefix included, eos not.
        score: Sum of log-probs over length^alpha.
        log_probs: Natural log-prob of each token after the repetition penalty; of eos too if finished.
        finished: Whether it ended in eos rather than at the length limit.
    """

    tokens: tuple[int, ...]
    score: float
    log_probs: tuple[float, ...]
    finished: bool


@dataclass(frozen=True)
class _Live:
    """A hypothesis still growing; ``total`` is the float32 sum of ``log_probs``."""

    tokens: tuple[int, ...] = ()
    total: float = 0.0
    log_probs: tuple[float, ...] = ()

    def extended(self, token: int, log_prob: float, total: float) -> _Live:
        return _Live((*self.tokens, token), total, (*self.log_probs, log_prob))


def repeated_ngram_ends(tokens: Sequence[int], size: int) -> set[int]:
    """Tokens that, appended to ``tokens``, would complete an n-gram of this size that has occurred before."""
    if size == 0 or len(tokens) < size:
        return set()
    last = tuple(tokens[len(tokens) - size + 1 :])
    starts = range(len(tokens) - size + 1)
    return {tokens[i + size - 1] for i in starts if tuple(tokens[i : i + size - 1]) == last}


def edit_log_probs(log_probs: Tensor, tokens: Sequence[int], options: DecodeOptions, vocabulary: Vocabulary) -> Tensor:
    """Apply penalties and prohibitions to one hypothesis' next-token log-probs.

    Args:
        log_probs: Shape (vocab,), float32.
        tokens: Generated so far.
        options: Of the search.
        vocabulary: Special ids.

    Returns:
        Shape (vocab,), float32; -inf where a token is ruled out.
    """
    edited = log_probs.clone()
    if options.repetition_penalty != 1.0 and tokens:
        seen = torch.tensor(sorted(set(tokens)))
        edited[seen] = edited[seen] * options.repetition_penalty
    forbidden = {*vocabulary.suppressed, *repeated_ngram_ends(tokens, options.no_repeat_ngram_size)}
    if len(tokens) < options.min_length:
        forbidden.add(vocabulary.eos)
    edited[list(forbidden)] = -torch.inf
    return edited.log_softmax(dim=-1) if options.renormalize else edited


def best_candidates(totals: Tensor, count: int) -> list[int]:
    """Flat indices of the best scores, best first, ties to the lower index; -inf is no candidate.

    Args:
        totals: Shape (candidate,), float32.
        count: Most indices returned.
    """
    threshold = totals.topk(min(count, len(totals))).values[-1]
    indices = ((totals >= threshold) & (totals > -torch.inf)).nonzero()[:, 0]
    order = totals[indices].sort(descending=True, stable=True).indices
    return indices[order][:count].tolist()


def _candidates(log_probs: Tensor, live: list[_Live], options: DecodeOptions, vocabulary: Vocabulary) -> Tensor:
    """Edited next-token log-probs of all live hypotheses, shape (live, vocab)."""
    forced = options.prefix[len(live[0].tokens) :]
    if forced or (options.ends_at_limit and len(live[0].tokens) + 1 == options.max_length):
        only = torch.full_like(log_probs, -torch.inf)
        token = forced[0] if forced else vocabulary.eos
        only[:, token] = log_probs[:, token] if forced else 0.0
        return only
    return torch.stack(
        [edit_log_probs(row, h.tokens, options, vocabulary) for row, h in zip(log_probs, live, strict=True)]
    )


def _search(model: TranslationModel[Any], state: Any, options: DecodeOptions) -> list[ReferenceHypothesis]:
    """Search for one sentence, from the state that ``encode`` gave for its single row."""
    vocabulary, beam, first, options = model.vocabulary, options.beam_size, len(options.start), options.counting_start()
    live, pool, free, limit = [_Live(options.start)], list[ReferenceHypothesis](), 0.0, options.max_length
    inputs = torch.tensor([vocabulary.decoder_start])
    for token in options.start:
        _, state = model.decode_step(inputs, state)
        inputs = torch.tensor([token])
    while live and len(live[0].tokens) < limit and not _stops(live[0], pool, options, free):
        logits, state = model.decode_step(inputs, state)
        log_probs = _candidates(logits.float().log_softmax(dim=-1), live, options, vocabulary)
        totals = torch.tensor([h.total for h in live])[:, None] + log_probs
        length = len(live[0].tokens) + 1
        places = beam - len(pool) if options.beam_shrinks else beam
        width = places if options.beam_shrinks else 2 * beam
        parents, survivors = list[int](), list[tuple[int, _Live]]()
        for rank, index in enumerate(best_candidates(totals.flatten(), width)):
            parent, token = divmod(index, log_probs.shape[1])
            grown = live[parent].extended(token, float(log_probs[parent, token]), float(totals[parent, token]))
            late = rank > 0 and 0 < len(options.prefix) == length - 1
            if token != vocabulary.eos:
                parents.append(parent)
                survivors.append((rank, grown))
            elif late and options.end_after_prefix == "best":
                places -= rank < beam
            elif rank < beam:
                if late and options.end_after_prefix == "costly":
                    grown = live[parent].extended(token, -1e10, -1e10)
                cut = options.ends_at_limit and length == limit
                log_prob = grown.log_probs[: -1 if cut else None]
                score = options.score(grown.total, length, free)
                pool.append(ReferenceHypothesis(grown.tokens[first:-1], score, log_prob, finished=not cut))
        live = [h for _, h in survivors[:places]]
        state = state.select(torch.tensor(parents[:places], dtype=torch.int64))
        inputs = torch.tensor([h.tokens[-1] for h in live], dtype=torch.int64)
        if length <= len(options.prefix):
            free = live[0].total
    if live and len(live[0].tokens) == limit:
        ranked = [h for rank, h in survivors[:beam] if rank < beam]
        for h in ranked if options.ranked_at_limit else live[: max(0, beam - len(pool))]:
            score = options.score(h.total, limit, free)
            pool.append(ReferenceHypothesis(h.tokens[first:], score, h.log_probs, finished=False))
    return sorted(pool, key=lambda h: -h.score)[: options.n_best]


def _stops(best: _Live, pool: list[ReferenceHypothesis], options: DecodeOptions, free: float) -> bool:
    """Whether the search has found what it looks for, by its rule of early stopping."""
    beam, rule = options.beam_size, options.early_stopping
    if beam == 1 or rule == "on":
        return len(pool) >= beam
    length = options.max_length if rule == "never" else len(best.tokens)
    enough = options.n_best if rule == "best" else beam
    scores = sorted((h.score for h in pool), reverse=True)
    beaten = len(scores) >= enough and options.score(best.total, length, free) <= scores[enough - 1]
    return beaten or (rule == "best" and len(pool) >= beam)


@torch.inference_mode()
def translate(
    model: TranslationModel[Any],
    source_ids: Sequence[Sequence[int]],
    options: DecodeOptions,
    *,
    reverse_source: bool = False,
) -> list[list[ReferenceHypothesis]]:
    """Translate sentences one by one.

    Args:
        model: On the CPU, in eval mode.
        source_ids: Piece ids of each sentence, without eos.
        options: Of the search.
        reverse_source: Turn sources round before eos is appended, for a model trained so.

    Returns:
        For each sentence up to ``n_best`` hypotheses, best first.
    """
    results = []
    for ids in source_ids:
        source, lengths = make_source([ids], model.vocabulary, reverse=reverse_source)
        results.append(_search(model, model.encode(source, lengths), options))
    return results


@torch.inference_mode()
def greedy_batch(
    model: TranslationModel[Any],
    source_ids: Sequence[Sequence[int]],
    *,
    max_length: int,
    reverse_source: bool = False,
    starts: Sequence[Sequence[int]] = (),
) -> list[list[int]]:
    """Translate many sentences at once, greedily: quick enough to score a dev set while training.

    Args:
        model: In eval mode.
        source_ids: Piece ids of each sentence, without eos.
        max_length: Most tokens of a translation.
        reverse_source: As for ``translate``.
        starts: Ids that each translation begins with, see ``DecodeOptions.start``; as many for each.

    Returns:
        Piece ids of each translation, without eos.
    """
    vocabulary, device = model.vocabulary, next(model.parameters()).device
    source, lengths = make_source(source_ids, vocabulary, reverse=reverse_source)
    state = model.encode(source.to(device), lengths.to(device))
    tokens = torch.full((len(source_ids),), vocabulary.decoder_start, device=device)
    for column in zip(*starts, strict=True):
        _, state = model.decode_step(tokens, state)
        tokens = torch.tensor(column, device=device)
    done = torch.zeros_like(tokens, dtype=torch.bool)
    suppressed = torch.tensor(vocabulary.suppressed, device=device)
    steps: list[Tensor] = []
    while len(steps) < max_length and not bool(done.all()):
        logits, state = model.decode_step(tokens, state)
        logits[:, suppressed] = -torch.inf
        tokens = logits.argmax(dim=1).masked_fill(done, vocabulary.eos)
        done |= tokens == vocabulary.eos
        steps.append(tokens)
    rows = torch.stack(steps, dim=1).tolist()
    return [row[: row.index(vocabulary.eos)] if vocabulary.eos in row else row for row in rows]
