"""Padded batches of token ids, as models take them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.sampler import Position, TokenBatchSampler
from training.data.subwords import Subwords
from training.data.token_store import UNALIGNED, Rows, TokenStore
from training.models.contract import Vocabulary


class Batch(NamedTuple):
    """Padded token ids of some pairs.

    Attributes:
        source: Shape (row, src), int64: pieces, eos, padding.
        lengths: Shape (row,), int64: source tokens, eos included.
        target_in: Shape (row, tgt), int64: decoder_start, pieces, padding.
        target_out: Shape (row, tgt), int64: pieces, eos, padding.
        real: Shape (token,), int64: where in ``target_out``, its rows end to end, the real target tokens are.
        normaliser: What the summed loss is divided by: the mean number of target tokens of the step's batches.
        place: Which batch this is; decides what is drawn at random for it.
        after: The position to resume from once this batch has been trained on.
        links: Shape (row, tgt), int64: the source position that each token of ``target_out`` translates, ``UNALIGNED``
            for none and for padding; None if the corpus is not aligned.
    """

    source: Tensor
    lengths: Tensor
    target_in: Tensor
    target_out: Tensor
    real: Tensor
    normaliser: float
    place: Position = Position()
    after: Position = Position()
    links: Tensor | None = None

    @property
    def mask(self) -> Tensor:
        """Shape (row, tgt), bool: True at real target tokens."""
        flat = torch.zeros(self.target_out.numel(), dtype=torch.bool, device=self.real.device)
        return flat.index_fill(0, self.real, True).view_as(self.target_out)

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device; to a GPU from pinned memory, without waiting until it has done what it was told before."""
        fields: dict[str, Any] = self._asdict()
        moved = {name: _moved(x, torch.device(device)) for name, x in fields.items() if isinstance(x, Tensor)}
        return type(self)(**{**fields, **moved})


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def pad_rows(rows: Rows, pad: int, *, first: int | None = None, last: int | None = None) -> NDArray[np.int64]:
    """Stack rows of different lengths, each after ``first`` and before ``last``; returns shape (row, longest)."""
    start = 0 if first is None else 1
    width = start + int(rows.lengths.max()) + (0 if last is None else 1)
    out = np.full((len(rows.lengths), width), pad, dtype=np.int64)
    if first is not None:
        out[:, 0] = first
    if last is not None:
        out[np.arange(len(out)), start + rows.lengths] = last
    out[:, start:][np.arange(width - start) < rows.lengths[:, None]] = rows.tokens
    return out


def _source(rows: Rows, vocabulary: Vocabulary, *, reverse: bool) -> tuple[Tensor, Tensor]:
    first = vocabulary.bos if vocabulary.source_bos else None
    last = vocabulary.eos if vocabulary.source_eos else None
    # All tokens turned round are the rows turned round, the last one first.
    turned = Rows(rows.tokens[::-1], rows.lengths[::-1]) if reverse else rows
    ids = pad_rows(turned, vocabulary.pad, first=first, last=last)
    lengths = rows.lengths + (first is not None) + (last is not None)
    return torch.from_numpy(ids[::-1].copy() if reverse else ids), torch.from_numpy(lengths)


def make_source(rows: Sequence[Sequence[int]], vocabulary: Vocabulary, *, reverse: bool) -> tuple[Tensor, Tensor]:
    """Build encoder input from piece ids.

    Args:
        rows: Piece ids of each sentence, without special tokens.
        vocabulary: Special ids.
        reverse: Turn each sentence round before special tokens are added (Sutskever et al. 2014).

    Returns:
        Ids of shape (row, src), and lengths of shape (row,), both int64.
    """
    return _source(Rows.of(rows), vocabulary, reverse=reverse)


def make_batch(
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    vocabulary: Vocabulary,
    *,
    reverse: bool = False,
) -> Batch:
    """Pad pairs of piece ids, given without special tokens, to a batch that is a step of its own."""
    return _batch(Rows.of(sources), Rows.of(targets), vocabulary, reverse=reverse)


def _batch(sources: Rows, targets: Rows, vocabulary: Vocabulary, *, reverse: bool) -> Batch:
    source, lengths = _source(sources, vocabulary, reverse=reverse)
    target_in = pad_rows(targets, vocabulary.pad, first=vocabulary.decoder_start)
    target_out = pad_rows(targets, vocabulary.pad, last=vocabulary.eos)
    real = np.flatnonzero(np.arange(target_out.shape[1]) <= targets.lengths[:, None])
    before, after, places = (torch.from_numpy(each) for each in (target_in, target_out, real))
    return Batch(source, lengths, before, after, places, float(len(real)))


@dataclass(frozen=True)
class Resegmentation:
    """Subword regularisation: rows are cut anew, at random, each time they are seen.

    Attributes:
        source: Tokenizer of the source.
        target: Tokenizer of the target.
        alpha: See ``Subwords.sample``.
        max_tokens: A row that would grow longer keeps the tokens it has in the store.
        seed: Together with the place of a batch, decides every cut.
    """

    source: Subwords
    target: Subwords
    alpha: float
    max_tokens: int
    seed: int

    def __call__(self, side: str, rows: list[list[int]], place: Position) -> list[list[int]]:
        """Cut the texts of these token ids of one side anew."""
        tokenizer = self.source if side == "source" else self.target
        seed = int(np.random.SeedSequence((self.seed, *place)).generate_state(1)[0])
        drawn = tokenizer.sample(tokenizer.decode(rows), self.alpha, seed)
        return [new if 0 < len(new) <= self.max_tokens else old for new, old in zip(drawn, rows, strict=True)]


@dataclass(frozen=True)
class Share:
    """Share of one process in the batches of every optimizer step.

    A step has ``processes`` x ``accumulate`` batches. Process r takes every ``processes``-th, from the r-th on, so a
    step is made of the same batches however many processes share it.
    """

    rank: int = 0
    processes: int = 1
    accumulate: int = 1


class BatchStream:
    """The endless training batches of one process.

    Args:
        store: Token ids of the corpus.
        sampler: Order of the batches.
        vocabulary: Special ids.
        start: Position of the first batch.
        share: Which of the batches this process takes.
        reverse: Turn source sentences round.
        resegmentation: Subword regularisation, if wanted.
    """

    def __init__(
        self,
        store: TokenStore,
        sampler: TokenBatchSampler,
        vocabulary: Vocabulary,
        start: Position,
        share: Share | None = None,
        *,
        reverse: bool = False,
        resegmentation: Resegmentation | None = None,
    ) -> None:
        self.store, self.sampler, self.vocabulary, self.start = store, sampler, vocabulary, start
        self.share, self.reverse, self.resegmentation = share or Share(), reverse, resegmentation

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches for ever."""
        size = self.share.processes * self.share.accumulate
        before, step = self.start, list[tuple[NDArray[Any], Position]]()
        for item in self.sampler.batches(self.start):
            step.append(item)
            if len(step) < size:
                continue
            normaliser = sum(int((self.store.lengths("target", rows) + 1).sum()) for rows, _ in step) / size
            for number in range(self.share.rank, size, self.share.processes):
                rows, place = step[number]
                # Whoever stops within a step repeats it whole; all processes resume at the same place.
                after = step[-1][1] if number + self.share.processes >= size else before
                sources, targets = (self._rows(side, rows, place) for side in ("source", "target"))
                batch = _batch(sources, targets, self.vocabulary, reverse=self.reverse)
                yield batch._replace(normaliser=normaliser, place=place, after=after, links=self._links(rows, batch))
            before, step = step[-1][1], []

    def _links(self, rows: NDArray[Any], batch: Batch) -> Tensor | None:
        if "links" not in self.store.tokens:
            return None
        ids = torch.from_numpy(pad_rows(self.store.rows("links", rows), UNALIGNED, last=UNALIGNED))
        return torch.where(batch.target_out == self.vocabulary.eos, batch.lengths[:, None] - 1, ids)

    def _rows(self, side: str, rows: NDArray[Any], place: Position) -> Rows:
        stored = self.store.rows(side, rows)
        return stored if self.resegmentation is None else Rows.of(self.resegmentation(side, stored.apart(), place))
