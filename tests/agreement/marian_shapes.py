"""Shapes of random MarianMT models that are compared, and sources for them."""

from __future__ import annotations

from typing import Any

import numpy as np

# ``ends`` is chosen so that translations are of all lengths.
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "relu, untied": {"activation_function": "relu", "tie_word_embeddings": False, "ends": 3.0},
    "separate vocabularies, unscaled": {"separate": True, "scale_embedding": False, "ends": 6.0},
    "separate and untied, gelu": {
        "separate": True,
        "ends": 4.8,
        "tie_word_embeddings": False,
        "activation_function": "gelu",
    },
    "padded vocabulary, three heads": {
        "padding": 5,
        "ends": 2.8,
        "d_model": 36,
        "encoder_attention_heads": 3,
        "decoder_attention_heads": 3,
    },
    "1+1 layers, five heads": {
        "ends": 5.0,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "d_model": 40,
        "encoder_attention_heads": 5,
        "decoder_attention_heads": 5,
    },
    "12+3 layers": {"encoder_layers": 12, "decoder_layers": 3, "scale_embedding": False, "ends": 0.3},
    "6+6 layers, relu, wide": {
        "encoder_layers": 6,
        "decoder_layers": 6,
        "activation_function": "relu",
        "d_model": 48,
        "encoder_ffn_dim": 128,
        "decoder_ffn_dim": 128,
        "init_std": 0.2,
        "ends": 5.8,
    },
    "one head, separate vocabularies, padded, relu": {
        "separate": True,
        "padding": 3,
        "ends": 1.0,
        "encoder_attention_heads": 1,
        "decoder_attention_heads": 1,
        "activation_function": "relu",
    },
}


def random_sources(count: int, tokens: range, seed: int) -> list[list[int]]:
    """Sources of 2 to 12 of these token ids."""
    draw = np.random.default_rng(seed)
    return [draw.integers(tokens.start, tokens.stop, size=draw.integers(2, 13)).tolist() for _ in range(count)]
