"""What the directories of Hugging Face's translation models have in common: configuration, weights, search defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from export.errors import ReadingError
from export.readers.reading import Weights, read_object
from serving.bundle.manifest import DecodingDefaults, SearchConventions
from serving.messages import EarlyStopping
from training.errors import ModelError
from training.models.transformer import TransformerSettings

_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "swish": "silu", "silu": "silu"}
# What its search would have to do differently; absent keys have the first of these values.
_SEARCH_NEEDS: dict[str, tuple[object, ...]] = {
    "do_sample": (False, None),
    "num_beam_groups": (1, None),
    "diversity_penalty": (0.0, None),
    "repetition_penalty": (1.0, None),
    "encoder_repetition_penalty": (1.0, None),
    "encoder_no_repeat_ngram_size": (0, None),
    "forced_bos_token_id": (None,),
    "begin_suppress_tokens": (None,),
    "exponential_decay_length_penalty": (None,),
    "sequence_bias": (None,),
    "penalty_alpha": (None,),
}
_STOPPING = {  # of ``early_stopping`` as Python spells it
    "None": EarlyStopping.HEURISTIC,
    "False": EarlyStopping.HEURISTIC,
    "True": EarlyStopping.ON,
    "never": EarlyStopping.NEVER,
}
_LAYER_PARTS = {
    "self_attn_layer_norm": "self_residual.norm",
    "encoder_attn_layer_norm": "cross_residual.norm",
    "final_layer_norm": "feed_forward_residual.norm",
    "fc1": "feed_forward.expand",
    "fc2": "feed_forward.contract",
}
_ATTENTIONS = {"self_attn": "self_attention", "encoder_attn": "cross_attention"}
# Norms that are not in a layer: those of the embeddings, and those at the end of models that normalise before.
_NORMS = {
    "model.encoder.layernorm_embedding": "source_embedding_norm",
    "model.decoder.layernorm_embedding": "target_embedding_norm",
    "model.encoder.layer_norm": "encoder_norm",
    "model.decoder.layer_norm": "decoder_norm",
}
_SHARED, _OUTPUT = "model.shared.weight", "lm_head.weight"
_ENCODER, _DECODER = (f"model.{coder}.embed_tokens.weight" for coder in ("encoder", "decoder"))
_NUMBERS = ("d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "vocab_size",
            "max_position_embeddings", "pad_token_id", "decoder_start_token_id")  # fmt: skip


def read_configuration(source: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read ``config.json`` and ``generation_config.json``, in whose place older models have the former alone.

    Raises:
        ReadingError: One is damaged.
    """
    config = read_object(source / "config.json")
    path = source / "generation_config.json"
    return config, read_object(path) if path.is_file() else config


def is_model(source: Path, model_type: str, tokenizer: str) -> bool:
    """Return whether this is a directory with a model of that type, and with that file of its tokenizer."""
    config = source / "config.json"
    there = config.is_file() and (source / tokenizer).is_file()
    return there and read_object(config).get("model_type") == model_type


def check(config: Mapping[str, Any], generation: Mapping[str, Any], needs: Mapping[str, object]) -> None:
    """Collect every reason why this is another function or another search.

    Args:
        config: Of the model.
        generation: Of its search.
        needs: The only values of the configuration that can be represented; absent keys have them.

    Raises:
        ReadingError: There is one.
    """
    reasons = [
        f"{key} is {config[key]}, only {needed} can be represented"
        for key, needed in needs.items()
        if config.get(key, needed) != needed
    ]
    reasons += [
        f"{key} is {generation[key]}, only {needed[0]} can be represented"
        for key, needed in _SEARCH_NEEDS.items()
        if generation.get(key) not in (*needed, None)
    ]
    for sizes in ("attention_heads", "ffn_dim"):
        encoder, decoder = (config.get(f"{coder}_{sizes}") for coder in ("encoder", "decoder"))
        if encoder != decoder:
            reasons.append(f"encoder_{sizes} is {encoder} and decoder_{sizes} {decoder}, they must be equal")
    if (activation := config.get("activation_function")) not in _ACTIVATIONS:
        reasons.append(f"activation_function is {activation}, not one of {', '.join(_ACTIVATIONS)}")
    if any(len(words) != 1 for words in generation.get("bad_words_ids") or []):
        reasons.append("bad_words_ids has a sequence of several tokens")
    if (forced := generation.get("forced_eos_token_id")) not in (None, eos := end_token(config)):
        reasons.append(f"forced_eos_token_id is {forced} and eos_token_id {eos}, they must be equal")
    if str(generation.get("early_stopping")) not in _STOPPING:
        reasons.append(f"early_stopping is {generation['early_stopping']}, not one of true, false and never")
    for key in _NUMBERS:
        if not isinstance(config.get(key), int) or config[key] < 0:
            reasons.append(f"{key} is {config.get(key)}, not a number")
    for key in ("pad_token_id", "decoder_start_token_id", "eos_token_id"):
        if key in generation and key in config and generation[key] != config[key]:
            reasons.append(f"{key} is {config[key]} in config.json and {generation[key]} in generation_config.json")
    if reasons:
        raise ReadingError(reasons)


def settings_of(config: Mapping[str, Any], **variants: Any) -> TransformerSettings:
    """Return the sizes of a configuration that was checked, with the variants of its family.

    Raises:
        ReadingError: The sizes do not fit together.
    """
    try:
        return TransformerSettings(
            dim=config["d_model"],
            heads=config["encoder_attention_heads"],
            feedforward_dim=config["encoder_ffn_dim"],
            encoder_layers=config["encoder_layers"],
            decoder_layers=config["decoder_layers"],
            activation=_ACTIVATIONS[config["activation_function"]],  # type: ignore[arg-type]
            max_positions=config["max_position_embeddings"],
            scale_embedding=bool(config.get("scale_embedding", False)),
            tie="none",
            dropout=0.0,
            **variants,
        )
    except (ModelError, ZeroDivisionError) as error:
        raise ReadingError([str(error)]) from error


def banned_tokens(config: Mapping[str, Any], generation: Mapping[str, Any]) -> set[int]:
    """Return the tokens that are never generated; as the library reads them, the end token is no bad word."""
    words = {words[0] for words in generation.get("bad_words_ids") or []} - {end_token(config)}
    return words | set(generation.get("suppress_tokens") or [])


def end_token(config: Mapping[str, Any]) -> Any:
    """Return the end token, where there is one."""
    eos = config.get("eos_token_id")
    return eos[0] if isinstance(eos, list) and len(eos) == 1 else eos


def defaults_of(generation: Mapping[str, Any], *, forced: int = 0) -> DecodingDefaults:
    """Return what a search does unless it is asked for something else.

    Args:
        generation: Configuration of a search, checked.
        forced: Tokens that a translation begins with by force, such as a language's; its lengths count them.

    Raises:
        ReadingError: Values are out of bounds; lists every one.
    """
    shortest, penalty = generation.get("min_new_tokens"), generation.get("length_penalty")
    if shortest is None:  # the other counts the start token too
        shortest = (generation.get("min_length") or 0) - 1
    try:
        return DecodingDefaults(
            beam_size=generation.get("num_beams") or 1,
            length_penalty=1.0 if penalty is None else penalty,
            early_stopping=_STOPPING[str(generation.get("early_stopping"))],
            min_length=max(shortest - forced, 0),
            no_repeat_ngram_size=generation.get("no_repeat_ngram_size") or 0,
        )
    except ValidationError as error:
        reasons = [f"{problem['loc'][0]} is {problem['input']}: {problem['msg']}" for problem in error.errors()]
        raise ReadingError(reasons) from error


def search_of(generation: Mapping[str, Any]) -> SearchConventions:
    """Return how a search differs where no option says it."""
    return SearchConventions(
        renormalize=bool(generation.get("renormalize_logits")),
        ends_at_limit=generation.get("forced_eos_token_id") is not None,
        ranked_at_limit=True,
        prefix_scored=False,
        prefix_counted=False,
    )


def renamed(weights: Weights, settings: TransformerSettings, config: Mapping[str, Any]) -> Weights:
    """Give the weights our names; what has no counterpart keeps its own, to be refused later.

    Raises:
        ReadingError: An embedding is missing.
    """
    rest = dict(weights)
    shared, tied_output = (config.get(key, True) for key in ("share_encoder_decoder_embeddings", "tie_word_embeddings"))
    found = _embeddings(rest, shared, tied_output)
    bias = rest.pop("final_logits_bias", None)
    if settings.output_bias:
        size = len(found["vocab_projection.weight"])
        found["vocab_projection.bias"] = torch.zeros(size) if bias is None else bias.flatten().clone()
    for theirs, ours in _NORMS.items():
        names = ((f"{theirs}.{kind}", f"{ours}.{kind}") for kind in ("weight", "bias"))
        found |= {own: rest.pop(name) for name, own in names if name in rest}
    for coder, depth in (("encoder", settings.encoder_layers), ("decoder", settings.decoder_layers)):
        for number in range(depth):
            found |= dict(_layer(rest, f"model.{coder}.layers.{number}", f"{coder}_layers.{number}"))
    return found | rest


def _embeddings(rest: Weights, shared: bool, tied_output: bool) -> Weights:
    """Take both embeddings and the projection out of the weights: of tied ones only some names are stored.

    Raises:
        ReadingError: One of them is missing.
    """
    stored = {name: rest.pop(name) for name in (_SHARED, _ENCODER, _DECODER, _OUTPUT) if name in rest}
    one = (_SHARED, _DECODER, _ENCODER, _OUTPUT) if shared else (_DECODER, _OUTPUT)
    names = {
        "source_embedding": one if shared and tied_output else (_ENCODER, _SHARED),
        "target_embedding": one if tied_output else (_DECODER, _SHARED),
        "vocab_projection": one if tied_output else (_OUTPUT,),
    }
    found = {}
    for ours, theirs in names.items():
        name = next((name for name in theirs if name in stored), None)
        if name is None:
            raise ReadingError([f"there is no weight {theirs[0]}"])
        found[f"{ours}.weight"] = stored[name]
    return found


def _layer(rest: Weights, theirs: str, ours: str) -> Iterable[tuple[str, Tensor]]:
    for kind in ("weight", "bias"):
        for part, own in _LAYER_PARTS.items():
            if (weight := rest.pop(f"{theirs}.{part}.{kind}", None)) is not None:
                yield f"{ours}.{own}.{kind}", weight
        for part, own in _ATTENTIONS.items():
            projections = [rest.pop(f"{theirs}.{part}.{one}_proj.{kind}", None) for one in ("q", "out", "k", "v")]
            query, output, key, value = projections
            if query is not None:
                yield f"{ours}.{own}.query.{kind}", query
            if output is not None:
                yield f"{ours}.{own}.output.{kind}", output
            if key is not None and value is not None:
                yield f"{ours}.{own}.key_value.{kind}", torch.cat([key, value])
