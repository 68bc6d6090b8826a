"""Alignment of a token store: which source token each target token translates, by a hidden Markov model.

IBM Model 1 (Brown et al. 1993) begins, the HMM of Vogel et al. (1996) goes on: a target token comes from a source
token, or from none, and the next one's source token is likely to be near. Both are fitted by expectation maximisation
to a sample of the pairs; then every target token gets the source token of the highest posterior probability.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.batches import pad_rows
from training.data.sampler import cut_batches
from training.data.token_store import UNALIGNED, TokenStore
from training.models.masks import length_mask

_LOG = logging.getLogger(__name__)

_MODEL1_ITERATIONS, _HMM_ITERATIONS = 4, 4
_LONGEST = 60  # tokens of a side in the sample
_BATCH, _WINDOW = 8192, 1 << 16  # tokens that are looked at together, pairs that are sorted together
_JUMP = 8  # longer jumps are as likely as those of this length
_NONE = 0.1  # prior probability that a target token comes from no source token
_SAME = 1.0  # occurrences that every token's translation by itself is granted


class Pairs:
    """Some pairs of a store, padded.

    Attributes:
        source: Token ids, shape (row, src), int64.
        target: Token ids, shape (row, tgt), int64.
        source_mask: Shape (row, src), bool, True at tokens.
        target_mask: Shape (row, tgt), bool, True at tokens.
    """

    def __init__(self, store: TokenStore, rows: NDArray[np.int64]) -> None:
        sides = [store.rows(side, rows) for side in ("source", "target")]
        self.source, self.target = (torch.from_numpy(pad_rows(side, 0)) for side in sides)
        lengths = (torch.from_numpy(side.lengths) for side in sides)
        ids = (self.source, self.target)
        self.source_mask, self.target_mask = (length_mask(n, x.shape[1]) for n, x in zip(lengths, ids, strict=True))


class Aligner:
    """The model, as it is before it has seen any pair.

    It holds the probability of a target token given a source token, (source vocab, target vocab), the one given that no
    source token emits it, (target vocab,), and the weight of each length of a jump between source tokens.

    Args:
        source_size: Tokens of the source vocabulary.
        target_size: Tokens of the target vocabulary.
        shared: Both are the same, so names and numbers translate themselves.
    """

    def __init__(self, source_size: int, target_size: int, *, shared: bool) -> None:
        self.shared = shared
        self.translation = torch.full((source_size, target_size), 1.0 / target_size)
        self.unlinked = torch.full((target_size,), 1.0 / target_size)
        self.jumps = torch.ones(2 * _JUMP + 1)
        self._chained = False

    def fit(self, batches: list[Pairs]) -> None:
        """Run expectation maximisation over some pairs."""
        occurrences = torch.ones_like(self.unlinked)
        for pairs in batches:
            occurrences += torch.bincount(pairs.target[pairs.target_mask], minlength=len(occurrences))
        self.unlinked = unigram = occurrences / occurrences.sum()
        for iteration in range(_MODEL1_ITERATIONS + _HMM_ITERATIONS):
            self._chained = iteration >= _MODEL1_ITERATIONS
            counts = torch.eye(*self.translation.shape).mul_(_SAME if self.shared else 0.0)
            unlinked, jumps = unigram.clone(), torch.full((2, len(self.jumps)), 1e-6)
            for pairs in batches:
                posterior, moved = self._posterior(pairs)
                cells = pairs.source[:, :, None] * self.translation.shape[1] + pairs.target[:, None, :]
                counts.view(-1).index_add_(0, cells.flatten(), posterior.flatten())
                nothing = (1.0 - posterior.sum(1))[pairs.target_mask]
                unlinked.index_add_(0, pairs.target[pairs.target_mask], nothing)
                jumps += moved
            # A token of the source that was never seen may become any token of the target.
            self.translation = counts.add_(1e-6 * unigram)
            self.translation /= self.translation.sum(1, keepdim=True)
            self.unlinked = unlinked / unlinked.sum()
            if self._chained:
                self.jumps = jumps[0] / jumps[1]

    def align(self, pairs: Pairs) -> Tensor:
        """Find the source position of each target token, ``UNALIGNED`` if none is likely; shape (row, tgt), int64."""
        posterior = self._posterior(pairs)[0]
        best, place = posterior.max(1)
        return place.masked_fill(best < 1.0 - posterior.sum(1), UNALIGNED)

    def _posterior(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """How likely each source token emitted each target token, (row, src, tgt), and the jumps of ``_chain``."""
        emitted = self.translation[pairs.source[:, :, None], pairs.target[:, None, :]] * (1.0 - _NONE)
        emitted = emitted * pairs.source_mask[:, :, None]
        other = (self.unlinked[pairs.target] * _NONE)[:, None, :]
        likelihood = (emitted + other) * pairs.source_mask[:, :, None]
        if self._chained:
            states, moved = self._chain(likelihood, pairs)
        else:
            states, moved = likelihood / likelihood.sum(1, keepdim=True), torch.zeros(())
        share = emitted / (emitted + other)
        return states * share * pairs.target_mask[:, None, :], moved

    def _chain(self, likelihood: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Run the forward-backward algorithm.

        Returns:
            The posterior probability of each state, (row, src, tgt), and for each length of a jump how many are
            expected, and how many there would be if all source tokens were alike, (2, jump).
        """
        positions = torch.arange(likelihood.shape[1])
        distance = (positions - positions[:, None]).clamp(-_JUMP, _JUMP) + _JUMP
        move = self.jumps[distance] * pairs.source_mask[:, None, :]
        move /= move.sum(2, keepdim=True)
        start = self.jumps[(positions + 1).clamp(max=_JUMP) + _JUMP] * pairs.source_mask
        # Padding emits nothing, so that it says nothing of what comes before it.
        emission = likelihood.permute(2, 0, 1).where(pairs.target_mask.T[:, :, None], torch.ones(()))
        steps = len(emission)
        forward, backward = torch.empty_like(emission), torch.ones_like(emission)
        forward[0] = start * emission[0]
        forward[0] /= forward[0].sum(1, keepdim=True)
        for step in range(1, steps):
            forward[step] = torch.bmm(forward[step - 1][:, None], move)[:, 0] * emission[step]
            forward[step] /= forward[step].sum(1, keepdim=True)
        for step in range(steps - 2, -1, -1):
            later = emission[step + 1] * backward[step + 1]
            backward[step] = torch.bmm(move, later[:, :, None])[:, :, 0]
            backward[step] /= backward[step].sum(1, keepdim=True)
        states = forward * backward
        states /= states.sum(2, keepdim=True)
        arriving = emission[1:] * backward[1:]
        reached = torch.einsum("trs,rsu->tru", forward[:-1], move)
        arriving = arriving / (reached * arriving).sum(2, keepdim=True) * pairs.target_mask.T[1:, :, None]
        pairwise = (torch.einsum("trs,tru->rsu", forward[:-1], arriving) * move).sum(0)
        alike = pairs.source_mask / pairs.source_mask.sum(1, keepdim=True) ** 2
        chances = alike[:, :, None] * pairs.source_mask[:, None, :] * (pairs.target_mask.sum(1) - 1)[:, None, None]
        jumps = torch.stack([pairwise.flatten(), chances.sum(0).flatten()])
        moved = torch.zeros(2, len(self.jumps)).index_add_(1, distance.flatten(), jumps)
        return states.permute(1, 2, 0), moved


def batches_by_length(store: TokenStore, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Cut rows into batches of like lengths; ``rows`` and each batch have shape (row,)."""
    for start in range(0, len(rows), _WINDOW):
        part = rows[start : start + _WINDOW]
        source, target = (store.lengths(side, part) for side in ("source", "target"))
        order = np.lexsort((source, target))
        yield from cut_batches(part[order], np.maximum(source, target)[order], _BATCH)


def fit_aligner(store: TokenStore, sizes: tuple[int, int], pairs: int, *, shared: bool) -> Aligner:
    """Fit an aligner to pairs evenly spread over a store, of those that are not too long.

    Args:
        store: The pairs.
        sizes: Tokens of the source and of the target vocabulary.
        pairs: How many to take at most.
        shared: Whether the two vocabularies are one.
    """
    short = np.flatnonzero(np.maximum(store.lengths("source"), store.lengths("target")) <= _LONGEST)
    rows = short[np.linspace(0, len(short) - 1, min(pairs, len(short))).astype(np.int64)]
    aligner = Aligner(*sizes, shared=shared)
    aligner.fit([Pairs(store, batch) for batch in batches_by_length(store, rows)])
    return aligner


def align_store(store: TokenStore, aligner: Aligner, path: Path, share: float = 1.0) -> None:
    """Write the source position of every target token of a store, in its order, as uint16.

    Args:
        store: The pairs.
        aligner: What finds the links.
        path: The file that is written.
        share: How many of the pairs get links, evenly spread; in the others no target token is aligned.
    """
    links = np.memmap(path, np.uint16, "w+", shape=store.tokens["target"].shape)
    links[:] = UNALIGNED
    aligned_rows = np.linspace(0, len(store) - 1, round(share * len(store))).astype(np.int64)
    for rows in batches_by_length(store, aligned_rows):
        pairs = Pairs(store, rows)
        links[store.places("target", rows)] = aligner.align(pairs)[pairs.target_mask].numpy()
    links.flush()
    aligned = 1.0 - np.count_nonzero(links == UNALIGNED) / len(links)
    _LOG.info("%.1f %% of the target tokens are aligned", 100 * aligned)
