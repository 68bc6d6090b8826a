"""Marian models as Hugging Face keeps them (``MarianMTModel``, such as OPUS-MT's): a directory of JSON and weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from export.errors import ReadingError
from export.readers.reading import Weights, assemble, pieces_file, read_bytes, read_object, tied, with_filler
from export.readers.weight_files import read_weights
from export.trained_model import TrainedModel
from serving.bundle.manifest import DecodingDefaults, SearchConventions, Tokenizer
from serving.messages import EarlyStopping
from training.errors import ModelError
from training.models.contract import Vocabulary
from training.models.positions import sinusoidal_table
from training.models.transformer import TransformerSettings

_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "swish": "silu", "silu": "silu"}
# What the model's code or its search would have to do differently; absent keys have these values.
_MODEL_NEEDS = {
    "is_encoder_decoder": True,
    "is_decoder": False,
    "normalize_before": False,
    "normalize_embedding": False,
    "add_final_layer_norm": False,
    "static_position_embeddings": True,
}
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
_SHARED, _OUTPUT = "model.shared.weight", "lm_head.weight"
_ENCODER, _DECODER = (f"model.{coder}.embed_tokens.weight" for coder in ("encoder", "decoder"))
_POSITIONS = tuple(f"model.{coder}.embed_positions.weight" for coder in ("encoder", "decoder"))


def recognises(source: Path) -> bool:
    """Return whether this is a directory with such a model's configuration."""
    config = source / "config.json"
    return config.is_file() and (source / "source.spm").is_file() and read_object(config).get("model_type") == "marian"


def languages(source: Path) -> tuple[str, str] | None:
    """Return source and target language, if the tokenizer's configuration has both."""
    path = source / "tokenizer_config.json"
    config = read_object(path) if path.is_file() else {}
    pair = config.get("source_lang"), config.get("target_lang")
    return (str(pair[0]), str(pair[1])) if all(pair) else None


def read(source: Path, languages: tuple[str, str]) -> TrainedModel:
    """Read the directory.

    Raises:
        ReadingError: It is damaged, or the model cannot be represented exactly; lists every reason.
    """
    config = read_object(source / "config.json")
    path = source / "generation_config.json"
    generation = read_object(path) if path.is_file() else config
    _check(config, generation)
    settings = _settings(config)
    weights = _renamed(read_weights(source), settings, config)
    vocabulary, files = _vocabulary(source, config, generation)
    banned = vocabulary.suppressed
    if generation.get("renormalize_logits"):  # as if the banned tokens had not been there
        weights["vocab_projection.bias"][list(banned)] = -torch.inf
    if vocabulary.pad not in banned:
        vocabulary, weights = with_filler(vocabulary, weights, banned)
    settings = tied(settings, vocabulary, weights)
    shared = vocabulary.shared
    tokenizer = Tokenizer(
        source="source.spm",
        target="target.spm",
        source_vocabulary="source.pieces.json",
        target_vocabulary="source.pieces.json" if shared else "target.pieces.json",
    )
    contents = {
        f"{side}.pieces.json": pieces_file(_spellings(files[side], size), files[side]["<unk>"])
        for side, size in (("source", vocabulary.source_size), ("target", vocabulary.target_size))
        if side in files
    }
    for side in ("source", "target"):
        contents[f"{side}.spm"] = read_bytes(source / f"{side}.spm")
    model = assemble(settings, vocabulary, weights)
    defaults, search = _defaults(generation), _search(generation)
    return TrainedModel(model, settings, languages, tokenizer, contents, defaults=defaults, search=search)


def _check(config: dict[str, Any], generation: dict[str, Any]) -> None:
    """Collect every reason why this is another function or another search.

    Raises:
        ReadingError: There is one.
    """
    reasons = [
        f"{key} is {config[key]}, only {needed} can be represented"
        for key, needed in _MODEL_NEEDS.items()
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
    if (forced := generation.get("forced_eos_token_id")) not in (None, eos := config.get("eos_token_id")):
        reasons.append(f"forced_eos_token_id is {forced} and eos_token_id {eos}, they must be equal")
    if str(generation.get("early_stopping")) not in _STOPPING:
        reasons.append(f"early_stopping is {generation['early_stopping']}, not one of true, false and never")
    numbers = ("d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "encoder_ffn_dim")
    for key in (*numbers, "vocab_size", "max_position_embeddings", "pad_token_id", "decoder_start_token_id"):
        if not isinstance(config.get(key), int) or config[key] < 0:
            reasons.append(f"{key} is {config.get(key)}, not a number")
    for key in ("pad_token_id", "decoder_start_token_id", "eos_token_id"):
        if key in generation and key in config and generation[key] != config[key]:
            reasons.append(f"{key} is {config[key]} in config.json and {generation[key]} in generation_config.json")
    if reasons:
        raise ReadingError(reasons)


def _settings(config: dict[str, Any]) -> TransformerSettings:
    try:
        return TransformerSettings(
            dim=config["d_model"],
            heads=config["encoder_attention_heads"],
            feedforward_dim=config["encoder_ffn_dim"],
            encoder_layers=config["encoder_layers"],
            decoder_layers=config["decoder_layers"],
            norm="post",
            activation=_ACTIVATIONS[config["activation_function"]],  # type: ignore[arg-type]
            max_positions=config["max_position_embeddings"],
            scale_embedding=bool(config.get("scale_embedding", False)),
            tie="none",
            output_bias=True,
            dropout=0.0,
        )
    except (ModelError, ZeroDivisionError) as error:
        raise ReadingError([str(error)]) from error


def _renamed(weights: Weights, settings: TransformerSettings, config: dict[str, Any]) -> Weights:
    """Give the weights our names; what has no counterpart keeps its own, to be refused later."""
    rest = dict(weights)
    positions = [rest.pop(name) for name in _POSITIONS if name in rest]
    table = sinusoidal_table(settings.max_positions, settings.dim)
    if any(given.shape != table.shape or not torch.allclose(given, table, atol=1e-4) for given in positions):
        raise ReadingError(["embed_positions are not the sinusoids of the paper"])
    shared, tied_output = (config.get(key, True) for key in ("share_encoder_decoder_embeddings", "tie_word_embeddings"))
    tables = _embeddings(rest, shared, tied_output)
    bias = rest.pop("final_logits_bias", None)
    tables["vocab_projection.bias"] = (
        torch.zeros(len(tables["vocab_projection.weight"])) if bias is None else bias.flatten().clone()
    )
    for coder, depth in (("encoder", settings.encoder_layers), ("decoder", settings.decoder_layers)):
        for number in range(depth):
            theirs, ours = f"model.{coder}.layers.{number}", f"{coder}_layers.{number}"
            tables |= dict(_layer(rest, theirs, ours))
    return tables | rest


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


def _vocabulary(
    source: Path, config: dict[str, Any], generation: dict[str, Any]
) -> tuple[Vocabulary, dict[str, dict[str, int]]]:
    """Read the tables of pieces, and which ids mean something.

    Returns:
        The vocabulary, and the tables by side; a shared one is the source's.

    Raises:
        ReadingError: The tables do not fit the model, or say what cannot be represented; lists every reason.
    """
    path = source / "tokenizer_config.json"
    separate = bool((read_object(path) if path.is_file() else {}).get("separate_vocabs", False))
    files = {"source": read_object(source / "vocab.json")}
    if separate:
        files["target"] = read_object(source / "target_vocab.json")
    shared = bool(config.get("share_encoder_decoder_embeddings", True))
    source_size = config["vocab_size"]
    target_size = source_size if shared else config.get("decoder_vocab_size") or source_size
    eos: Any
    eos, sizes = config.get("eos_token_id"), {"source": source_size, "target": target_size}
    eos = eos[0] if isinstance(eos, list) and len(eos) == 1 else eos
    words = {words[0] for words in generation.get("bad_words_ids") or []} - {eos}  # as the library reads them
    banned = words | set(generation.get("suppress_tokens") or [])
    special = {config["pad_token_id"], config["decoder_start_token_id"], eos, *banned}
    reasons = []
    for side, table in files.items():
        size = sizes[side] if separate else min(sizes.values())
        if not all(isinstance(number, int) and 0 <= number < size for number in table.values()):
            reasons.append(f"the {side} vocabulary has ids that are not from 0 to {size - 1}")
        if table.get("</s>") != eos:
            reasons.append(f"'</s>' is {table.get('</s>')} in the {side} vocabulary, but eos_token_id is {eos}")
        if "<unk>" not in table:
            reasons.append(f"there is no '<unk>' in the {side} vocabulary")
        if targets := [piece for piece in table if piece.startswith(">>") and piece.endswith("<<")]:
            reasons.append(f"it translates into {len(targets)} languages ({', '.join(targets[:3])}, …), not into one")
    if not all(isinstance(number, int) and 0 <= number < target_size for number in special):
        reasons.append(f"a special token id is not from 0 to {target_size - 1}")
    if eos in banned:
        reasons.append("the end token may not be generated")
    if reasons:
        raise ReadingError(reasons)
    start, unk = config["decoder_start_token_id"], files.get("target", files["source"])["<unk>"]
    vocabulary = Vocabulary(
        source_size,
        target_size,
        pad=config["pad_token_id"],
        eos=eos,
        decoder_start=start,
        unk=unk,
        bos=None,
        shared=not separate,
        banned=tuple(sorted(banned)),
    )
    return vocabulary, files


def _spellings(table: dict[str, int], size: int) -> list[str | None]:
    spellings: list[str | None] = [None] * size
    for piece, number in table.items():
        spellings[number] = piece
    return spellings


def _defaults(generation: dict[str, Any]) -> DecodingDefaults:
    """Read the values of options.

    Raises:
        ReadingError: They are out of bounds; lists every one.
    """
    shortest, penalty = generation.get("min_new_tokens"), generation.get("length_penalty")
    try:
        return DecodingDefaults(
            beam_size=generation.get("num_beams") or 1,
            length_penalty=1.0 if penalty is None else penalty,
            early_stopping=_STOPPING[str(generation.get("early_stopping"))],
            # The one counts the start token too, the other does not.
            min_length=max((generation.get("min_length") or 0) - 1, 0) if shortest is None else shortest,
            no_repeat_ngram_size=generation.get("no_repeat_ngram_size") or 0,
        )
    except ValidationError as error:
        reasons = [f"{problem['loc'][0]} is {problem['input']}: {problem['msg']}" for problem in error.errors()]
        raise ReadingError(reasons) from error


def _search(generation: dict[str, Any]) -> SearchConventions:
    return SearchConventions(
        renormalize=bool(generation.get("renormalize_logits")),
        ends_at_limit=generation.get("forced_eos_token_id") is not None,
        ranked_at_limit=True,
        prefix_scored=False,
        prefix_counted=False,
    )
