"""Search for translations that contain given terms: dynamic beam allocation over arrays.

Hypotheses are ranked within banks, a bank being those with as many tokens of terms (Post and Vilar 2018; over arrays,
Hu et al. 2019). The beam takes the best of each bank in turn, in each round that of the fullest bank first and the
others by score: some hypothesis always makes progress, and one that will use a term later, in its place, stays alive.
Behind them come those that a hypothesis with more of the terms outdoes in score.
Tokens that continue a term are lifted above all others in the graph, so that they are among the candidates; here they
are taken down again. The end token is banned until all terms are there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.decoding.terms import OTHERS, Terms, WordBorders
from serving.step import Candidates, Edits, Floats, Ints

_LIFT = np.float32(64)  # nats; more than what lies between candidates of one slot that are worth a look
_SHARE = 4  # candidates of a hypothesis, on the average, beside those that are lifted
_NO_TERM, _NO_TOKEN = -1, -1


class TermSearch:
    """What each hypothesis of a grid has of the terms of its slot.

    Attributes:
        busy: Whether a slot has terms. Shape (slot,), bool.
    """

    def __init__(self, beam: int, slots: int) -> None:
        """Start without any; tables are allocated when the first terms come."""
        self._beam = beam
        self.busy = np.zeros(slots, dtype=bool)
        none = np.zeros(0, dtype=bool)
        self._words = WordBorders(none, none)  # the same for all slots
        self._lifted = 0  # entries of the last edits
        self._own = np.zeros(slots, dtype=np.int64)  # of them, those of a slot's own
        self._symbols = np.zeros((slots, 0), dtype=np.int64)
        self._next = np.zeros((slots, 0, OTHERS), dtype=np.int64)
        self._ends = np.zeros((slots, 0), dtype=np.int64)
        self._progress = np.zeros((slots, 0, 0), dtype=np.int64)
        self._wanted = np.zeros((slots, 0), dtype=np.int64)
        self._weights = np.zeros((slots, 0), dtype=np.int64)
        self._left = np.zeros((slots, beam, 0), dtype=np.int64)  # how often each term is still to come
        self._node = np.zeros((slots, beam), dtype=np.int64)
        self._last = np.full((slots, beam), _NO_TERM)  # the term that the last token completed

    def start(self, slot: int, terms: Terms | None) -> None:
        """Give a slot its terms."""
        self.busy[slot] = terms is not None
        if terms is None:
            return
        nodes, symbols, count = len(terms.ends), len(terms.symbols), len(terms.wanted)
        self._reserve(nodes, symbols, count)
        self._words = terms.words
        self._symbols[slot], self._symbols[slot, :symbols] = _NO_TOKEN, terms.symbols
        self._next[slot, :nodes, : symbols + OTHERS] = terms.next
        self._ends[slot, :nodes] = terms.ends
        self._progress[slot] = 0
        self._progress[slot, :nodes, :count] = terms.progress
        self._wanted[slot], self._wanted[slot, :count] = 0, terms.wanted
        self._weights[slot], self._weights[slot, :count] = 0, terms.weights
        self._left[slot] = self._wanted[slot]
        self._node[slot], self._last[slot] = 0, _NO_TERM

    def _reserve(self, nodes: int, symbols: int, terms: int) -> None:
        """Grow the tables."""
        nodes = max(nodes - self._ends.shape[1], 0)
        symbols = max(symbols - self._symbols.shape[1], 0)
        terms = max(terms - self._wanted.shape[1], 0)
        if nodes + symbols + terms:
            self._symbols = np.pad(self._symbols, ((0, 0), (0, symbols)), constant_values=_NO_TOKEN)
            self._next = np.pad(self._next, ((0, 0), (0, nodes), (0, symbols)))
            self._ends = np.pad(self._ends, ((0, 0), (0, nodes)))
            self._progress = np.pad(self._progress, ((0, 0), (0, nodes), (0, terms)))
            self._wanted = np.pad(self._wanted, ((0, 0), (0, terms)))
            self._weights = np.pad(self._weights, ((0, 0), (0, terms)))
            self._left = np.pad(self._left, ((0, 0), (0, 0), (0, terms)))

    def candidates(self) -> int:
        """Return how many candidates a slot needs, so that those of every bank are among them."""
        return self._beam * (_SHARE + self._lifted)

    def edits(self, busy: int, *, eos_id: int, pad_id: int) -> Edits:
        """Return the edits of one step: the symbols that help a hypothesis, and the end token.

        Args:
            busy: Slots in use.
            eos_id: Id of the end token.
            pad_id: Id that fills unused entries; every model suppresses it.
        """
        slots = np.flatnonzero(self.busy[:busy])
        useful = self._useful(slots)
        # Sizes that come back are bound already, so take a power of two.
        self._own[slots] = useful.sum(axis=2).max(axis=1, initial=0)
        self._lifted = 1 << int(max(self._own[slots].max(initial=0) - 1, 0)).bit_length()
        chosen = np.argsort(~useful, axis=2, kind="stable")[:, :, : self._lifted]  # the useful ones come first
        useful = np.take_along_axis(useful, chosen, axis=2)
        self._lifted = useful.shape[2]
        symbols = np.take_along_axis(self._symbols[slots][:, None], chosen.reshape(slots.size, 1, -1), axis=2)
        shape = (busy, self._beam, self._lifted + 1)
        tokens, factors = np.full(shape, pad_id, dtype=np.int64), np.ones(shape, dtype=np.float32)
        biases = np.full(shape, -np.inf, dtype=np.float32)
        tokens[slots, :, :-1] = np.where(useful, symbols.reshape(useful.shape), pad_id)
        biases[slots, :, :-1] = np.where(useful, _LIFT, np.float32(-np.inf))
        tokens[slots, :, -1] = np.where(self._left[slots].any(axis=2), eos_id, pad_id)
        return Edits(tokens, factors, biases)

    def _useful(self, slots: Ints) -> NDArray[np.bool_]:
        """Tell which symbols continue a term that is still to come. Shape (chosen slot, beam, symbol)."""
        reached = self._next[slots[:, None], self._node[slots]][:, :, OTHERS:]
        progress = self._progress[slots[:, None, None], reached]  # (chosen slot, beam, symbol, term)
        useful = ((progress > 0) & (self._left[slots] > 0)[:, :, None]).any(axis=3)
        return np.asarray(useful & (self._symbols[slots] != _NO_TOKEN)[:, None])

    def choose(self, slots: Ints, scores: Floats, candidates: Candidates, *, eos_id: int) -> tuple[Floats, Ints, Ints]:
        """Return scores, tokens and parents of the candidates of some slots, those first that the beam takes.

        Args:
            slots: Those with terms. Shape (chosen slot,), int64.
            scores: Of all live hypotheses. Shape (slot, beam), float32.
            candidates: Of all slots, with scores as if all live hypotheses had 0.
            eos_id: Id of the end token.

        Returns:
            The first ``beam`` best first, behind them what takes the places of those that end. Each shape
            (chosen slot, 2 * beam).
        """
        width = self.candidates()
        tokens, parents = candidates.tokens[slots, :width], candidates.parents[slots, :width]
        totals = candidates.scores[slots, :width] + scores[slots[:, None], parents]
        chosen = np.arange(slots.size)[:, None]
        same = tokens[:, :, None] == self._symbols[slots][:, None]
        totals[(same & self._useful(slots)[chosen, parents]).any(axis=2)] -= _LIFT
        # How many more there are depends on the neighbours.
        totals[np.arange(totals.shape[1]) >= self._beam * (_SHARE + self._own[slots])[:, None]] = -np.inf
        best = np.argsort(-totals, axis=1, kind="stable")
        totals, tokens, parents = totals[chosen, best], tokens[chosen, best], parents[chosen, best]
        # A hypothesis ends only where that is the best that it can do: in a bank of its own it has no better rivals.
        totals[(tokens == eos_id) & (_better(parents) > 0)] = -np.inf
        banks = self._banks(slots, *self._moved(slots, parents, tokens)[:2])
        banks[totals == -np.inf] = -1
        order = _order(banks)[:, : 2 * self._beam]
        order[:, : self._beam].sort(axis=1)
        return totals[chosen, order], tokens[chosen, order], parents[chosen, order]

    def _banks(self, slots: Ints, left: Ints, nodes: Ints) -> Ints:
        """Return how many tokens of terms hypotheses have. Shape (chosen slot, hypothesis), int64."""
        complete = ((self._wanted[slots][:, None] - left) * self._weights[slots][:, None]).sum(axis=2)
        begun = np.where(left > 0, self._progress[slots[:, None], nodes], 0)
        banks: Ints = complete + begun.max(axis=2, initial=0)
        return banks

    def _moved(self, slots: Ints, parents: Ints, tokens: Ints) -> tuple[Ints, Ints, Ints]:
        """Return terms left, nodes and last terms of hypotheses after one more token.

        Args:
            slots: Shape (chosen slot,), int64.
            parents: The beam that each continues. Shape (chosen slot, hypothesis), int64.
            tokens: Shape (chosen slot, hypothesis), int64.
        """
        rows = slots[:, None]
        left, last = self._left[rows, parents], self._last[rows, parents]
        undone = np.nonzero((last != _NO_TERM) & self._words.joins[tokens])
        left[(*undone, last[undone])] += 1
        same = tokens[:, :, None] == self._symbols[slots][:, None]
        columns = np.where(same.any(axis=2), same.argmax(axis=2) + OTHERS, self._words.ends[tokens])
        nodes = self._next[rows, self._node[rows, parents], columns]
        terms = self._ends[rows, nodes]
        done = (terms != _NO_TERM) & (np.take_along_axis(left, np.maximum(terms, 0)[:, :, None], axis=2)[:, :, 0] > 0)
        which = np.nonzero(done)
        left[(*which, terms[which])] -= 1
        return left, np.where(done, 0, nodes), np.where(done, terms, _NO_TERM)

    def fullest(self, busy: int) -> NDArray[np.bool_]:
        """Tell which live hypotheses have most of the terms; without terms, all. Shape (busy slot, beam), bool."""
        fullest = np.ones((busy, self._beam), dtype=bool)
        slots = np.flatnonzero(self.busy[:busy])
        banks = self._banks(slots, self._left[slots], self._node[slots])
        fullest[slots] = banks == banks.max(axis=1, keepdims=True)
        return fullest

    def extend(self, busy: int, parents: Ints, tokens: Ints) -> None:
        """Move all hypotheses by the tokens they were given. Shapes (busy slot, beam), int64."""
        slots = np.flatnonzero(self.busy[:busy])
        self._left[slots], self._node[slots], self._last[slots] = self._moved(slots, parents[slots], tokens[slots])

    def keep(self, sources: Ints, targets: Ints) -> None:
        """Copy slots ``sources`` to slots ``targets``. Shapes (move,), int64."""
        if not self.busy.any():  # slots without terms hold nothing
            return
        for array in (
            self.busy,
            self._symbols,
            self._next,
            self._ends,
            self._progress,
            self._wanted,
            self._weights,
            self._left,
            self._node,
            self._last,
        ):
            array[targets] = array[sources]


def _order(banks: Ints) -> Ints:
    """Return the places of candidates in the order in which the beam takes them.

    Args:
        banks: Best candidate first; -1 for those that are dead. Shape (chosen slot, candidate), int64.
    """
    places = np.arange(banks.shape[1])
    fullest = banks == banks.max(axis=1, keepdims=True)
    # What has fewer terms than a better one has nothing that the other lacks.
    outdone = banks < np.maximum.accumulate(banks, axis=1)
    keys = np.broadcast_to(places, banks.shape), ~fullest, _better(banks), outdone, banks < 0
    order: Ints = np.lexsort(keys, axis=1)
    return order


def _better(groups: Ints) -> Ints:
    """Return how many of the same group are before each. Shape (chosen slot, candidate), int64."""
    places = np.arange(groups.shape[1])
    by_group = np.argsort(groups, axis=1, kind="stable")
    ordered = np.take_along_axis(groups, by_group, axis=1)
    begins = np.diff(ordered, axis=1, prepend=-2) != 0
    better = np.empty_like(groups)
    np.put_along_axis(better, by_group, places - np.maximum.accumulate(np.where(begins, places, 0), axis=1), axis=1)
    return better
