"""Small bundles of random weights; exporting one takes seconds, so tests share them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.offline.random_bundle import random_bundle
from serving.bundle.manifest import SearchConventions
from training.models.transformer import TransformerSettings

VOCABULARY = 300
USUAL = TransformerSettings(
    dim=32, heads=4, feedforward_dim=64, encoder_layers=2, decoder_layers=1, norm="post", tie="target"
)
_UNUSUAL = replace(
    USUAL,
    norm="pre",
    activation="gelu",
    positions="learned",
    position_offset=2,
    embedding_norm=True,
    scale_embedding=False,
    tie="none",
    output_bias=True,
    decoder_kv_heads=2,
)
# CTranslate2 takes suppressed tokens out before the softmax: by random weights they have a share that changes ranks.
_SEARCH = SearchConventions(renormalize=True, ranked_at_limit=True)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Transformer of the paper, with a vocabulary of 300 words w0, w1 and so on."""
    return random_bundle(tmp_path_factory.mktemp("models"), "tiny", USUAL, VOCABULARY, search=_SEARCH)


@pytest.fixture(scope="session")
def unusual_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of which every setting differs that CTranslate2 knows too."""
    return random_bundle(tmp_path_factory.mktemp("models"), "unusual", _UNUSUAL, VOCABULARY, search=_SEARCH)
