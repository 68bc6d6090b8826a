"""Small models with random weights, exported once for the whole test run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from export.calibration import Inputs
from export.graphs import export_graphs
from export.passes.shortlist import SHORTLIST_FILE
from export.passes.weights import int8_weights, store_shared
from export.precisions import PrecisionName, declared, precision_graphs
from serving.bundle.manifest import (
    Architecture,
    Languages,
    Limits,
    Manifest,
    SpecialIds,
    Tokenizer,
)
from serving.bundle.shortlist import Shortlist
from serving.runtime.onnx_runner import OnnxRunner
from serving.runtime.session import open_session
from training.models.contract import TranslationModel, Vocabulary
from training.models.decoder_only import DecoderOnly, DecoderOnlySettings
from training.models.rnn import Rnn, RnnSettings
from training.models.transformer import Transformer, TransformerSettings

VOCABULARY = Vocabulary(source_size=40, target_size=40)
# Options that the reference search has none for by name.
NOT_OF_REFERENCE = ("sampling", "search", "terms", "enough", "beside", "groups", "diversity_penalty")

SMALL = RnnSettings(embedding_dim=16, hidden_dim=24, attention_dim=20)
RECURRENT = {
    "lstm-bahdanau": replace(SMALL, encoder_layers=2, decoder_layers=2),
    "gru-bahdanau-local": replace(SMALL, cell="gru", span="local_p", window=2),
    "rnn-luong-dot": replace(SMALL, cell="rnn", attention="luong_dot", bidirectional=False, bridge="copy"),
    "gru-luong-general": replace(SMALL, cell="gru", attention="luong_general", input_feeding=False),
    "lstm-luong-concat-local": replace(SMALL, attention="luong_concat", span="local_p", window=3, decoder_layers=2),
    # Sutskever et al. 2014, and Cho et al. 2014.
    "lstm-no-context": replace(
        SMALL,
        attention="none",
        input_feeding=False,
        bidirectional=False,
        encoder_layers=2,
        decoder_layers=2,
        bridge="copy",
    ),
    "gru-fixed-context": replace(SMALL, cell="gru", attention="context", bidirectional=False),
}

MODELS: dict[str, Callable[[], TranslationModel[Any]]] = {
    "transformer-pre-norm": lambda: Transformer(
        TransformerSettings(dim=32, heads=4, feedforward_dim=48, encoder_layers=2, decoder_layers=2), VOCABULARY
    ),
    "transformer-modern": lambda: Transformer(
        TransformerSettings(
            dim=32,
            heads=4,
            feedforward_dim=48,
            encoder_layers=3,
            decoder_layers=2,
            normalization="rms",
            activation="swiglu",
            positions="rotary",
            bias=False,
            decoder_kv_heads=2,
        ),
        VOCABULARY,
    ),
    "transformer-ssru": lambda: Transformer(
        TransformerSettings(
            dim=32,
            heads=4,
            feedforward_dim=48,
            encoder_layers=2,
            decoder_layers=2,
            norm="post",
            norm_epsilon=1e-6,
            decoder_autoregression="ssru",
        ),
        VOCABULARY,
    ),
    "decoder-only": lambda: DecoderOnly(
        DecoderOnlySettings(dim=32, heads=4, feedforward_dim=48, layers=3, positions="rotary", kv_heads=2), VOCABULARY
    ),
    "decoder-only-causal": lambda: DecoderOnly(
        DecoderOnlySettings(dim=32, heads=4, feedforward_dim=48, layers=2, prefix="causal", positions="learned"),
        VOCABULARY,
    ),
    # A Marian or BART-like model: post-norm, learned positions with an offset, embedding norm, pad as start token.
    "transformer-post-norm": lambda: Transformer(
        TransformerSettings(
            dim=32,
            heads=2,
            feedforward_dim=48,
            encoder_layers=1,
            decoder_layers=3,
            norm="post",
            activation="gelu",
            positions="learned",
            position_offset=2,
            scale_embedding=False,
            embedding_norm=True,
            tie="target",
            output_bias=True,
        ),
        Vocabulary(source_size=30, target_size=40, decoder_start=0, shared=False),
    ),
    **{name: lambda settings=settings: Rnn(settings, VOCABULARY) for name, settings in RECURRENT.items()},  # type: ignore[misc]
}


def build(name: str) -> TranslationModel[Any]:
    """A model of fixed random weights, peaked enough that searches end at different lengths and ties do not occur."""
    torch.manual_seed(2)
    model = MODELS[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.3)
        if name in RECURRENT:  # whose outputs are small
            model.get_parameter("output.weight").mul_(6)
    return model


def open_exported(
    model: TranslationModel[Any],
    directory: Path,
    precision: PrecisionName = "fp32",
    inputs: Inputs | None = None,
    shortlist: Shortlist | None = None,
    *,
    renormalize: bool = False,
) -> OnnxRunner:
    """Exports a model and loads it, without the files of a bundle that a search does not need."""
    exported = export_graphs(model, shortlist=shortlist is not None, renormalize=renormalize)
    graphs = precision_graphs(exported, [precision], {}, int8_weights(model), inputs or {})
    store_shared(list(graphs.values()), directory)
    for file, graph in graphs.items():
        ir.save(graph, directory / file)
    vocabulary = model.vocabulary
    manifest = Manifest(
        format_version=3,
        name="random",
        version=1,
        languages=Languages.between("en", "fr"),
        architecture=Architecture(family="random", sizes={}),
        vocabulary_size=vocabulary.target_size,
        special_ids=SpecialIds(
            pad=vocabulary.pad, unk=1, bos=2, eos=vocabulary.eos, decoder_start=vocabulary.decoder_start
        ),
        limits=Limits(max_source_tokens=50, max_target_tokens=50),
        tokenizer=Tokenizer(source="s", target="s"),
        precisions={precision: declared(exported, precision)},
        files=dict.fromkeys(("s", SHORTLIST_FILE, *graphs), "0" * 64),
    )
    encoder, decoder = (open_session(directory / file, device="cpu", threads=1) for file in graphs)
    return OnnxRunner(manifest, precision, encoder, decoder, "cpu", shortlist)
