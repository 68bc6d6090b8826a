"""Beam search as a state machine over arrays, vectorised over slots; greedy search is a beam of one.

The caller owns the loop: it runs ``plan`` -> model -> ``advance`` until slots finish. A slot finishes when its rule of
early stopping says so, by default when ``beam`` hypotheses have reached the end token, or at its length limit. Only
starting a sentence and reading a finished one loop over slots or beams.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.bundle.manifest import SpecialIds
from serving.decoding import constraints, conventions, sampling, slot_options, stopping
from serving.decoding.finished import FinishedPool
from serving.decoding.given import DEAD, keep_place, leave_one
from serving.decoding.group_search import GroupSearch, leaders_first
from serving.decoding.histories import Histories
from serving.decoding.hypothesis import FinishedHypothesis
from serving.decoding.options import DecodingOptions
from serving.decoding.term_search import TermSearch
from serving.messages import FinishReason
from serving.step import Candidates, Edits, Floats, Ints, StepPlan


class BeamSearch:
    """Live and finished hypotheses of a grid of slots with one beam size."""

    def __init__(self, beam: int, slots: int, *, special_ids: SpecialIds, vocabulary_size: int) -> None:
        """Allocates for up to ``slots`` sentences."""
        self._beam, self._slots, self._busy = beam, slots, 0
        self._start, self._eos, self._pad = special_ids.decoder_start, special_ids.eos, special_ids.pad
        self._vocabulary = vocabulary_size
        self._options = np.zeros(slots, dtype=slot_options.FIELDS)
        self._position = np.zeros(slots, dtype=np.int64)
        self._scores = np.full((slots, beam), DEAD, dtype=np.float32)
        self._free = np.zeros(slots, dtype=np.float32)  # sum of log-probabilities that is no part of the score
        self._parents = np.zeros((slots, beam), dtype=np.int64)
        self._targets = np.zeros((slots, beam), dtype=np.int64)
        self._prefix = np.zeros((slots, 1), dtype=np.int64)
        self._given = np.zeros(slots, dtype=np.int64)  # the beam of a hypothesis that is given
        self._histories = Histories(beam, slots)
        self._finished = FinishedPool(beam, slots, self._histories.time)
        self._terms = TermSearch(beam, slots)
        self._groups = GroupSearch(beam, slots)
        self._rows, self._beams = np.arange(slots)[:, None], np.arange(beam)
        self._no_edits = Edits.none(slots, beam)

    @property
    def busy(self) -> int:
        """Sentences in flight; their slots are 0 .. busy-1."""
        return self._busy

    def admit(self, options: Sequence[DecodingOptions]) -> None:
        """Start one sentence per entry of ``options`` in the next slots, in order.

        Raises:
            ValueError: There are more sentences than free slots, or options have another beam size.
        """
        if self._busy + len(options) > self._slots:
            raise ValueError(f"{len(options)} sentences for {self._slots - self._busy} free slots: admit fewer")
        for wanted in options:
            if wanted.beam_size != self._beam:
                raise ValueError(f"beam size {wanted.beam_size} in a grid of beam size {self._beam}: use its own grid")
            self._start_slot(self._busy, wanted)
            self._busy += 1

    def _start_slot(self, slot: int, options: DecodingOptions) -> None:
        prefix = (*options.start, *options.prefix)
        self._reserve(len(options.start) + options.max_length + 1, len(prefix))
        self._options[slot] = slot_options.of(options)
        self._prefix[slot, : len(prefix)] = prefix
        self._position[slot] = 0
        self._free[slot] = 0
        self._scores[slot] = DEAD
        self._scores[slot, 0] = 0.0
        self._parents[slot] = self._beams
        self._given[slot] = 0
        self._histories.start(slot, self._start)
        self._finished.clear(slot)
        self._terms.start(slot, options.terms)
        self._groups.start(slot)

    def _reserve(self, time: int, prefix: int) -> None:
        """Grow the arrays to hold these target positions and prefix tokens."""
        if time > self._histories.time:
            self._histories.reserve(time)
            self._finished.reserve(self._histories.time)
        if prefix > self._prefix.shape[1]:
            self._prefix = np.pad(self._prefix, ((0, 0), (0, prefix - self._prefix.shape[1])))

    def plan(self) -> StepPlan:
        """Return the next step of the busy slots; valid until the next call of any method."""
        n = self._busy
        position = self._position[:n]
        # Past its prefix a slot asks for any token: ``_choose`` reads the answer of forced slots only.
        at = np.minimum(position, self._prefix.shape[1] - 1)
        self._targets[:n] = self._prefix[self._rows[:n, 0], at][:, None]
        return StepPlan(
            tokens=self._histories.last(position),
            parents=self._parents[:n],
            positions=position,
            scores=self._levelled(n),
            targets=self._targets[:n],
            edits=self._edits(n),
            candidates=self._candidates(n),
        )

    def _levelled(self, n: int) -> Floats:
        """Return scores, all alike where each hypothesis is to have candidates among the best. Shape (slot, beam)."""
        scores, levelled = self._scores[:n], self._terms.busy[:n] | (self._options["groups"][:n] > 1)
        return np.where(levelled[:, None] & (scores > DEAD), np.float32(0), scores) if levelled.any() else scores

    def _edits(self, n: int) -> Edits:
        edits = self._penalties(n)
        if not self._terms.busy[:n].any():
            return edits
        terms = self._terms.edits(n, eos_id=self._eos, pad_id=self._pad)
        return constraints.joined(terms, edits, pad_id=self._pad)

    def _penalties(self, n: int) -> Edits:
        options, position = self._options[:n], self._position[:n]
        penalised = bool(((options["repetition_penalty"] != 1) | (options["no_repeat_ngram_size"] > 0)).any())
        if not penalised and not (position < options["min_length"]).any():
            empty = self._no_edits
            return Edits(empty.tokens[:n], empty.factors[:n], empty.biases[:n])
        time = int(position.max()) if penalised else 0
        free = position >= options["prefix_length"]  # while its prefix is forced, nothing else is asked of a slot
        return constraints.edits(
            self._histories.produced(n, time),
            position * free,
            penalties=options["repetition_penalty"],
            ngram_sizes=options["no_repeat_ngram_size"],
            min_lengths=options["min_length"] * free,
            eos_id=self._eos,
            pad_id=self._pad,
        )

    def _candidates(self, n: int) -> int:
        top_k = self._options["top_k"][:n][self._options["sampled"][:n]]
        if top_k.size == 0:
            # Each hypothesis has one end token, so at least ``beam`` of the best 2 * beam candidates go on.
            terms = int(self._terms.busy[:n].any()) * self._terms.candidates()
            groups = int((self._options["groups"][:n] > 1).any()) * self._groups.candidates()
            return min(max(2 * self._beam, terms, groups), self._beam * self._vocabulary)
        return self._vocabulary if (top_k == 0).any() else max(2, min(int(top_k.max()), self._vocabulary))

    def advance(self, candidates: Candidates) -> Ints:
        """Extend every slot by one token, given the model's answer to the last plan.

        Returns:
            Slots that finished. Shape (finished,), int64.
        """
        n = self._busy
        scores, tokens, parents, cut = self._choose(candidates)
        alive = scores > DEAD
        # Dead candidates are left out of the difference: -inf - -inf is NaN.
        gains = np.zeros_like(scores)
        rows = self._rows[:n]
        np.subtract(scores, self._scores[rows, parents], out=gains, where=alive)
        is_eos = tokens == self._eos
        ends = is_eos & alive
        ends[:, self._beam :] = False  # an end token counts only among the best ``beam`` candidates
        self._collect_ended(ends, scores, gains, parents, cut)
        # The best candidates without an end token: False sorts before True, and a stable sort keeps the ranks.
        live = np.argsort(is_eos, axis=1, kind="stable")[:, : self._beam]
        alignment = candidates.alignment[rows, parents]
        self._extend(live, scores, gains, tokens, parents, alignment)
        at_limit = self._position[:n] >= self._options["max_length"][:n]
        self._collect_unfinished(at_limit, live)
        stuck = ~(self._scores[:n] > DEAD).any(axis=1)
        enough = self._stopped() & (self._options["groups"][:n] == 1)  # groups go on until all are stuck
        return np.flatnonzero(enough | at_limit | stuck)

    def _stopped(self) -> NDArray[np.bool_]:
        """Tell which slots need not go on, by their rules of early stopping. Shape (slot,)."""
        n = self._busy
        options = self._options[:n]
        rules = options["early_stopping"]
        if not rules.any():  # the ordinary rule needs no scores
            return self._finished.count[:n] >= self._beam
        self._finished.trim(np.flatnonzero(stopping.waits(rules)))
        return stopping.stopped(
            rules,
            self._finished,
            self._beam,
            totals=self._scores[:n, 0] - self._free[:n],
            lengths=self._position[:n] - options["uncounted"],
            limits=options["max_length"] - options["uncounted"],
            alphas=options["length_penalty"],
            n=options["n_best"],
            enough=options["enough"],
        )

    def _choose(self, candidates: Candidates) -> tuple[Floats, Ints, Ints, NDArray[np.bool_]]:
        """Choose the candidates of this step, after sampling, forced prefixes and conventions.

        Returns:
            Scores, tokens and parents, each (slot, 2 * beam); and slots whose end the length limit chose, (slot,).
        """
        n, width, position = self._busy, 2 * self._beam, self._position[: self._busy]
        scores = candidates.scores[:, :width].copy()
        tokens = candidates.tokens[:, :width].copy()
        parents = candidates.parents[:, :width].copy()
        with_terms = np.flatnonzero(self._terms.busy[:n])
        if with_terms.size:
            found = self._terms.choose(with_terms, self._scores, candidates, eos_id=self._eos)
            scores[with_terms], tokens[with_terms], parents[with_terms] = found
        options = self._options[:n]
        in_groups = np.flatnonzero((options["groups"] > 1) & (position >= options["prefix_length"]))
        if in_groups.size:
            found = self._groups.choose(
                in_groups,
                self._scores,
                candidates,
                groups=options["groups"][in_groups],
                penalties=options["diversity_penalty"][in_groups],
                first=position[in_groups] == options["prefix_length"][in_groups],
                eos_id=self._eos,
                pad_id=self._pad,
            )
            scores[in_groups], tokens[in_groups], parents[in_groups] = found
        drawn = np.flatnonzero(options["sampled"])
        if drawn.size:
            rank = sampling.choose(
                candidates.scores[drawn] - self._scores[drawn],
                options["temperature"][drawn],
                options["top_k"][drawn],
                options["top_p"][drawn],
                sampling.uniform(options["seed"][drawn], position[drawn]),
            )
            drawn_one = candidates.scores[drawn, rank], candidates.tokens[drawn, rank], 0
            leave_one(drawn, drawn_one, (scores, tokens, parents), self._pad)
        forced = np.flatnonzero(position < options["prefix_length"])
        if forced.size:
            self._force(forced, candidates.target_log_probs, (scores, tokens, parents))
        conventions.shrink_beams(options, self._finished.count[:n], scores)
        ids = {"eos_id": self._eos, "pad_id": self._pad}
        conventions.discourage_end_after_prefix(options, position, scores, tokens, **ids)
        cut = conventions.end_at_limit(options, position, self._scores[:n], scores, tokens, parents, **ids)
        return scores, tokens, parents, cut

    def _force(self, slots: Ints, log_probs: Floats, candidates: tuple[Floats, Ints, Ints]) -> None:
        """Choose the given tokens in some slots (forced slot,); shapes (slot, beam) and (slot, 2 * beam)."""
        options, parent, token = self._options[slots], self._given[slots], self._targets[slots, 0]
        scored, start = options["prefix_scored"], self._position[slots] < options["start_length"]
        gain = np.where(start, np.float32(0), log_probs[slots, parent])
        # A token that can never be generated may still be forced, where nobody asks for its probability.
        total = self._scores[slots, parent] + np.where(scored | (gain > DEAD), gain, np.float32(0))
        self._free[slots] = np.where(scored, np.float32(0), total)
        beside = options["beside"] & ~start & (token != self._eos)
        alone = ~beside
        leave_one(slots[alone], (total[alone], token[alone], parent[alone]), candidates, self._pad)
        if beside.any():
            one, ids = (total[beside], token[beside], parent[beside]), {"eos_id": self._eos, "pad_id": self._pad}
            self._given[slots[beside]] = keep_place(slots[beside], one, candidates, **ids)

    def _collect_ended(
        self, ends: NDArray[np.bool_], scores: Floats, gains: Floats, parents: Ints, cut: NDArray[np.bool_]
    ) -> None:
        """Add the hypotheses that chose the end token to the pool. Shapes (slot, 2 * beam), the last (slot,)."""
        slots, ranks = np.nonzero(ends)
        if slots.size == 0:
            return
        lengths = self._position[slots]  # the end token is not stored, but counts in the score's length
        normalised = self._normalised(slots, scores[slots, ranks], lengths + 1)
        late = self._terms.busy[slots] & (self._finished.count[slots] >= self._options["enough"][slots])
        if late.any():  # hypotheses that used their terms too early must not fill the pool
            kept = ~late | (normalised > self._finished.best_scores(slots))
            slots, ranks, lengths, normalised = slots[kept], ranks[kept], lengths[kept], normalised[kept]
        self._finished.add(
            slots,
            normalised,
            lengths,
            gains[slots, ranks],
            self._histories.ancestors[slots, parents[slots, ranks]],
            ~cut[slots],
        )

    def _collect_unfinished(self, at_limit: NDArray[np.bool_], ranks: Ints) -> None:
        """Fill the pool of slots at their length limit with live hypotheses, best first.

        Args:
            at_limit: Shape (slot,).
            ranks: What the live hypotheses were among the candidates. Shape (slot, beam).
        """
        if not at_limit.any():
            return
        n = self._busy
        # Live beams are in rank order, so the first ``room`` of them are the best.
        room = (self._beam - self._finished.count[:n])[:, None]
        fits = np.where(self._options["ranked_at_limit"][:n, None], ranks < self._beam, self._beams < room)
        fits |= self._options["groups"][:n, None] > 1  # at most twice the size of a group comes of each
        wanted = at_limit[:, None] & (self._scores[:n] > DEAD) & fits
        wanted &= ~self._options["beside"][:n, None] | (self._beams == self._given[:n, None])
        with_terms = self._terms.busy[:n]
        if with_terms.any():
            wanted &= self._terms.fullest(n) & ~(with_terms & (self._finished.count[:n] > 0))[:, None]
        slots, beams = np.nonzero(wanted)
        lengths = self._position[slots]
        scores = self._normalised(slots, self._scores[slots, beams], lengths)
        none = np.zeros(slots.size, dtype=np.float32)
        self._finished.add(slots, scores, lengths, none, self._histories.ancestors[slots, beams], none.astype(np.bool_))

    def _normalised(self, slots: Ints, totals: Floats, lengths: Ints) -> NDArray[np.float64]:
        """Return sum of log p / length ** alpha (Wu et al. 2016, section 7, without the offset of 5)."""
        alpha: NDArray[np.float64] = self._options["length_penalty"][slots]
        counted = np.maximum(lengths - self._options["uncounted"][slots], 1).astype(np.float64)
        score: NDArray[np.float64] = (totals - self._free[slots]).astype(np.float64) / counted**alpha
        return score

    def _extend(self, live: Ints, scores: Floats, gains: Floats, tokens: Ints, parents: Ints, alignment: Ints) -> None:
        """Make the candidates of ranks ``live`` (slot, beam) the live beams. Other shapes (slot, 2 * beam)."""
        n, rows = self._busy, self._rows[: self._busy]
        parents = parents[rows, live]
        self._position[:n] += 1
        self._histories.extend(
            self._position[:n], parents, tokens[rows, live], gains[rows, live], alignment[rows, live]
        )
        self._scores[:n] = scores[rows, live]
        if self._terms.busy[:n].any():
            self._terms.extend(n, parents, tokens[rows, live])
        self._parents[:n] = parents

    def settled(self, slots: Ints) -> Ints:
        """Return how many tokens of each slot are certain: whatever wins begins with them. Shapes (slot,), int64.

        What may win are the live hypotheses, with all that grows out of them, and the best of the finished ones.
        """
        position, alive = self._position[slots], self._scores[slots] > DEAD
        time = np.arange(1, int(position.max()) + 1)
        ancestors = self._histories.ancestors[slots][:, :, time]
        first = ancestors[np.arange(slots.size), alive.argmax(axis=1)]
        leaders, finished = self._finished.leaders(slots)
        # Two hypotheses share a token if they share the row that holds it: no two rows continue the same one alike.
        same = ((ancestors == first[:, None]) | ~alive[:, :, None]).all(axis=1)
        same &= (leaders[:, time] == first) | ~finished[:, None]
        same &= time <= position[:, None]
        counts = np.logical_and.accumulate(same, axis=1).sum(axis=1, dtype=np.int64)
        told: Ints = np.maximum(counts - self._options["start_length"][slots], 0)
        return told

    def tokens(self, slot: int, start: int, stop: int) -> list[tuple[int, int]]:
        """Return settled tokens ``start`` .. ``stop``, each with the source position it attends to most."""
        first = 1 + int(self._options["start_length"][slot])
        row = self._histories.ancestors[slot, (self._scores[slot] > DEAD).argmax()]
        tokens, _, alignment = self._histories.read(slot, row, first + start, first + stop)
        return list(zip(tokens, alignment, strict=True))

    def hypotheses(self, slot: int) -> list[FinishedHypothesis]:
        """Return the n best hypotheses of a finished slot, best first; of groups, the best of each before all others.

        There are at least ``beam`` to choose from, unless constraints left no other continuation.
        """
        found, first = [], 1 + int(self._options["start_length"][slot])
        best = self._finished.best(slot, int(self._options["n_best"][slot]))
        if (groups := int(self._options["groups"][slot])) > 1:
            rows = np.array([ancestors[length] for _, length, _, _, ancestors in best])
            best = [best[place] for place in leaders_first(rows // (self._beam // groups))]
        for score, length, end, reason, ancestors in best:
            tokens, log_probs, alignment = self._histories.read(slot, ancestors, first, length + 1)
            found.append(
                FinishedHypothesis(
                    tokens=tuple(tokens),
                    log_probs=tuple([*log_probs, end] if reason is FinishReason.EOS else log_probs),
                    alignment=tuple(alignment),
                    score=score,
                    finish_reason=reason,
                )
            )
        return found

    def keep(self, order: Ints) -> None:
        """Keep some slots and free the rest: slot i becomes slot ``order[i]``.

        Args:
            order: Distinct slot numbers, ``order[i] >= i``. Shape (kept slot,), int64.
        """
        targets = np.flatnonzero(order != np.arange(order.size))
        if targets.size:
            sources = order[targets]
            for array in (
                self._options,
                self._position,
                self._scores,
                self._free,
                self._parents,
                self._prefix,
                self._given,
            ):
                array[targets] = array[sources]
            self._histories.keep(sources, targets)
            self._finished.move(sources, targets)
            self._terms.keep(sources, targets)
            self._groups.keep(sources, targets)
        self._busy = int(order.size)
