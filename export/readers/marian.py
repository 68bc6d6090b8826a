"""Models of Marian, ``.npz`` or ``.bin``, with what belongs to them; also the students of Bergamot and Firefox."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from export.errors import ReadingError
from export.readers.marian_file import read_model_file
from export.readers.marian_folder import ModelFolder, find_model, model_files
from export.readers.marian_lexicon import read_lexicon
from export.readers.marian_options import MarianOptions, read_table
from export.readers.marian_weights import read_settings, renamed
from export.readers.reading import Weights, assemble, read_bytes, tied, with_filler
from export.readers.tokenizer_files import pieces_file, tokens_file
from export.trained_model import TrainedModel
from serving.bundle.manifest import DecodingDefaults, Languages, SearchConventions, Tokenizer
from serving.bundle.shortlist import Shortlist
from training.models.contract import Vocabulary
from training.models.transformer import TransformerSettings

_END, _UNKNOWN = "</s>", "<unk>"
_CONTROLS = [f"<0x{number:02X}>" for number in range(32)]  # bytes that Marian's search suppresses
_LEXICON = 100  # tokens that everybody gets, and best translations, unless the YAML has other numbers
_BEAM, _MOST_BEAMS = 12, 1024
_PAIR = re.compile(r"(?:src|trg)?vocab\.([a-z]{2})([a-z]{2})\.spm")
_SEARCH_UNSET = ("word-penalty", "output-sampling", "output-approx-knn", "force-decode")


@dataclass(frozen=True)
class _Side:
    """Vocabulary of one side.

    Attributes:
        content: Of its file.
        pieces: Number of ids.
        id_of: Finds the id of a token; that of the unknown one for others.
        end: Id of the end token, negative if there is none.
        spellings: Tokens in order of id, None where an id has none; for a SentencePiece model, which has its own, none.
    """

    content: bytes
    pieces: int
    id_of: Callable[[str], int]
    end: int
    spellings: list[str | None] | None


def recognises(source: Path) -> bool:
    """Return whether this is a model file, or a directory with one."""
    return bool(model_files(source))


def languages(source: Path) -> Languages | None:
    """Return the languages, if the name of a vocabulary says them, as ``vocab.enfr.spm`` does."""
    folder = source if source.is_dir() else source.parent
    pairs = {(match[1], match[2]) for path in folder.iterdir() if (match := _PAIR.fullmatch(path.name))}
    return Languages.between(*pairs.pop()) if len(pairs) == 1 else None


def read(source: Path, languages: Languages) -> TrainedModel:
    """Read the model.

    Raises:
        ReadingError: It is damaged, or the model cannot be represented exactly; lists every reason.
    """
    folder = find_model(source)
    file = read_model_file(folder.model)
    options = MarianOptions.parse(file.options, f"the YAML in {folder.model.name}")
    settings = read_settings(options)
    defaults = _defaults(folder.options)
    sides = [_side(path) for path in folder.vocabularies]
    weights = renamed(file.weights, settings, options)
    plain = _vocabulary(sides, weights, folder.options)
    vocabulary, weights = with_filler(plain, weights, plain.suppressed)
    vocabulary = replace(vocabulary, decoder_start=vocabulary.pad)  # its embedding is 0, as that of Marian's start
    settings = tied(settings, vocabulary, weights)
    tokenizer, contents = _tokenizer(folder, sides)
    shortlist = _shortlist(folder, vocabulary, sides)
    model = assemble(settings, vocabulary, weights)
    return TrainedModel(
        model,
        settings,
        languages,
        tokenizer,
        contents,
        defaults=defaults,
        search=SearchConventions(beam_shrinks=True),
        shortlist=shortlist,
        alignment=_alignment(options, folder.options, settings),
    )


def _alignment(model: MarianOptions, decoder: MarianOptions, settings: TransformerSettings) -> tuple[int, int] | None:
    """Find the head that guided alignment has trained, which is the first of a layer, if the decoder's users align.

    Raises:
        ReadingError: There is no such layer.
    """
    if not decoder.is_set("alignment"):
        return None
    layer = model.text("transformer-guided-alignment-layer", "last")
    if layer != "last" and not (layer.isdecimal() and 1 <= int(layer) <= settings.decoder_layers):
        raise ReadingError([f"transformer-guided-alignment-layer is {layer}, of {settings.decoder_layers} layers"])
    return (-1 if layer == "last" else int(layer) - 1), 0


def _defaults(options: MarianOptions) -> DecodingDefaults:
    """Read what the search does.

    Raises:
        ReadingError: It is another search than ours; lists every reason.
    """
    if not options.values:
        return DecodingDefaults()
    reasons = [f"{name} in {options.origin} is set" for name in _SEARCH_UNSET if options.is_set(name)]
    beam, exponent = options.whole("beam-size", _BEAM), options.number("normalize", 0.0)
    if not 1 <= beam <= _MOST_BEAMS:
        reasons.append(f"beam-size in {options.origin} is {beam}, not from 1 to {_MOST_BEAMS}")
    if not 0.0 <= exponent < 100.0:
        reasons.append(f"normalize in {options.origin} is {exponent}, not an exponent from 0 on")
    if reasons:
        raise ReadingError(reasons)
    return DecodingDefaults(beam_size=beam, length_penalty=exponent)


def _side(path: Path) -> _Side:
    content = read_bytes(path)
    if path.suffix == ".spm":
        try:
            pieces = SentencePieceProcessor(model_proto=content)
        except RuntimeError as error:
            raise ReadingError([f"{path.name} is not a SentencePiece model"]) from error
        return _Side(content, pieces.get_piece_size(), pieces.piece_to_id, pieces.eos_id(), None)
    if path.suffix not in (".yml", ".yaml", ".json"):
        raise ReadingError([f"{path.name} is neither a SentencePiece model (.spm) nor a table of tokens (.yml)"])
    table = read_table(content.decode("utf-8", errors="replace"), path.name)
    ids = sorted(table.values())
    if ids != list(range(len(ids))) or not {_END, _UNKNOWN} <= table.keys():
        raise ReadingError([f"the ids in {path.name} are not 0, 1, 2 and so on, or {_END} or {_UNKNOWN} has none"])
    unknown = table[_UNKNOWN]
    spellings: list[str | None] = [token for token, _ in sorted(table.items(), key=lambda item: item[1])]
    return _Side(content, len(ids), lambda token: table.get(token, unknown), table[_END], spellings)


def _vocabulary(sides: list[_Side], weights: Weights, options: MarianOptions) -> Vocabulary:
    """Find the sizes and special tokens, without a filler.

    Raises:
        ReadingError: The vocabularies do not fit the model or one another; lists every reason.
    """
    source, target = sides
    reasons = []
    for side, name in ((source, "source"), (target, "target")):
        if (rows := len(weights[f"{name}_embedding.weight"])) != side.pieces:
            reasons.append(f"the {name} vocabulary has {side.pieces} tokens, the model has {rows}")
    if source.end != target.end or source.end < 0:
        reasons.append(f"the end token is {source.end} in sources and {target.end} in targets")
    if reasons:
        raise ReadingError(reasons)
    unknown = target.id_of(_UNKNOWN)
    banned = set() if options.flag("allow-unk") else {unknown}
    if not options.flag("allow-special"):
        banned |= {target.id_of(control) for control in _CONTROLS} - {unknown}
    return Vocabulary(
        source.pieces,
        target.pieces,
        eos=target.end,
        unk=unknown,
        bos=None,
        shared=source.content == target.content,
        banned=tuple(sorted(banned)),
    )


def _tokenizer(folder: ModelFolder, sides: list[_Side]) -> tuple[Tokenizer, dict[str, bytes]]:
    """Choose how text is cut: by SentencePiece, else at white space; and write the files."""
    source, target = sides
    shared = source.content == target.content
    if source.spellings is None or target.spellings is None:
        if source.spellings is not target.spellings:
            raise ReadingError(["one vocabulary is a SentencePiece model and the other is not"])
        files = Tokenizer(source="source.spm", target="source.spm" if shared else "target.spm")
        return files, {files.target: target.content, files.source: source.content}
    other = "source" if shared else "target"
    if folder.sentencepiece is None:
        files = Tokenizer(kind="tokens", source="source.tokens.json", target=f"{other}.tokens.json")
        return files, {
            name: tokens_file(side.spellings or [], side.id_of(_UNKNOWN), " ")
            for name, side in ((files.target, target), (files.source, source))
        }
    files = Tokenizer(
        source="source.spm",
        target="target.spm",
        source_vocabulary="source.pieces.json",
        target_vocabulary=f"{other}.pieces.json",
    )
    contents = {
        f"{name}.spm": read_bytes(path) for name, path in zip(("source", "target"), folder.sentencepiece, strict=True)
    }
    for name, side in (("target", target), ("source", source)):
        contents[f"{other if name == 'target' else name}.pieces.json"] = pieces_file(
            side.spellings or [], side.id_of(_UNKNOWN)
        )
    return files, contents


def _shortlist(folder: ModelFolder, vocabulary: Vocabulary, sides: list[_Side]) -> Shortlist | None:
    if folder.lexicon is None:
        return None
    numbers = folder.options.texts("shortlist")[1:]
    if any(number.lower() in ("true", "false") for number in numbers):  # whether to check a binary one
        numbers = []
    try:
        first, best, threshold = [float(n) for n in numbers[:3]] + [_LEXICON, _LEXICON, 0.0][len(numbers[:3]) :]
    except ValueError as error:
        raise ReadingError([f"shortlist in {folder.options.origin} has something else than numbers"]) from error
    spellings = sides[0].id_of, sides[1].id_of
    return read_lexicon(folder.lexicon, vocabulary, spellings, (int(first), int(best)), threshold)
