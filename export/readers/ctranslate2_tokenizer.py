"""How texts become the tokens of a CTranslate2 directory's vocabularies, which does not say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from export.errors import ReadingError
from export.readers.reading import read_bytes
from export.readers.tokenizer_files import Spellings, moses_file, pieces_file, tokens_file
from serving.bundle.byte_pairs import JOINER, BytePairs
from serving.bundle.manifest import Tokenizer
from training.models.contract import Vocabulary


@dataclass(frozen=True)
class SentencePieceModels:
    """SentencePiece cuts texts into the tokens."""

    source: Path
    target: Path


@dataclass(frozen=True)
class BytePairCodes:
    """Moses cuts texts into words by the rules of two languages, and subword-nmt's codes cut words into the tokens."""

    codes: Path
    source_language: str
    target_language: str


TextFiles = SentencePieceModels | BytePairCodes
_Tables = Mapping[str, Spellings]  # by side


def tokenizer_of(
    tables: Mapping[str, list[str]], vocabulary: Vocabulary, unknown: str, files: TextFiles | None
) -> tuple[Tokenizer, dict[str, bytes]]:
    """Make the tokenizer: by the files if there are any, else texts are cut into characters or at white space.

    Args:
        tables: Tokens in order of id, by side; a shared vocabulary is the source's and has no target's.
        vocabulary: Of the model; it may have ids beyond those.
        unknown: The token for all others.
        files: What cuts texts.

    Returns:
        The tokenizer, and the contents of its files.

    Raises:
        ReadingError: The files are not what they should be.
    """
    sizes = {"source": vocabulary.source_size, "target": vocabulary.target_size}
    spellings = {side: [*table, *[None] * (sizes[side] - len(table))] for side, table in tables.items()}
    unknowns = {side: table.index(unknown) for side, table in tables.items()}
    if isinstance(files, SentencePieceModels):
        made, contents = _sentencepiece(spellings, unknowns, files)
    elif isinstance(files, BytePairCodes):
        made, contents = _moses(spellings, unknowns, files)
    else:
        made, contents = _plain(spellings, unknowns)
    ends = {"source_bos": vocabulary.source_bos, "source_eos": vocabulary.source_eos}
    return made.model_copy(update=ends), contents


def _target(spellings: _Tables) -> str:
    return "target" if "target" in spellings else "source"


def _sentencepiece(
    spellings: _Tables, unknowns: Mapping[str, int], files: SentencePieceModels
) -> tuple[Tokenizer, dict[str, bytes]]:
    models = [read_bytes(path) for path in (files.source, files.target)]
    contents = {f"{side}.pieces.json": pieces_file(found, unknowns[side]) for side, found in spellings.items()}
    made = Tokenizer(
        source="source.spm",
        target="source.spm" if models[0] == models[1] else "target.spm",
        source_vocabulary="source.pieces.json",
        target_vocabulary=f"{_target(spellings)}.pieces.json",
    )
    return made, contents | {made.target: models[1], made.source: models[0]}


def _moses(spellings: _Tables, unknowns: Mapping[str, int], files: BytePairCodes) -> tuple[Tokenizer, dict[str, bytes]]:
    target = _target(spellings)
    codes = _codes(files.codes, spellings[target])
    made = Tokenizer(kind="moses", source="source.moses.json", target="target.moses.json")
    return made, {
        made.source: moses_file(spellings["source"], unknowns["source"], codes, files.source_language),
        made.target: moses_file(spellings[target], unknowns[target], codes, files.target_language),
    }


def _plain(spellings: _Tables, unknowns: Mapping[str, int]) -> tuple[Tokenizer, dict[str, bytes]]:
    contents = {
        f"{side}.tokens.json": tokens_file(found, unknowns[side], _separator(found))
        for side, found in spellings.items()
    }
    made = Tokenizer(kind="tokens", source="source.tokens.json", target=f"{_target(spellings)}.tokens.json")
    return made, contents


def _codes(path: Path, tokens: Spellings) -> str:
    """Read the merges of subword-nmt.

    Raises:
        ReadingError: They are something else, or the vocabulary marks what belongs together in another way.
    """
    try:
        codes = read_bytes(path).decode()
        BytePairs(codes)
    except ValueError as error:
        raise ReadingError([f"{path.name} is not a file of subword-nmt's ({error})"]) from error
    if not any(token and token.endswith(JOINER) for token in tokens):
        raise ReadingError([f"no token of its vocabulary ends in {JOINER}, as those that {path.name} makes do"])
    return codes


def _separator(tokens: Spellings) -> str:
    ordinary = [token for token in tokens if token and not (token.startswith("<") and token.endswith(">"))]
    return "" if all(len(token) == 1 for token in ordinary) else " "
