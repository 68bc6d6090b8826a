"""Small models of random weights as bundles."""

from __future__ import annotations

from dataclasses import replace

from training.models.transformer import TransformerSettings

VOCABULARY = 300
POST_NORM = TransformerSettings(dim=32, heads=4, feedforward_dim=64, encoder_layers=2, decoder_layers=2, norm="post")
MODELS = {
    "post-norm": POST_NORM,
    "pre-norm, all else unusual": replace(
        POST_NORM,
        norm="pre",
        activation="gelu",
        positions="learned",
        position_offset=2,
        embedding_norm=True,
        scale_embedding=False,
        tie="none",
        output_bias=True,
    ),
    "without biases": replace(POST_NORM, norm="pre", activation="silu", bias=False, tie="target"),
}
