"""Marian models as Hugging Face keeps them (``MarianMTModel``, such as OPUS-MT's): a directory of JSON and weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from export.errors import ReadingError
from export.readers import huggingface
from export.readers.languages import by_tag, tag
from export.readers.reading import Weights, assemble, read_bytes, read_object, tied, with_filler
from export.readers.tokenizer_files import pieces_file
from export.readers.weight_files import read_weights
from export.trained_model import TrainedModel
from serving.bundle.manifest import Languages, LanguageTokens, Tokenizer
from training.models.contract import Vocabulary
from training.models.positions import sinusoidal_table
from training.models.transformer import TransformerSettings

# What the model's code would have to do differently; absent keys have these values.
_NEEDS = {
    "is_encoder_decoder": True,
    "is_decoder": False,
    "normalize_before": False,
    "normalize_embedding": False,
    "add_final_layer_norm": False,
    "static_position_embeddings": True,
}
_POSITIONS = tuple(f"model.{coder}.embed_positions.weight" for coder in ("encoder", "decoder"))
_TARGET = re.compile(r">>([A-Za-z_-]+)<<")  # the token of a target language, before the source
_UNDETERMINED = "und"  # as BCP-47 spells it


def recognises(source: Path) -> bool:
    """Return whether this is a directory with such a model's configuration."""
    return huggingface.is_model(source, "marian", "source.spm")


def languages(source: Path) -> Languages | None:
    """Return the languages: those of the tokenizer's configuration; of many targets, those that have tokens.

    Raises:
        ReadingError: The directory is damaged.
    """
    path = source / "tokenizer_config.json"
    config = read_object(path) if path.is_file() else {}
    sources, targets = (str(config.get(f"{side}_lang") or "") for side in ("source", "target"))
    vocabulary = source / "vocab.json"
    table = read_object(vocabulary) if vocabulary.is_file() else {}
    found = ((match[1], number) for piece, number in table.items() if (match := _TARGET.fullmatch(piece)))
    told = {code: number for code, number in found if isinstance(number, int) and number >= 0}
    if told:
        tokens = by_tag({code: LanguageTokens(before_source=(number,)) for code, number in told.items()})
        return Languages(sources=_named(sources or _UNDETERMINED), targets=tokens)
    return Languages(sources=_named(sources), targets=_named(targets)) if sources and targets else None


def _named(codes: str) -> dict[str, LanguageTokens]:
    return {tag(code): LanguageTokens() for code in codes.split("+")}


def read(source: Path, languages: Languages) -> TrainedModel:
    """Read the directory.

    Raises:
        ReadingError: It is damaged, or the model cannot be represented exactly; lists every reason.
    """
    config, generation = huggingface.read_configuration(source)
    huggingface.check(config, generation, _NEEDS)
    settings = huggingface.settings_of(config, norm="post", output_bias=True)
    weights = _without_positions(read_weights(source), settings)
    weights = huggingface.renamed(weights, settings, config)
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
    defaults, search = huggingface.defaults_of(generation), huggingface.search_of(generation)
    return TrainedModel(model, settings, languages, tokenizer, contents, defaults=defaults, search=search)


def _without_positions(weights: Weights, settings: TransformerSettings) -> Weights:
    """Leave the tables of positions out, which are computed.

    Raises:
        ReadingError: They are others.
    """
    table = sinusoidal_table(settings.max_positions, settings.dim)
    positions = [weights[name] for name in _POSITIONS if name in weights]
    if any(given.shape != table.shape or not torch.allclose(given, table, atol=1e-4) for given in positions):
        raise ReadingError(["embed_positions are not the sinusoids of the paper"])
    return {name: weight for name, weight in weights.items() if name not in _POSITIONS}


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
    eos, sizes = huggingface.end_token(config), {"source": source_size, "target": target_size}
    banned = huggingface.banned_tokens(config, generation)
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
