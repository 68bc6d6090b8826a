"""Models with fresh weights, from their settings."""

from __future__ import annotations

from training.models.contract import LanguageModel, Vocabulary
from training.models.decoder_only import DecoderOnly, DecoderOnlySettings
from training.models.masked_lm import MaskedLm, MaskedLmSettings
from training.models.rnn import Rnn, RnnSettings
from training.models.transformer import Transformer, TransformerSettings

ModelSettings = TransformerSettings | RnnSettings | DecoderOnlySettings | MaskedLmSettings


def build_model(settings: ModelSettings, vocabulary: Vocabulary) -> LanguageModel:
    """Build the model family that the settings belong to.

    Raises:
        ModelError: If the settings contradict one another or the vocabulary.
    """
    if isinstance(settings, TransformerSettings):
        return Transformer(settings, vocabulary)
    if isinstance(settings, DecoderOnlySettings):
        return DecoderOnly(settings, vocabulary)
    if isinstance(settings, MaskedLmSettings):
        return MaskedLm(settings, vocabulary)
    return Rnn(settings, vocabulary)
