"""Marian's Transformer as ours: which options have a counterpart, and where each parameter has its place."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from export.errors import ReadingError
from export.readers.marian_options import MarianOptions
from export.readers.reading import Weights
from training.errors import ModelError
from training.models.transformer import TransformerSettings

_POSITIONS = 1024  # of sinusoids, which are not stored
_ACTIVATIONS = {"relu": "relu", "swish": "silu"}
_AUTOREGRESSION = {"self-attention": "attention", "rnn": "ssru"}
# Options of the function that may have any value: they are read below, or concern training or other kinds of models.
_READ = re.compile(
    r"transformer-(heads|dim-ffn|ffn-depth|ffn-activation|decoder-dim-ffn|decoder-ffn-depth|decoder-autoreg|tied-layers"
    r"|guided-alignment-layer|preprocess|postprocess(-emb|-top)?|depth-scaling|dropout.*|aan-.*|dim-aan)"
)
# MarianOptions that must not be set, beside all others of transformers.
_UNSET = (
    "layer-normalization",
    "right-left",
    "ulr",
    "lemma-dim-emb",
    "lemma-dependency",
    "factors-dim-emb",
    "input-types",
    "special-vocab",
)
_PRE_NORM_SINCE = (1, 12)  # before, the keys and values of a layer's self-attention were not normalised


def read_settings(options: MarianOptions) -> TransformerSettings:
    """Find the sizes and variants.

    Raises:
        ReadingError: There is no counterpart; lists every reason.
    """
    reasons = _unlike(options)
    norm, embedding_norm = _norms(options, reasons)
    activation = options.text("transformer-ffn-activation", "swish")
    autoregression = options.text("transformer-decoder-autoreg", "self-attention")
    if activation not in _ACTIVATIONS:
        reasons.append(f"transformer-ffn-activation is {activation}, which versions of Marian compute differently")
    if autoregression not in _AUTOREGRESSION:
        reasons.append(f"transformer-decoder-autoreg is {autoregression}, not one of {', '.join(_AUTOREGRESSION)}")
    if autoregression == "rnn" and (cell := options.text("dec-cell")) != "ssru":
        reasons.append(f"dec-cell is {cell}, only ssru can be represented")
    if reasons:
        raise ReadingError(reasons)
    try:
        return TransformerSettings(
            dim=options.whole("dim-emb"),
            heads=options.whole("transformer-heads"),
            feedforward_dim=options.whole("transformer-dim-ffn"),
            encoder_layers=options.whole("enc-depth"),
            decoder_layers=options.whole("dec-depth"),
            decoder_autoregression=_AUTOREGRESSION[autoregression],  # type: ignore[arg-type]
            norm=norm,  # type: ignore[arg-type]
            norm_epsilon=1e-6,
            activation=_ACTIVATIONS[activation],  # type: ignore[arg-type]
            positions="tensor2tensor",
            max_positions=_POSITIONS,
            embedding_norm=embedding_norm,
            tie="none",
            output_bias=True,
            dropout=0.0,
        )
    except (ModelError, ZeroDivisionError) as error:
        raise ReadingError([str(error)]) from error


def _unlike(options: MarianOptions) -> list[str]:
    """Collect reasons why this is another function."""
    reasons = []
    if (kind := options.text("type")) != "transformer":
        reasons.append(f"its type is {kind or 'not said'}, not transformer")
    names = (
        *_UNSET,
        *(name for name in options.values if name.startswith("transformer-") and not _READ.fullmatch(name)),
    )
    reasons += [f"{name} is set" for name in names if options.is_set(name)]
    if (depth := options.whole("transformer-ffn-depth", 2)) != 2:
        reasons.append(f"transformer-ffn-depth is {depth}, only 2 can be represented")
    for name, usual in (("dim-ffn", options.whole("transformer-dim-ffn", 0)), ("ffn-depth", 2)):
        full = f"transformer-decoder-{name}"
        if (own := options.whole(full, 0)) not in (0, usual):
            reasons.append(f"{full} is {own}, it must be {usual} as the encoder's")
    if (dim := options.whole("dim-emb")) < 2 or dim % 2:
        reasons.append(f"dim-emb is {dim}, an even number is needed")
    for name in ("enc-depth", "dec-depth"):
        if not 0 < options.whole(name) <= 1000:
            reasons.append(f"{name} is {options.whole(name)}")
    return reasons


def _norms(options: MarianOptions, reasons: list[str]) -> tuple[str, bool]:
    """Find where is normalised, a letter each: d for dropout, a for the residual sum, n for LayerNorm."""
    names = ("preprocess", "postprocess", "postprocess-top", "postprocess-emb")
    given = [options.text(f"transformer-{name}") for name in names]
    before, after, top, embedding = (letters.replace("d", "") for letters in given)
    norm = {("", "an", ""): "post", ("n", "a", "n"): "pre"}.get((before, after, top))
    if norm is None or embedding not in ("", "n"):
        found = ", ".join(f"{name} {letters!r}" for name, letters in zip(names, given, strict=True))
        reasons.append(f"the order of norms and sums ({found}) is neither that of post-norm nor of pre-norm")
    version = re.match(r"v?(\d+)\.(\d+)", options.text("version"))
    if norm == "pre" and (version is None or (int(version[1]), int(version[2])) < _PRE_NORM_SINCE):
        reasons.append("it is a pre-norm model of a version before 1.12, whose self-attention is another")
    return norm or "post", embedding == "n"


def renamed(weights: Weights, settings: TransformerSettings, options: MarianOptions) -> Weights:
    """Give the weights our names.

    Raises:
        ReadingError: The embeddings or layers have no counterpart, or something is left over; lists every reason.
    """
    rest = _Rest({name.removeprefix("F0::"): weight for name, weight in weights.items()}, set())
    found = _embeddings(rest, settings, options)
    pre = settings.norm == "pre"
    for coder, side in (("encoder", "source"), ("decoder", "target")):
        if settings.embedding_norm:
            found |= rest.norm(f"{coder}_emb", f"{side}_embedding_norm", before=True)
        if pre:
            found |= rest.norm(f"{coder}_top", f"{coder}_norm")
    for number in range(settings.encoder_layers):
        theirs, ours = f"encoder_l{number + 1}", f"encoder_layers.{number}"
        found |= rest.attention(f"{theirs}_self", f"{ours}.self_attention")
        found |= rest.norm(f"{theirs}_self_Wo", f"{ours}.self_residual.norm", before=pre)
        found |= rest.feed_forward(f"{theirs}_ffn", ours, pre=pre)
    for number, shared in enumerate(_tied_layers(options, settings.decoder_layers)):
        theirs, ours = f"decoder_l{shared}", f"decoder_layers.{number}"
        if settings.decoder_autoregression == "ssru":
            found |= rest.linear(f"{theirs}_rnn", "", f"{ours}.ssru.value")
            found |= rest.linear(f"{theirs}_rnn", "f", f"{ours}.ssru.forget")
            found |= rest.norm(f"{theirs}_rnn{'' if pre else '_ffn'}", f"{ours}.self_residual.norm", before=pre)
        else:
            found |= rest.attention(f"{theirs}_self", f"{ours}.self_attention")
            found |= rest.norm(f"{theirs}_self_Wo", f"{ours}.self_residual.norm", before=pre)
        found |= rest.attention(f"{theirs}_context", f"{ours}.cross_attention")
        found |= rest.norm(f"{theirs}_context_Wo", f"{ours}.cross_residual.norm", before=pre)
        found |= rest.feed_forward(f"{theirs}_ffn", ours, pre=pre)
    rest.refuse_what_is_left()
    return found


def _tied_layers(options: MarianOptions, depth: int) -> list[int]:
    """Return the number of the layer that holds each decoder layer's weights, from 1."""
    tied = options.texts("transformer-tied-layers")
    if not tied:
        return list(range(1, depth + 1))
    if len(tied) != depth or not all(number.isdecimal() for number in tied):
        raise ReadingError([f"transformer-tied-layers has {len(tied)} entries, which {depth} layers do not fit"])
    return [int(number) for number in tied]


def _embeddings(rest: _Rest, settings: TransformerSettings, options: MarianOptions) -> Weights:
    """Take both embeddings and the projection, some of which may be one.

    Raises:
        ReadingError: One of them is missing, or not a matrix.
    """
    everything, sources, target = (options.flag(f"tied-embeddings{suffix}") for suffix in ("-all", "-src", ""))
    shared = everything or sources
    names = {
        "source_embedding.weight": "Wemb" if shared else "encoder_Wemb",
        "target_embedding.weight": "Wemb" if shared else "decoder_Wemb",
    }
    output = "decoder_ff_logit_out"
    tied = everything or target
    names["vocab_projection.weight"] = names["target_embedding.weight"] if tied else f"{output}_Wt"
    found: Weights = {}
    for own, name in names.items():
        weight = rest.taken(name)
        if weight is None and name == f"{output}_Wt" and (turned := rest.taken(f"{output}_W")) is not None:
            weight = turned.t() if turned.ndim == 2 else turned  # of older versions
        if weight is None or weight.ndim != 2:
            raise ReadingError([f"there is no matrix {name}"])
        found[own] = weight
    bias = None if options.flag("output-omit-bias") else rest.taken(f"{output}_b")
    if bias is None and not options.flag("output-omit-bias"):
        raise ReadingError([f"there is no weight {output}_b"])
    found["vocab_projection.bias"] = torch.zeros(len(found["vocab_projection.weight"])) if bias is None else bias
    return found


@dataclass(frozen=True)
class _Rest:
    """Weights of a file, and which of them have found a place; several layers may share one."""

    weights: Weights
    placed: set[str]

    def taken(self, name: str) -> Tensor | None:
        self.placed.add(name)
        return self.weights.get(name)

    def linear(self, theirs: str, suffix: str, ours: str) -> Weights:
        """Take a matrix, of inputs times outputs, and its bias, if it has one."""
        weight, bias = self.taken(f"{theirs}_W{suffix}"), self.taken(f"{theirs}_b{suffix}")
        found = {} if weight is None else {f"{ours}.weight": weight.t() if weight.ndim == 2 else weight}
        return found if bias is None else {**found, f"{ours}.bias": bias}

    def norm(self, theirs: str, ours: str, *, before: bool = False) -> Weights:
        suffix = "_pre" if before else ""
        pairs = (("weight", f"{theirs}_ln_scale{suffix}"), ("bias", f"{theirs}_ln_bias{suffix}"))
        return {f"{ours}.{own}": weight for own, name in pairs if (weight := self.taken(name)) is not None}

    def attention(self, theirs: str, ours: str) -> Weights:
        found = self.linear(theirs, "q", f"{ours}.query") | self.linear(theirs, "o", f"{ours}.output")
        keys, values = self.linear(theirs, "k", "one"), self.linear(theirs, "v", "one")
        for name in keys.keys() & values.keys():
            if keys[name].shape != values[name].shape:
                raise ReadingError([f"keys and values of {theirs} have different shapes"])
            found[f"{ours}.key_value.{name.removeprefix('one.')}"] = torch.cat([keys[name], values[name]])
        return found

    def feed_forward(self, theirs: str, ours: str, *, pre: bool) -> Weights:
        found = self.linear(theirs, "1", f"{ours}.feed_forward.expand")
        found |= self.linear(theirs, "2", f"{ours}.feed_forward.contract")
        return found | self.norm(f"{theirs}_ffn", f"{ours}.feed_forward_residual.norm", before=pre)

    def refuse_what_is_left(self) -> None:
        """Refuse weights that nothing took, but for ranges of 8-bit activations, which are measured anew."""
        left = sorted(name for name in self.weights.keys() - self.placed if not name.endswith("_QuantMultA"))
        if left:
            raise ReadingError([f"weight {name} has no counterpart" for name in left])
