"""Floating-point operations of a training step, and the share of a GPU's peak that they make up."""

from __future__ import annotations

import re

import torch
from torch import nn

from training.data.batches import Batch
from training.errors import ModelError
from training.models.attention import Attention
from training.models.contract import LanguageModel
from training.models.decoder_only import DecoderOnly
from training.models.masked_lm import MaskedLm
from training.models.rnn import Rnn
from training.models.transformer import Transformer

# A product multiplies and adds; its backward pass has two products: by the inputs, and by the weights.
PER_WEIGHT = 2 * (1 + 2)

# Peak of the tensor cores in bfloat16 (V100, T4: float16), without sparsity, FLOP/s, by the maker's data sheets; of
# several forms of a card the fastest.
PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A10": 125e12,
    "V100": 125e12,
    "T4": 65e12,
}


class FlopModel:
    """Counts the operations of training steps of one model: products only, six per weight and token.

    Raises:
        ModelError: If the model's family has no formula.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._hidden = _products(model)
        self._per_token = _weights(model.vocab_projection) + (_weights(model.output) if isinstance(model, Rnn) else 0)

    def of(self, batch: Batch) -> float:
        """Return the operations of forward and backward pass over a batch, padding included where it is computed.

        Only real target tokens are projected onto the vocabulary; of a step with several batches their mean number is
        taken, which is right for the step.
        """
        rows, src = batch.source.shape
        tgt = batch.target_in.shape[1]
        terms = (1, src, tgt, src * src, tgt * tgt, src * tgt)
        hidden = rows * sum(count * term for count, term in zip(self._hidden, terms, strict=True))
        return float(PER_WEIGHT * (hidden + self._per_token * batch.normaliser))


def _weights(*modules: object) -> int:
    """Count the weights of matrices."""
    parameters = (p for module in modules if isinstance(module, nn.Module) for p in module.parameters())
    return sum(parameter.numel() for parameter in parameters if parameter.ndim == 2)


def _products(model: LanguageModel) -> tuple[int, int, int, int, int, int]:
    """Count multiplications of one row: once, per src, tgt, src^2, tgt^2 and src x tgt.

    Attention has two products of width dim for each pair of positions: by the keys, and by the values.
    """
    if isinstance(model, Transformer):
        wide = 2 * model.settings.dim
        encoder, decoder = wide * model.settings.encoder_layers, wide * model.settings.decoder_layers
        own = 0 if model.settings.decoder_autoregression == "ssru" else decoder
        of_source = _weights(*(attention.key_value for attention in model.source_attention))
        source, target = _weights(model.encoder_layers) + of_source, _weights(model.decoder_layers) - of_source
        return 0, source, target, encoder, own, decoder
    if isinstance(model, DecoderOnly):
        weights, wide = _weights(model.layers), 2 * model.settings.dim * model.settings.layers
        return 0, weights, weights, wide, wide, 2 * wide
    if isinstance(model, MaskedLm):
        wide = 2 * model.settings.dim * model.settings.encoder_layers
        return 0, _weights(model.encoder_layers, model.head), 0, wide, 0, 0
    if isinstance(model, Rnn):
        reader = model.decoder.reader
        once = _weights(model.bridge, getattr(reader, "summary", None))
        if not isinstance(reader, Attention):
            return once, _weights(model.encoder), _weights(model.decoder) - _weights(reader), 0, 0, 0
        of_source = _weights(getattr(reader.score, "key", None))
        of_pairs = _weights(getattr(reader.score, "score", None))
        key_dim = reader.score.key_dim or reader.context_dim
        target = _weights(model.decoder) - of_source - of_pairs
        return once, _weights(model.encoder) + of_source, target, 0, 0, key_dim + reader.context_dim
    raise ModelError(f"{type(model).__name__} has no formula; add one to training/flops.py")


def peak_flops(device: torch.device) -> float | None:
    """Peak of a device in bfloat16, FLOP/s; None where it is not known."""
    if device.type != "cuda":
        return None
    words = re.split(r"[ -]", torch.cuda.get_device_name(device))
    return next((PEAKS[word] for word in words if word in PEAKS), None)
