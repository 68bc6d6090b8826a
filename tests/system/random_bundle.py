"""A bundle of a tiny model with random weights and the shipped bundle's tokenizer, through the real export."""

from __future__ import annotations

from pathlib import Path

import torch

from export.bundle import BundleOptions, write_bundle
from export.trained_model import TrainedModel
from export.verify import Evidence
from serving.bundle.manifest import Languages, Tokenizer
from tests.shipped import BUNDLE
from training.models.contract import Vocabulary
from training.models.transformer import Transformer, TransformerSettings


def write_random_bundle(models: Path) -> Path:
    """Writes ``random/1``, whose translations are up to 12 tokens of gibberish."""
    torch.manual_seed(3)
    settings = TransformerSettings(dim=16, heads=2, feedforward_dim=16, encoder_layers=1, decoder_layers=1)
    model = Transformer(settings, Vocabulary(8000, 8000)).eval()
    files = Tokenizer(source="source.spm", target="source.spm")
    spelling = {"source.spm": (BUNDLE / "source.spm").read_bytes()}
    trained = TrainedModel(model, settings, Languages.between("en", "fr"), files, spelling)
    options = BundleOptions("random", 1, precisions=("fp32",), max_source_tokens=40, max_target_tokens=12)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return write_bundle(trained, models, options, Evidence(["A dog runs in the snow."], [], 8))
    finally:
        torch.set_num_threads(threads)
