"""The part of the output layer that the sentences of a grid may use: one matrix, which all of them are multiplied with.

A sentence may use the tokens of its own shortlist. Each token that any sentence may use has a column of the matrix;
a step multiplies every hypothesis with all columns at once and then takes, for each sentence, the products of its own
list in the order of the list. So an answer does not depend on which other columns there are. Columns are added when
sentences begin, and a column that no sentence needs any more is the next token's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.bundle.manifest import Axis, TensorSpec
from serving.bundle.shortlist import OUTPUT_BIASES
from serving.runtime.size_buckets import SMALLEST_SHORTLIST, fill_rows, fitting
from serving.step import Ints

_PADDING = 0  # the column that fills up shortlists: its bias is -inf
_NONE = -1
_MANY = 4 * SMALLEST_SHORTLIST  # columns, after which a grid without sentences starts anew


class OutputColumns:
    """Columns of a grid's sentences, and which token each is of.

    Attributes:
        nbytes: Bytes of the columns.
    """

    def __init__(self, specs: Sequence[TensorSpec], vocabulary: int) -> None:
        """Start without sentences; ``column`` is the last axis of ``specs``."""
        self._specs, self._vocabulary = specs, vocabulary
        self._slots: list[NDArray[np.int32]] = []  # columns of each busy slot, in the order of its list
        self._empty(SMALLEST_SHORTLIST)

    def _empty(self, size: int) -> None:
        self._column = np.full(self._vocabulary, _NONE, dtype=np.int32)  # of each token
        self._token = np.zeros(0, dtype=np.int64)  # of each column
        self._users = np.zeros(0, dtype=np.int64)  # slots that need a column
        self._arrays = {spec.name: np.zeros(spec.shape({Axis.COLUMN: 0}), np.dtype(spec.dtype)) for spec in self._specs}
        self._grow(size)
        self._users[_PADDING] = 1
        self._arrays[OUTPUT_BIASES][_PADDING] = -np.inf

    def _grow(self, size: int) -> None:
        more = (0, size - self._users.size)
        self._token = np.pad(self._token, more, constant_values=_NONE)
        self._users = np.pad(self._users, more)
        for name, array in self._arrays.items():
            self._arrays[name] = np.pad(array, [(0, 0)] * (array.ndim - 1) + [more])
        self.nbytes = sum(array.nbytes for array in self._arrays.values())

    def lacking(self, lists: Sequence[Ints]) -> Ints:
        """Return the tokens of some shortlists that have no column. Shape (column,), int64, ascending."""
        lacks = np.zeros(self._vocabulary, dtype=np.bool_)
        lacks[np.concatenate(lists)] = True
        return np.flatnonzero(lacks & (self._column == _NONE))

    def admit(self, lists: Sequence[Ints], lacking: Ints, columns: Mapping[str, NDArray[np.generic]]) -> bool:
        """Give the next slots their shortlists.

        Args:
            lists: Tokens, ascending. Each shape (shortlist,), int64.
            lacking: Those without a column.
            columns: The columns of ``lacking``, by the names of the tensors. Shapes (..., column).

        Returns:
            Whether an array lies elsewhere now, so that bindings to it are void.
        """
        taken = self._users > 0
        wanted = self._column[np.concatenate(lists)]
        taken[wanted[wanted != _NONE]] = True
        free = np.flatnonzero(~taken)
        moved = free.size < lacking.size
        if moved:
            self._grow(fitting(self._users.size, self._users.size - free.size + lacking.size))
            free = np.concatenate([free, np.arange(taken.size, self._users.size)])
        places = free[: lacking.size]
        before = self._token[places]
        self._column[before[before != _NONE]] = _NONE
        self._token[places], self._column[lacking] = lacking, places
        for name, array in self._arrays.items():
            array[..., places] = columns[name]
        for tokens in lists:
            self._slots.append(self._column[tokens])
            self._users[self._slots[-1]] += 1
        return moved

    def tables(self, lists: Sequence[Ints]) -> dict[str, NDArray[np.generic]]:
        """Return what a step reads of the shortlists that were admitted last, by name. Shapes (source, ...).

        ``shortlist_tokens`` (source, shortlist), ``shortlist_columns`` (source, 1, shortlist), where they are, and
        ``shortlist_index`` (source, vocab), where in its list each token is, or -1.
        """
        longest = max(tokens.size for tokens in lists)
        tokens = np.empty((len(lists), longest), dtype=np.int64)
        columns = np.empty((len(lists), 1, longest), dtype=np.int32)
        fill_rows(tokens, lists, 0)
        fill_rows(columns[:, 0], self._slots[-len(lists) :], _PADDING)
        index = np.full((len(lists), self._vocabulary), _NONE, dtype=np.int32)
        for row, own in zip(index, lists, strict=True):
            row[own] = np.arange(own.size)
        return {"shortlist_tokens": tokens, "shortlist_columns": columns, "shortlist_index": index}

    def keep(self, order: Ints) -> bool:
        """Keep some slots, free the rest: slot i then has what slot ``order[i]`` had. Shape (kept slot,), int64.

        Returns:
            Whether an array lies elsewhere now.
        """
        kept = [self._slots[slot] for slot in order.tolist()]
        freed = np.ones(len(self._slots), dtype=np.bool_)
        freed[order] = False
        for slot in np.flatnonzero(freed).tolist():
            self._users[self._slots[slot]] -= 1
        self._slots = kept
        shrinks = not kept and self._users.size >= _MANY
        if shrinks:
            self._empty(SMALLEST_SHORTLIST)
        return shrinks

    def bind(self, binding: ort.IOBinding) -> None:
        """Bind the columns as inputs."""
        for name, array in self._arrays.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
