"""Padded batches of token ids, as models take them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from training.data.sampler import Position, TokenBatchSampler
from training.data.token_store import TokenStore
from training.models.contract import Vocabulary


class Batch(NamedTuple):
    """Padded token ids of some pairs.

    Attributes:
        source: Shape (row, src), int64: pieces, eos, padding.
        lengths: Shape (row,), int64: source tokens, eos included.
        target_in: Shape (row, tgt), int64: decoder_start, pieces, padding.
        target_out: Shape (row, tgt), int64: pieces, eos, padding.
        mask: Shape (row, tgt), bool: True at real target tokens.
        after: The sampler's position once this batch has been trained on.
    """

    source: Tensor
    lengths: Tensor
    target_in: Tensor
    target_out: Tensor
    mask: Tensor
    after: Position = Position()

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Copy to a device."""
        names = ("source", "lengths", "target_in", "target_out", "mask")
        return self._replace(**{n: getattr(self, n).to(device, non_blocking=non_blocking) for n in names})


def pad_rows(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    """Stack rows of different lengths; returns shape (row, longest), int64."""
    out = np.full((len(rows), max(map(len, rows))), pad, dtype=np.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return torch.from_numpy(out)


def make_source(rows: Sequence[Sequence[int]], vocabulary: Vocabulary, *, reverse: bool) -> tuple[Tensor, Tensor]:
    """Build encoder input from piece ids.

    Args:
        rows: Piece ids of each sentence, without special tokens.
        vocabulary: Special ids.
        reverse: Turn each sentence round before eos is appended (Sutskever et al. 2014).

    Returns:
        Ids of shape (row, src), and lengths of shape (row,), both int64.
    """
    ended = [[*(reversed(row) if reverse else row), vocabulary.eos] for row in rows]
    return pad_rows(ended, vocabulary.pad), torch.tensor([len(row) for row in ended])


def make_batch(
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    vocabulary: Vocabulary,
    *,
    reverse: bool = False,
    after: Position | None = None,
) -> Batch:
    """Pad pairs of piece ids, given without special tokens, to a batch."""
    source, lengths = make_source(sources, vocabulary, reverse=reverse)
    target_in = pad_rows([[vocabulary.decoder_start, *row] for row in targets], vocabulary.pad)
    target_out = pad_rows([[*row, vocabulary.eos] for row in targets], vocabulary.pad)
    sizes = torch.tensor([len(row) + 1 for row in targets])
    mask = torch.arange(target_out.shape[1])[None, :] < sizes[:, None]
    return Batch(source, lengths, target_in, target_out, mask, after or Position())


class BatchStream:
    """The endless training batches of one process.

    Args:
        store: Token ids of the corpus.
        sampler: Order of the batches; process r of n takes every n-th of them, from the r-th on.
        vocabulary: Special ids.
        start: Position of the first batch.
        reverse: Turn source sentences round.
        rank: Number of this process.
        processes: Number of processes.
    """

    def __init__(
        self,
        store: TokenStore,
        sampler: TokenBatchSampler,
        vocabulary: Vocabulary,
        start: Position,
        *,
        reverse: bool = False,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.store, self.sampler, self.vocabulary, self.start = store, sampler, vocabulary, start
        self.reverse, self.rank, self.processes = reverse, rank, processes

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches for ever."""
        group = []
        for item in self.sampler.batches(self.start):
            group.append(item)
            if len(group) < self.processes:
                continue
            # All processes resume at the same place: after the whole group.
            rows, after = group[self.rank][0], group[-1][1]
            group = []
            yield make_batch(
                [self.store.row("source", i).tolist() for i in rows],
                [self.store.row("target", i).tolist() for i in rows],
                self.vocabulary,
                reverse=self.reverse,
                after=after,
            )
