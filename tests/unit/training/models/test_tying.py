"""Embeddings that share a matrix or do not."""

from __future__ import annotations

import torch

from training.models.contract import Vocabulary
from training.models.tying import build_embeddings


def test_a_seed_decides_which_matrix_gets_which_numbers() -> None:
    built = []
    for _ in range(20):
        torch.manual_seed(0)
        built.append(build_embeddings("none", Vocabulary(9, 9), 4, output_bias=False))
    for matrices in zip(*built, strict=True):
        assert all(torch.equal(matrix.weight, matrices[0].weight) for matrix in matrices)
