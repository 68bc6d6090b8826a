"""The same weights as a CTranslate2 model, so that both engines compute the same function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import TransformerSpec
from ctranslate2.specs.common_spec import Activation

from loadtests.offline.bundle_weights import Weights, read_weights
from serving.bundle.bundle import load_bundle
from serving.bundle.shortlist import Shortlist

_ACTIVATIONS = {"relu": Activation.RELU, "gelu": Activation.GELU, "silu": Activation.SWISH}
# Settings that cannot be converted unless they have this value.
_PLAIN = {
    "normalization": "layer",
    "norm_epsilon": 1e-5,
    "decoder_autoregression": "attention",
    "decoder_kv_heads": 0,
}


class ConversionError(Exception):
    """The bundle has no counterpart in CTranslate2 that computes the same."""


def convert(bundle: Path, out: Path) -> None:
    """Write a bundle's weights, as its fp32 graphs hold them, as a CTranslate2 model in float32.

    The compute type is chosen where the model is loaded. Its tokens are the bundle's token ids, written in decimal.

    Raises:
        ConversionError: CTranslate2 cannot compute what this model does.
        StartupError: The bundle is damaged.
    """
    loaded = load_bundle(bundle)
    manifest = loaded.manifest
    sizes = _checked_sizes(manifest.architecture.family, manifest.architecture.sizes)
    spec = transformer_spec(read_weights(loaded), sizes)
    ids = manifest.special_ids
    spec.register_source_vocabulary(_tokens(spec.encoder.embeddings[0].weight))
    spec.register_target_vocabulary(_tokens(spec.decoder.embeddings.weight))
    spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = str(ids.unk), str(ids.bos), str(ids.eos)
    spec.config.decoder_start_token = str(ids.decoder_start)
    spec.validate()
    out.mkdir(parents=True)
    spec.save(str(out))
    lexicons = {precision.shortlist for precision in manifest.precisions.values()} - {None}
    for lexicon in lexicons:
        write_vocabulary_map(Shortlist.load(loaded.path(str(lexicon))), out / "vmap.txt")


def write_vocabulary_map(shortlist: Shortlist, path: Path) -> None:
    """Write a lexicon as CTranslate2 reads it: a source token, a tab, target tokens; the empty source always applies.

    ``translate_batch`` uses it with ``use_vmap``, for all sentences of a batch together.
    """
    rows = (f"{token}\t{' '.join(map(str, sorted(set(row))))}\n" for token, row in enumerate(shortlist.best.tolist()))
    with path.open("w", encoding="utf-8") as file:
        file.write(f"\t{' '.join(map(str, shortlist.always.tolist()))}\n")
        file.writelines(rows)


def _tokens(embeddings: Any) -> list[str]:
    return [str(number) for number in range(len(embeddings))]


def _checked_sizes(family: str, sizes: Mapping[str, Any]) -> Mapping[str, Any]:
    if family != "transformer":
        raise ConversionError(f"the bundle is of family {family}: only a transformer can be compared with CTranslate2")
    unlike = {name: sizes[name] for name, plain in _PLAIN.items() if sizes.get(name, plain) != plain}
    if sizes["activation"] not in _ACTIVATIONS:
        unlike["activation"] = sizes["activation"]
    if sizes["positions"] == "rotary":
        unlike["positions"] = "rotary"
    if unlike:
        found = ", ".join(f"{name} {value}" for name, value in unlike.items())
        raise ConversionError(f"the model has {found}, which is not converted: compare a model without")
    return sizes


def transformer_spec(weights: Weights, sizes: Mapping[str, Any]) -> Any:
    """Build CTranslate2's description of a model with the manifest's architecture sizes, without its vocabularies."""
    pre_norm = sizes["norm"] == "pre"
    spec = TransformerSpec.from_config(
        (int(sizes["encoder_layers"]), int(sizes["decoder_layers"])),
        int(sizes["heads"]),
        pre_norm=pre_norm,
        activation=_ACTIVATIONS[str(sizes["activation"])],
        layernorm_embedding=bool(sizes["embedding_norm"]),
    )
    spec.config.layer_norm_epsilon = 1e-5  # torch's
    offset = int(sizes["position_offset"])
    for side, coder in (("source", spec.encoder), ("target", spec.decoder)):
        embeddings = coder.embeddings[0] if side == "source" else coder.embeddings
        embeddings.weight = _embedding(weights, side, str(sizes["tie"]))
        coder.scale_embeddings = bool(sizes["scale_embedding"])
        coder.position_encodings.encodings = weights[f"{side}_positions.weight"][offset:]
        if sizes["embedding_norm"]:
            _norm(weights, f"{side}_embedding_norm", coder.layernorm_embedding)
    for number, layer in enumerate(spec.encoder.layer):
        _self_attention(weights, f"encoder_layers.{number}", layer.self_attention)
        _feed_forward(weights, f"encoder_layers.{number}", layer.ffn)
    for number, layer in enumerate(spec.decoder.layer):
        name = f"decoder_layers.{number}"
        _self_attention(weights, name, layer.self_attention)
        for part, linear in zip(("query", "key_value", "output"), layer.attention.linear, strict=True):
            _linear(weights, (f"{name}.cross_attention.{part}",), linear)
        _norm(weights, f"{name}.cross_residual.norm", layer.attention.layer_norm)
        _feed_forward(weights, name, layer.ffn)
    if pre_norm:
        _norm(weights, "encoder_norm", spec.encoder.layer_norm)
        _norm(weights, "decoder_norm", spec.decoder.layer_norm)
    spec.decoder.projection.weight = _projection(weights, str(sizes["tie"]))
    if "vocab_projection.bias" in weights:
        spec.decoder.projection.bias = weights["vocab_projection.bias"]
    return spec


def _embedding(weights: Weights, side: str, tie: str) -> Any:
    """Return an embedding; a matrix that several layers share is in the graphs under the name of one of them."""
    shared = {"all": ("source_embedding", "target_embedding", "vocab_projection"), "none": ()}
    names = (f"{side}_embedding", *(shared.get(tie, ("target_embedding", "vocab_projection"))))
    return next(weights[f"{name}.weight"] for name in names if f"{name}.weight" in weights)


def _projection(weights: Weights, tie: str) -> Any:
    return weights["vocab_projection.weight"] if tie == "none" else _embedding(weights, "target", tie)


def _self_attention(weights: Weights, layer: str, spec: Any) -> None:
    _linear(weights, (f"{layer}.self_attention.query", f"{layer}.self_attention.key_value"), spec.linear[0])
    _linear(weights, (f"{layer}.self_attention.output",), spec.linear[1])
    _norm(weights, f"{layer}.self_residual.norm", spec.layer_norm)


def _feed_forward(weights: Weights, layer: str, spec: Any) -> None:
    _linear(weights, (f"{layer}.feed_forward.expand",), spec.linear_0)
    _linear(weights, (f"{layer}.feed_forward.contract",), spec.linear_1)
    _norm(weights, f"{layer}.feed_forward_residual.norm", spec.layer_norm)


def _linear(weights: Weights, names: Sequence[str], spec: Any) -> None:
    """Fuse layers that read the same input."""
    spec.weight = np.concatenate([weights[f"{name}.weight"] for name in names])
    if f"{names[0]}.bias" in weights:
        spec.bias = np.concatenate([weights[f"{name}.bias"] for name in names])


def _norm(weights: Weights, name: str, spec: Any) -> None:
    spec.gamma = weights[f"{name}.weight"]
    spec.beta = weights.get(f"{name}.bias", np.zeros_like(spec.gamma))
