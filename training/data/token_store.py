"""A corpus as token ids on disk: ragged arrays and offsets, memory-mapped, so that it may exceed memory.

Layout of a store directory: ``source.tokens`` and ``target.tokens`` (uint16 or uint32, all rows end to end),
``source.offsets`` and ``target.offsets`` (int64, rows + 1), ``labels`` (int16) and ``store.json``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from training.data.directories import complete_directory
from training.errors import DataError

_SIDES = ("source", "target")
_BLOCK = 1 << 22
UNALIGNED = int(np.iinfo(np.uint16).max)  # in place of a source position


@dataclass(frozen=True)
class EncodedPair:
    """Token ids of a pair, without special tokens, and the index of its label."""

    source: list[int]
    target: list[int]
    label: int


class Rows(NamedTuple):
    """Token ids of some rows, end to end: a batch is made of them without a loop over its rows.

    Attributes:
        tokens: Shape (token,), any integers.
        lengths: Tokens of each row, shape (row,), int64.
    """

    tokens: NDArray[Any]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Self:
        """Put rows end to end."""
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        return cls(np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum())), lengths)

    def apart(self) -> list[list[int]]:
        """Take the rows apart."""
        ends = self.lengths.cumsum().tolist()
        tokens: list[int] = self.tokens.tolist()
        return [tokens[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@dataclass(frozen=True)
class TokenStore:
    """Read access to a store.

    Attributes:
        tokens: By side, shape (token,), uint16 or uint32, memory-mapped. An aligned store has a third side, ``links``:
            of each target token the position of the source token that it translates, or ``UNALIGNED``.
        offsets: By side, shape (row + 1,), int64, memory-mapped.
        labels: Shape (row,), int16, memory-mapped.
        label_names: Label of each index.
        removed: Pairs that were left out, by reason.
    """

    tokens: dict[str, NDArray[Any]]
    offsets: dict[str, NDArray[np.int64]]
    labels: NDArray[np.int16]
    label_names: tuple[str, ...]
    removed: dict[str, int]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.labels)

    def lengths(self, side: str, rows: NDArray[Any] | slice = slice(None)) -> NDArray[np.int64]:
        """Tokens of some rows without eos, shape (row,)."""
        offsets = self.offsets[side]
        return np.asarray(offsets[1:][rows] - offsets[:-1][rows])

    def rows(self, side: str, indices: NDArray[Any]) -> Rows:
        """Token ids of some rows; ``indices`` has shape (row,)."""
        return Rows(np.asarray(self.tokens[side][self.places(side, indices)]), self.lengths(side, indices))

    def places(self, side: str, indices: NDArray[Any]) -> NDArray[np.int64]:
        """Where the tokens of some rows are, end to end, shape (token,)."""
        starts, lengths = np.asarray(self.offsets[side][indices]), self.lengths(side, indices)
        before = lengths.cumsum() - lengths
        return np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)

    def with_links(self, path: Path) -> Self:
        """Return this store aligned, with links from a file of uint16."""
        links = np.memmap(path, np.uint16, "r")
        return replace(
            self,
            tokens={**self.tokens, "links": links},
            offsets={**self.offsets, "links": self.offsets["target"]},
        )

    def counts(self, side: str, vocab_size: int) -> NDArray[np.int64]:
        """Count how often each token occurs, shape (vocab,), int64; read the side once, a piece at a time."""
        total = np.zeros(vocab_size, dtype=np.int64)
        for start in range(0, len(self.tokens[side]), _BLOCK):
            total += np.bincount(self.tokens[side][start : start + _BLOCK], minlength=vocab_size)
        return total


def write_store(
    directory: Path,
    pairs: Iterable[EncodedPair],
    *,
    vocab_size: int,
    label_names: tuple[str, ...],
    removed: Counter[str] | None = None,
) -> None:
    """Stream pairs into a new store; the directory appears only once it is complete.

    Args:
        directory: Where the store shall be; replaced if it exists.
        pairs: Encoded pairs.
        vocab_size: Decides between two and four bytes per token.
        label_names: Label of each index.
        removed: Pairs that were left out, by reason; may be filled while ``pairs`` is read.
    """
    dtype = np.uint16 if vocab_size <= 1 << 16 else np.uint32
    with complete_directory(directory) as partial:
        totals = dict.fromkeys(_SIDES, 0)
        with ExitStack() as stack:
            tokens, offsets = (
                {side: stack.enter_context((partial / f"{side}.{kind}").open("wb")) for side in _SIDES}
                for kind in ("tokens", "offsets")
            )
            labels = stack.enter_context((partial / "labels").open("wb"))
            for side in _SIDES:
                offsets[side].write(np.int64(0).tobytes())
            for pair in pairs:
                for side, ids in (("source", pair.source), ("target", pair.target)):
                    tokens[side].write(np.asarray(ids, dtype=dtype).tobytes())
                    totals[side] += len(ids)
                    offsets[side].write(np.int64(totals[side]).tobytes())
                labels.write(np.int16(pair.label).tobytes())
        header: dict[str, Any] = {
            "dtype": np.dtype(dtype).name,
            "label_names": label_names,
            "removed": dict(removed or {}),
        }
        (partial / "store.json").write_text(json.dumps(header, indent=1), encoding="utf-8")


def open_store(directory: Path) -> TokenStore:
    """Map a store into memory.

    Raises:
        DataError: If it holds no pairs.
    """
    header = json.loads((directory / "store.json").read_text(encoding="utf-8"))
    if (directory / "labels").stat().st_size == 0:
        raise DataError(f"no pair of the corpus is short enough ({header['removed']}); raise data.max_tokens.")
    return TokenStore(
        tokens={s: np.memmap(directory / f"{s}.tokens", dtype=header["dtype"], mode="r") for s in _SIDES},
        offsets={s: np.memmap(directory / f"{s}.offsets", dtype=np.int64, mode="r") for s in _SIDES},
        labels=np.memmap(directory / "labels", dtype=np.int16, mode="r"),
        label_names=tuple(header["label_names"]),
        removed=header["removed"],
    )
