"""Columns of the output layer are there for whoever needs them, and are used again when nobody does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.bundle.manifest import Axis, TensorSpec
from serving.runtime.output_columns import OutputColumns
from serving.runtime.size_buckets import SMALLEST_SHORTLIST
from serving.step import Ints

VOCABULARY, DIM = 5_000, 3
LAYER = np.random.default_rng(0).normal(size=(DIM, VOCABULARY)).astype(np.float32)
SPECS = (
    TensorSpec(name="output_weights", dtype="float32", axes=(DIM, Axis.COLUMN)),
    TensorSpec(name="output_biases", dtype="float32", axes=(Axis.COLUMN,)),
)


class Bound:
    """Takes the place of a binding."""

    def __init__(self, columns: OutputColumns) -> None:
        self.inputs: dict[str, NDArray[np.generic]] = {}
        columns.bind(self)

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        self.inputs[name] = value.numpy()


def admit(columns: OutputColumns, *lists: Ints) -> dict[str, NDArray[np.generic]]:
    lacking = columns.lacking(lists)
    columns.admit(lists, lacking, {"output_weights": LAYER[:, lacking], "output_biases": LAYER[0, lacking]})
    return columns.tables(lists)


def check(columns: OutputColumns, tables: dict[str, NDArray[np.generic]], lists: list[Ints]) -> None:
    """Each list's columns hold its tokens' part of the layer, and padding can never be chosen."""
    inputs = Bound(columns).inputs
    for row, tokens in enumerate(lists):
        places = tables["shortlist_columns"][row, 0]
        np.testing.assert_array_equal(inputs["output_weights"][:, places[: tokens.size]], LAYER[:, tokens])
        np.testing.assert_array_equal(inputs["output_biases"][places[: tokens.size]], LAYER[0, tokens])
        assert (inputs["output_biases"][places[tokens.size :]] == -np.inf).all()
        np.testing.assert_array_equal(tables["shortlist_tokens"][row, : tokens.size], tokens)
        index = np.full(VOCABULARY, -1)
        index[tokens] = np.arange(tokens.size)
        np.testing.assert_array_equal(tables["shortlist_index"][row], index)


def some(rng: np.random.Generator, size: int) -> Ints:
    return np.sort(rng.choice(VOCABULARY, size, replace=False))


def test_sentences_come_and_go_and_each_keeps_its_own_columns() -> None:
    rng, columns = np.random.default_rng(1), OutputColumns(SPECS, VOCABULARY)
    lists: list[Ints] = []
    rows: list[dict[str, NDArray[np.generic]]] = []
    for _ in range(60):
        new = [some(rng, int(rng.integers(1, 400))) for _ in range(rng.integers(1, 5))]
        tables = admit(columns, *new)
        lists += new
        rows += [{name: table[i : i + 1] for name, table in tables.items()} for i in range(len(new))]
        for own, tokens in zip(rows, lists, strict=True):
            check(columns, own, [tokens])
        order = np.flatnonzero(rng.random(len(lists)) < 0.6)
        columns.keep(order)
        lists, rows = [lists[i] for i in order], [rows[i] for i in order]


def test_tokens_that_are_there_are_not_asked_for_again() -> None:
    columns = OutputColumns(SPECS, VOCABULARY)
    admit(columns, np.array([1, 5, 9]))
    assert columns.lacking([np.array([5, 6]), np.array([2, 9])]).tolist() == [2, 6]
    columns.keep(np.array([], dtype=np.int64))
    assert columns.lacking([np.array([5, 6])]).tolist() == [6], "a column stays until another token needs its place"


def test_columns_are_used_again_so_that_the_matrix_grows_no_further_than_sentences_need() -> None:
    rng, columns = np.random.default_rng(2), OutputColumns(SPECS, VOCABULARY)
    size = columns.nbytes
    for _ in range(50):
        admit(columns, some(rng, SMALLEST_SHORTLIST - 1))
        columns.keep(np.array([], dtype=np.int64))
    assert columns.nbytes == size


def test_a_grid_without_sentences_gives_a_large_matrix_back() -> None:
    rng, columns = np.random.default_rng(3), OutputColumns(SPECS, VOCABULARY)
    size = columns.nbytes
    admit(columns, some(rng, 4_000))
    assert columns.nbytes > 5 * size
    assert columns.keep(np.array([], dtype=np.int64)), "bindings are void"
    assert columns.nbytes == size
    tokens = some(rng, 10)
    check(columns, admit(columns, tokens), [tokens])
