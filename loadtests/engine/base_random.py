"""A bundle of Transformer-base with random weights: the same work on every machine, and nothing to download."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from export.bundle import BundleOptions, write_bundle
from export.verify import Evidence
from training.checkpoint import LoadedCheckpoint
from training.config import DataConfig, TrainingConfig
from training.data.words import PATTERN, SPECIAL
from training.models.contract import Vocabulary
from training.models.transformer import Transformer, TransformerSettings

NAME = "base-random"
_VOCABULARY = 32_000
_SENTENCES, _TOKENS = 100, 24  # that int8 is calibrated on
_ROOT = Path(__file__).parents[2]
_SOURCES = ("export", "training/models", "serving/bundle")  # what decides how a bundle looks


def base_random(cache: Path = _ROOT / ".cache" / "engine") -> Path:
    """The bundle's directory; it is made if there is none in ``cache`` that this very code wrote."""
    root = cache / _code_digest()
    directory = root / NAME / "1"
    if not directory.exists():
        options = BundleOptions(name=NAME, version=1, max_source_tokens=256, max_target_tokens=256)
        write_bundle(checkpoint(), root, options, _evidence())
    return directory


def checkpoint(settings: TransformerSettings | None = None, vocabulary_size: int = _VOCABULARY) -> LoadedCheckpoint:
    """A model of fixed random weights, of the sizes of Vaswani et al. (2017) if no other are given."""
    torch.manual_seed(0)
    settings = settings or TransformerSettings(
        dim=512, heads=8, feedforward_dim=2048, encoder_layers=6, decoder_layers=6, norm="post", tie="all"
    )
    words = [f"\u2581{word}" for word in _words(vocabulary_size)]
    tokenizer = json.dumps({"pattern": PATTERN, "tokens": [*SPECIAL, *words]}).encode()
    nowhere = {"source": "none", "target": "none"}
    config = TrainingConfig(
        run_dir=Path("none"),
        languages=("en", "fr"),
        data=DataConfig.model_validate({"train": nowhere, "valid": nowhere}),
        model=settings,
    )
    model = Transformer(settings, Vocabulary(vocabulary_size, vocabulary_size)).eval()
    return LoadedCheckpoint(model, config, tokenizer, tokenizer, step=0, scores={})


def _words(vocabulary_size: int) -> list[str]:
    return [f"w{number}" for number in range(vocabulary_size - len(SPECIAL))]


def _evidence() -> Evidence:
    words, generator = _words(_VOCABULARY), np.random.default_rng(0)
    rows = generator.integers(0, len(words), size=(_SENTENCES, _TOKENS))
    # What random weights say is not worth translating at length.
    return Evidence([" ".join(words[number] for number in row) for row in rows], [], max_length=4)


def _code_digest() -> str:
    digest = hashlib.sha256()
    for folder in _SOURCES:
        for path in sorted((_ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
