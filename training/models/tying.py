"""Token embeddings and the output projection, which may share one matrix (Press and Wolf 2017)."""

from __future__ import annotations

from typing import Literal

from torch import nn

from training.errors import ModelError
from training.models.contract import Vocabulary

Tie = Literal["all", "target", "none"]


def build_embeddings(
    tie: Tie, vocabulary: Vocabulary, dim: int, *, output_bias: bool
) -> tuple[nn.Embedding, nn.Embedding, nn.Linear]:
    """Build both embeddings and the output projection, of variance 1/dim, so that a tied output starts near unit scale.

    Args:
        tie: One matrix for source, target and output (``all``), for target and output (``target``), or none.
        vocabulary: Sizes of the inventories.
        dim: Width of an embedding.
        output_bias: Add a bias to the logits.

    Returns:
        Source embedding, target embedding, and the projection from dim to vocab.

    Raises:
        ModelError: If all are to be tied but the two sides do not share a vocabulary.
    """
    if tie == "all" and not vocabulary.shared:
        raise ModelError("model.tie is 'all', but source and target vocabularies differ; set it to 'target'")
    target = nn.Embedding(vocabulary.target_size, dim)
    source = target if tie == "all" else nn.Embedding(vocabulary.source_size, dim)
    projection = nn.Linear(dim, vocabulary.target_size, bias=output_bias)
    if tie != "none":
        projection.weight = target.weight
    for weight in dict.fromkeys([source.weight, target.weight, projection.weight]):  # in order, so that seeds decide
        nn.init.normal_(weight, std=dim**-0.5)
    if output_bias:
        nn.init.zeros_(projection.bias)
    return source, target, projection
