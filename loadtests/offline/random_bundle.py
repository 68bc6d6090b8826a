"""Bundles of usual shapes with random weights: the same work on every machine, and nothing to download."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from export.bundle import BundleOptions, write_bundle
from export.precisions import DEFAULT_PRECISIONS, PrecisionName
from export.trained_model import TrainedModel
from export.verify import Evidence
from loadtests.offline.cases import words_like_real_ones
from serving.bundle.manifest import Languages, SearchConventions, Tokenizer
from serving.bundle.shortlist import Shortlist
from training.data.words import PATTERN, SPECIAL
from training.models.contract import Vocabulary
from training.models.transformer import Transformer, TransformerSettings

_BASE = TransformerSettings(  # Vaswani et al. (2017), table 3, base
    dim=512, heads=8, feedforward_dim=2048, encoder_layers=6, decoder_layers=6, norm="post", tie="all"
)
# By name, with the size of the vocabulary; the second is what OPUS-MT's models have (Tiedemann and Thottingal 2020).
SHAPES = {"base-random": (_BASE, 32_000), "opus-random": (replace(_BASE, activation="silu", output_bias=True), 58_101)}
_ALWAYS, _BEST = 300, 30  # tokens of the shortlist: for every sentence, and for each source token
_END = Vocabulary(0, 0).eos
_SENTENCES, _TOKENS = 32, 24  # that int8 is calibrated on
_ROOT = Path(__file__).parents[2]
_SOURCES = (
    "export",
    "training/models",
    "serving/bundle",
    "loadtests/offline/random_bundle.py",
    "loadtests/offline/cases.py",
)


def kept_bundle(name: str, cache: Path = _ROOT / ".cache" / "engine") -> Path:
    """Return the directory of one of :data:`SHAPES`; export it first unless ``cache`` has one of this very code."""
    directory = cache / _code_digest() / name / "1"
    if not directory.exists():
        print(f"compare: exporting {name}, once, to {directory}", file=sys.stderr)
        settings, vocabulary_size = SHAPES[name]
        random_bundle(directory.parents[1], name, settings, vocabulary_size, shortlist=True)
    return directory


def random_bundle(
    root: Path,
    name: str,
    settings: TransformerSettings,
    vocabulary_size: int,
    precisions: Sequence[PrecisionName] = DEFAULT_PRECISIONS,
    *,
    shortlist: bool = False,
    search: SearchConventions | None = None,
) -> Path:
    """Write the bundle ``root/NAME/1`` of a model with fixed random weights and, if wanted, a random lexicon.

    ``search`` are the conventions of its users; this project's unless given.
    """
    options = BundleOptions(
        name=name,
        version=1,
        precisions=precisions,
        max_source_tokens=250,
        max_target_tokens=250,
        max_bleu_loss=math.inf,
        shortlist=_random_shortlist(vocabulary_size) if shortlist else None,
    )
    words, generator = _words(vocabulary_size), np.random.default_rng(0)
    rows = generator.integers(0, len(words), size=(_SENTENCES, _TOKENS))
    # Translations by random weights are not worth their length.
    evidence = Evidence([" ".join(words[number] for number in row) for row in rows], [], max_length=4)
    trained = replace(_trained(settings, vocabulary_size), search=search or SearchConventions())
    return write_bundle(trained, root, options, evidence)


def _random_shortlist(vocabulary_size: int) -> Shortlist:
    """Return a lexicon whose lists overlap as real ones do: frequent tokens translate many words."""
    always = np.array([_END, *range(len(SPECIAL), min(_ALWAYS, vocabulary_size))], dtype=np.int32)
    best = words_like_real_ones(np.random.default_rng(1), vocabulary_size, (vocabulary_size, _BEST))
    return Shortlist(always, best.astype(np.int32))


def _trained(settings: TransformerSettings, vocabulary_size: int) -> TrainedModel:
    torch.manual_seed(0)
    model = Transformer(settings, Vocabulary(vocabulary_size, vocabulary_size)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # graphs hold equal tensors once, and then under one name
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
    words = [f"\u2581{word}" for word in _words(vocabulary_size)]
    content = json.dumps({"pattern": PATTERN, "tokens": [*SPECIAL, *words]}).encode()
    file = "source.words.json"
    tokenizer = Tokenizer(kind="words", source=file, target=file)
    return TrainedModel(model, settings, Languages.between("en", "fr"), tokenizer, {file: content})


def _words(vocabulary_size: int) -> list[str]:
    return [f"w{number}" for number in range(vocabulary_size - len(SPECIAL))]


def _code_digest() -> str:
    digest = hashlib.sha256()
    for source in _SOURCES:
        for path in sorted((_ROOT / source).rglob("*.py")) or [_ROOT / source]:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
