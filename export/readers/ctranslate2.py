"""Transformers as CTranslate2 keeps them: a directory of ``model.bin``, vocabularies and ``config.json``."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from export.errors import ReadingError
from export.readers.ctranslate2_file import ModelFile, read_model_file
from export.readers.ctranslate2_tokenizer import SentencePieceModels, TextFiles, tokenizer_of
from export.readers.reading import (
    Weights,
    assemble,
    read_bytes,
    read_json,
    read_object,
    tied,
    with_filler,
)
from export.trained_model import TrainedModel
from serving.bundle.manifest import DecodingDefaults, Languages, SearchConventions
from training.errors import ModelError
from training.models.contract import Vocabulary
from training.models.transformer import TransformerSettings

_HEADS = {"TransformerBase": 8, "TransformerBig": 16}  # of the kinds that do not store it
_ACTIVATIONS = {0: "relu", 2: "silu", 3: "gelu"}
_POSITIONS = 1024  # of sinusoids, which are not stored
_EPSILON = 1e-5
_SENTENCEPIECE = (("source.spm", "target.spm"), ("sentencepiece.model",) * 2, ("spm.model",) * 2)
_NORMS = {
    "self_attention/layer_norm": "self_residual.norm",
    "attention/layer_norm": "cross_residual.norm",
    "ffn/layer_norm": "feed_forward_residual.norm",
}
_LINEARS = {
    "self_attention/linear_1": "self_attention.output",
    "attention/linear_0": "cross_attention.query",
    "attention/linear_1": "cross_attention.key_value",
    "attention/linear_2": "cross_attention.output",
    "ffn/linear_0": "feed_forward.expand",
    "ffn/linear_1": "feed_forward.contract",
}
_FLAGS = ("alibi", "alibi_use_positive_positions", "scale_alibi", "multi_query_attention")
# A translation has a token or more unless asked otherwise.
_DEFAULTS = DecodingDefaults(min_length=1)
_SEARCH = SearchConventions(renormalize=True, ranked_at_limit=True, prefix_scored=False)
# Variables that change nothing here: where alignments come from, and how factors of a source would be merged.
_IGNORED = ("decoder/alignment_layer", "decoder/alignment_heads", "encoder/embeddings_merge")


def recognises(source: Path) -> bool:
    """Return whether this is a directory with such a model."""
    vocabularies = [*source.glob("*_vocabulary.txt"), *source.glob("*_vocabulary.json")]
    return (source / "model.bin").is_file() and bool(vocabularies)


def languages(source: Path) -> Languages | None:
    """Return None: the directory does not say."""
    return None


def read(source: Path, languages: Languages) -> TrainedModel:
    """Read the directory.

    Raises:
        ReadingError: It is damaged, or the model cannot be represented exactly; lists every reason.
    """
    pairs = ((source / one, source / other) for one, other in _SENTENCEPIECE)
    beside = next((SentencePieceModels(*pair) for pair in pairs if all(file.is_file() for file in pair)), None)
    return read_with_texts(source, languages, beside)


def read_with_texts(source: Path, languages: Languages, files: TextFiles | None) -> TrainedModel:
    """Read the directory; files from elsewhere say how texts are cut into the tokens of the vocabularies.

    Raises:
        ReadingError: It is damaged, or the model cannot be represented exactly; lists every reason.
    """
    file = read_model_file(source / "model.bin")
    config = _config(source, file)
    settings = _settings(file)
    weights = _renamed(file, settings)
    tables = _tables(source, str(config["unk_token"]))
    if zero_start := bool(file.taken("decoder/start_from_zero_embedding", 0)):
        config["add_source_eos"] = True  # so do Marian's models, and only the library's callers know it
    _refuse_rest(file)
    vocabulary = _vocabulary(config, tables, weights, zero_start)
    vocabulary, weights = with_filler(vocabulary, weights, ())
    if zero_start:
        vocabulary = replace(vocabulary, decoder_start=vocabulary.pad)
    settings = tied(settings, vocabulary, weights)
    tokenizer, contents = tokenizer_of(tables, vocabulary, str(config["unk_token"]), files)
    # Right behind a prefix, the library puts token 0 in the place of an end token, at a cost of 1e10.
    search = _SEARCH.model_copy(update={"end_after_prefix": "best" if vocabulary.eos else "costly"})
    model = assemble(settings, vocabulary, weights)
    return TrainedModel(model, settings, languages, tokenizer, contents, defaults=_DEFAULTS, search=search)


def _config(source: Path, file: ModelFile) -> dict[str, Any]:
    """Return ``config.json``, or what was among the variables before version 6.

    Raises:
        ReadingError: The model computes what cannot be represented.
    """
    path = source / "config.json"
    config: dict[str, Any] = {
        "add_source_bos": bool(file.taken("with_source_bos", 0)),
        "add_source_eos": bool(file.taken("with_source_eos", 0)),
        "decoder_start_token": "<s>" if file.taken("with_target_bos", 1) else None,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    if path.is_file():
        config |= read_object(path)
    if config.get("layer_norm_epsilon") not in (None, _EPSILON):
        epsilon = config["layer_norm_epsilon"]
        raise ReadingError([f"layer_norm_epsilon is {epsilon}, only {_EPSILON} can be represented"])
    return config


def _settings(file: ModelFile) -> TransformerSettings:
    """Read the sizes; of pairs of encoder and decoder that must agree, both.

    Raises:
        ReadingError: They cannot be represented; lists every reason.
    """
    reasons: list[str] = []

    def both_sides(name: str) -> list[str]:
        return [f"{coder}/{name}" for coder in ("encoder", "decoder")]

    def both(name: str, default: Any) -> Any:
        """Take a scalar of both sides, which older files have once."""
        common = file.taken(name, default)
        encoder, decoder = (file.taken(own, common) for own in both_sides(name))
        if encoder != decoder:
            reasons.append(f"{name} is {encoder} in the encoder and {decoder} in the decoder")
        return encoder

    for name in _IGNORED:
        file.variables.pop(name, None)
    heads, pre_norm = both("num_heads", _HEADS.get(file.spec)), both("pre_norm", 1)
    activation, scale = both("activation", 0), both("scale_embeddings", 1)
    reasons += [f"{name} is set" for flag in _FLAGS for name in both_sides(flag) if file.taken(name, 0)]
    if not file.spec.startswith("Transformer") or heads is None:
        reasons.append(f"it is a {file.spec}, not a Transformer")
    if activation not in _ACTIVATIONS:
        reasons.append(f"its activation is number {activation}, not one of {sorted(_ACTIVATIONS)}")
    weight = file.variables.get("decoder/embeddings/weight")
    feed_forward = file.variables.get("decoder/layer_0/ffn/linear_0/weight")
    if weight is None or feed_forward is None or weight.ndim != 2:
        reasons.append("it has no decoder, or one without layers")
    if reasons or weight is None or feed_forward is None:
        raise ReadingError(reasons)
    dim = weight.shape[1]
    factor = float(scale) if isinstance(scale, float) else (1.0, dim**0.5)[bool(scale)]  # itself, or whether
    if not (factor == 1.0 or math.isclose(factor, dim**0.5, rel_tol=1e-6)):
        raise ReadingError([f"embeddings are multiplied by {factor}, neither by 1 nor by the root of their width"])
    positions = [len(value) for name, value in file.variables.items() if name.endswith("position_encodings/encodings")]
    try:
        return TransformerSettings(
            dim=dim,
            heads=int(heads),
            feedforward_dim=feed_forward.shape[0],
            encoder_layers=_depth(file, "encoder"),
            decoder_layers=_depth(file, "decoder"),
            norm="pre" if pre_norm else "post",
            activation=_ACTIVATIONS[activation],  # type: ignore[arg-type]
            positions="learned",
            max_positions=min(positions, default=_POSITIONS),
            scale_embedding=factor != 1.0,
            embedding_norm="decoder/layernorm_embedding/gamma" in file.variables,
            tie="none",
            output_bias=True,
            dropout=0.0,
        )
    except (ModelError, ZeroDivisionError) as error:
        raise ReadingError([str(error)]) from error


def _depth(file: ModelFile, coder: str) -> int:
    names = [name.split("/")[1] for name in file.variables if name.startswith(f"{coder}/layer_")]
    return len({name for name in names if name.removeprefix("layer_").isdigit()})


def _renamed(file: ModelFile, settings: TransformerSettings) -> Weights:
    """Take the weights out of the variables, under our names and in float32."""
    source = "encoder/embeddings_0" if "encoder/embeddings_0/weight" in file.variables else "encoder/embeddings"
    found = _linear(file, source, "source_embedding") | _linear(file, "decoder/embeddings", "target_embedding")
    found |= _linear(file, "decoder/projection", "vocab_projection")
    for coder, side, depth in (
        ("encoder", "source", settings.encoder_layers),
        ("decoder", "target", settings.decoder_layers),
    ):
        table = file.variables.pop(f"{coder}/position_encodings/encodings", None)
        if table is None:
            table = _sinusoids(settings.max_positions, settings.dim)
        found[f"{side}_positions.weight"] = table[: settings.max_positions].float()
        found |= _norm(file, f"{coder}/layernorm_embedding", f"{side}_embedding_norm")
        found |= _norm(file, f"{coder}/layer_norm", f"{coder}_norm")
        for number in range(depth):
            found |= _layer(file, f"{coder}/layer_{number}", f"{coder}_layers.{number}", settings.dim)
    return found


def _layer(file: ModelFile, theirs: str, ours: str, dim: int) -> Weights:
    found: Weights = {}
    for part, own in _NORMS.items():
        found |= _norm(file, f"{theirs}/{part}", f"{ours}.{own}")
    for part, own in _LINEARS.items():
        found |= _linear(file, f"{theirs}/{part}", f"{ours}.{own}")
    for name, fused in _linear(file, f"{theirs}/self_attention/linear_0", "fused").items():
        kind = name.removeprefix("fused.")
        found[f"{ours}.self_attention.query.{kind}"] = fused[:dim]
        found[f"{ours}.self_attention.key_value.{kind}"] = fused[dim:]
    return found


def _norm(file: ModelFile, theirs: str, ours: str) -> Weights:
    pairs = ((f"{ours}.weight", f"{theirs}/gamma"), (f"{ours}.bias", f"{theirs}/beta"))
    return {own: file.variables.pop(name).float() for own, name in pairs if name in file.variables}


def _linear(file: ModelFile, theirs: str, ours: str) -> Weights:
    """Take a matrix, multiplied out if it is of integers, and its bias."""
    found: Weights = {}
    weight, scale = (file.variables.pop(f"{theirs}/{name}", None) for name in ("weight", "weight_scale"))
    if weight is not None and (weight.is_floating_point() or scale is not None):
        found[f"{ours}.weight"] = weight.float() if scale is None else weight.float() / _column(scale)
    bias = file.variables.pop(f"{theirs}/bias", None)
    if bias is not None:
        found[f"{ours}.bias"] = bias.float()
    return found


def _column(scale: Tensor) -> Tensor:
    return scale.float()[:, None] if scale.ndim == 1 else scale.float()


def _sinusoids(count: int, dim: int) -> Tensor:
    """Positions from 1, sines beside cosines, the slowest rate 1/10000 itself: as OpenNMT-tf's models have them."""
    half = dim // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float64) * (-math.log(10000.0) / max(half - 1, 1)))
    angles = torch.arange(1, count + 1, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def _refuse_rest(file: ModelFile) -> None:
    """Refuse what nothing took.

    Raises:
        ReadingError: There is a variable that has no counterpart; lists all of them.
    """
    if file.variables:
        raise ReadingError([f"variable {name} has no counterpart" for name in sorted(file.variables)])


def _tables(source: Path, unknown: str) -> dict[str, list[str]]:
    """Read the tokens of each side in order of id; a shared vocabulary is the source's and has no target's.

    Raises:
        ReadingError: A vocabulary is missing, or not a list of tokens.
    """
    shared = [*source.glob("shared_vocabulary.*"), *source.glob("vocabulary.*")]
    sides = {"source": shared[0]} if shared else {side: _vocabulary_file(source, side) for side in ("source", "target")}
    tables = {}
    for side, path in sides.items():
        if path.suffix == ".json":
            tokens = read_json(path)
        else:
            tokens = read_bytes(path).decode("utf-8", errors="replace").removesuffix("\n").split("\n")
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise ReadingError([f"{path.name} is not a list of tokens"])
        tables[side] = tokens if unknown in tokens else [*tokens, unknown]
    return tables


def _vocabulary_file(source: Path, side: str) -> Path:
    found = next(iter(sorted(source.glob(f"{side}_vocabulary.*"))), None)
    if found is None:
        raise ReadingError([f"there is no {side} vocabulary"])
    return found


def _vocabulary(config: dict[str, Any], tables: dict[str, list[str]], weights: Weights, zero_start: bool) -> Vocabulary:
    """Find the special tokens.

    Raises:
        ReadingError: A vocabulary does not fit the model, or a special token is missing; lists every reason.
    """
    source, target = tables["source"], tables.get("target", tables["source"])
    reasons = []
    for side, table in (("source", source), ("target", target)):
        rows = len(weights.get(f"{side}_embedding.weight", ()))
        if rows != len(table):
            reasons.append(f"the {side} vocabulary has {len(table)} tokens, the model has {rows}")
    start = config["eos_token"] if zero_start else config["decoder_start_token"]
    named = {"eos_token": (config["eos_token"], target), "decoder_start_token": (start, target)}
    for token, key in (("eos_token", "add_source_eos"), ("bos_token", "add_source_bos")):
        if config[key]:
            named[f"{token} of sources"] = config[token], source
            ids = {table.index(config[token]) for table in (source, target) if config[token] in table}
            if len(ids) > 1:
                reasons.append(f"{token} has another id in sources than in targets")
    reasons += [
        f"{key} is {token!r}, which is not in the vocabulary"
        for key, (token, table) in named.items()
        if token not in table
    ]
    if reasons:
        raise ReadingError(reasons)
    bos, unk = config["bos_token"], config["unk_token"]
    return Vocabulary(
        len(source),
        len(target),
        eos=target.index(config["eos_token"]),
        decoder_start=target.index(start),
        unk=target.index(unk),
        bos=target.index(bos) if bos in target else None,
        shared="target" not in tables,
        source_bos=bool(config["add_source_bos"]),
        source_eos=bool(config["add_source_eos"]),
        banned=(),
    )
