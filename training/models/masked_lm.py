"""A masked language model (Devlin et al. 2019, BERT): a Transformer encoder that learns to fill in hidden tokens.

Its encoder is a translation model's, weight for weight, so that a translation model can start from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from training.models.contract import LanguageModel, Vocabulary
from training.models.encoder import SourceEncoder
from training.models.transformer_layers import StackSettings, build_norm, initialise
from training.models.tying import build_embeddings


@dataclass(frozen=True, kw_only=True)
class MaskedLmSettings(StackSettings):
    """Sizes and variants of a masked language model.

    Attributes:
        family: Tells the model families apart in a config file.
        encoder_layers: Depth.
    """

    family: Literal["masked_lm"] = "masked_lm"
    encoder_layers: int = 4


class MaskedLm(SourceEncoder, LanguageModel):
    """Encoder and output head."""

    def __init__(self, settings: MaskedLmSettings, vocabulary: Vocabulary) -> None:
        """Build the layers with fresh weights; the output shares the embedding's matrix.

        Raises:
            ModelError: If the two sides do not share a vocabulary.
        """
        super().__init__()
        self.settings, self.vocabulary = settings, vocabulary
        embedding, _, self.vocab_projection = build_embeddings("all", vocabulary, settings.dim, output_bias=True)
        self.build_encoder(settings, embedding, settings.encoder_layers)
        self.head = nn.Sequential(nn.Linear(settings.dim, settings.dim), nn.GELU(), build_norm(settings))
        initialise(self.head)

    def hidden(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Encode sources with hidden tokens, shape (row, src): shape (row, src, dim); the target is not read."""
        return self.head(self.encode_states(source, lengths))  # type: ignore[no-any-return]

    def project_vocab(self, hidden: Tensor) -> Tensor:
        """Project shape (..., dim) to logits (..., vocab)."""
        return self.vocab_projection(hidden)  # type: ignore[no-any-return]
