"""Models of many languages as Hugging Face keeps them: M2M100, NLLB and mBART-50, directories of JSON and weights.

A language is a token before the source and another before the translation.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from sentencepiece import SentencePieceProcessor
from torch import Tensor

from export.errors import ReadingError
from export.readers import huggingface
from export.readers.languages import by_tag
from export.readers.reading import Weights, assemble, read_bytes, read_object, tied
from export.readers.tokenizer_files import pieces_file
from export.readers.weight_files import read_weights
from export.trained_model import TrainedModel
from serving.bundle.manifest import Languages, LanguageTokens, Tokenizer
from training.models.contract import Vocabulary
from training.models.transformer import TransformerSettings

_NEEDS = {"is_encoder_decoder": True, "is_decoder": False}
_M2M100, _MBART = "m2m_100", "mbart"
_SENTENCEPIECE = "sentencepiece.bpe.model"
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3, where the tokenizer has no table of its own
_MASK = "<mask>"
_OWN = 3  # special pieces at the beginning of the SentencePiece model
_CODE = re.compile(r"__([a-z]{2,3})__|([a-z]{2,3}_[A-Z][A-Za-z]{1,3})")
# Languages in order of id where the tokenizer names only their set, or none.
_SETS = {
    "m2m100": "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi hr "
    "ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or pa pl ps "
    "pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo zh zu",
    "wmt21": "en ha is ja cs ru zh de",
    "mbart50": "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM "
    "ne_NP nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN "
    "mn_MN mr_IN pl_PL ps_AF pt_XX sv_SE sw_KE ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI",
}
_OFFSET = 2  # rows of the table of positions before the first
_POSITIONS = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")
_COMPUTED = tuple(f"{name}s" for name in _POSITIONS)  # sinusoids, which old files hold


def recognises_m2m100(source: Path) -> bool:
    """Return whether this is a directory with an M2M100 or NLLB model."""
    return huggingface.is_model(source, _M2M100, _SENTENCEPIECE)


def recognises_mbart(source: Path) -> bool:
    """Return whether this is a directory with an mBART model."""
    return huggingface.is_model(source, _MBART, _SENTENCEPIECE)


def languages(source: Path) -> Languages:
    """Return the languages, with their tokens; where the configuration forces a first token, only its target.

    Raises:
        ReadingError: The directory is damaged, or does not say its languages.
    """
    codes = _table(source)[1]
    forced = huggingface.read_configuration(source)[1].get("forced_bos_token_id")
    region = read_object(source / "config.json").get("model_type") != _MBART  # en_XX, zh_CN: each language once
    return Languages(
        sources=by_tag({code: LanguageTokens(before_source=(token,)) for code, token in codes.items()}, region=region),
        targets=by_tag(
            {
                code: LanguageTokens(before_target=(token,))
                for code, token in codes.items()
                if forced in (None, token) or forced not in codes.values()
            },
            region=region,
        ),
    )


def read(source: Path, languages: Languages) -> TrainedModel:
    """Read the directory.

    Raises:
        ReadingError: It is damaged, or the model cannot be represented exactly; lists every reason.
    """
    config, generation = huggingface.read_configuration(source)
    generation = {key: value for key, value in generation.items() if key != "forced_bos_token_id"}
    huggingface.check(config, generation, _NEEDS)
    mbart = config["model_type"] == _MBART
    settings = huggingface.settings_of(config, norm="pre", positions="learned", embedding_norm=mbart, output_bias=mbart)
    pieces, _ = _table(source)
    vocabulary = _vocabulary(config, generation, pieces)
    stored = read_weights(source)
    positions = _positions(stored, settings, vocabulary.pad)
    weights = huggingface.renamed(stored, settings, config) | positions
    settings = tied(settings, vocabulary, weights)
    tokenizer = Tokenizer(
        source="source.spm",
        target="source.spm",
        source_vocabulary="source.pieces.json",
        target_vocabulary="source.pieces.json",
    )
    spellings = [*pieces, *[None] * (vocabulary.source_size - len(pieces))]
    contents = {
        "source.spm": read_bytes(source / _SENTENCEPIECE),
        "source.pieces.json": pieces_file(spellings, pieces.index("<unk>")),
    }
    model = assemble(settings, vocabulary, weights)
    defaults, search = huggingface.defaults_of(generation, forced=1), huggingface.search_of(generation)
    return TrainedModel(model, settings, languages, tokenizer, contents, defaults=defaults, search=search)


def _table(source: Path) -> tuple[list[str | None], dict[str, int]]:
    """Return the spelling of each token in order of id, and the token of each language.

    Raises:
        ReadingError: A file is damaged, or nothing says the languages.
    """
    names = _language_names(source)
    path = source / "vocab.json"
    if path.is_file():
        table = read_object(path)
        if not table or sorted(table.values(), key=str) != sorted(range(len(table)), key=str):
            raise ReadingError([f"vocab.json has ids that are not from 0 to {len(table) - 1}, each once"])
        pieces: list[str | None] = [piece for piece, _ in sorted(table.items(), key=lambda item: item[1])]
        first = len(pieces)
        pieces += names
    else:
        content = read_bytes(source / _SENTENCEPIECE)
        try:
            model = SentencePieceProcessor(model_proto=content)
        except (RuntimeError, OSError) as error:
            raise ReadingError([f"{_SENTENCEPIECE} is not a SentencePiece model"]) from error
        pieces = [*_SPECIAL, *(model.id_to_piece(number) for number in range(_OWN, model.get_piece_size()))]
        first = len(pieces)
        pieces += [*names, _MASK]
    codes = {_CODE.fullmatch(name): first + number for number, name in enumerate(names)}
    return pieces, {match[1] or match[2]: token for match, token in codes.items() if match}


def _language_names(source: Path) -> list[str]:
    """Return the tokens of the languages in order of id.

    Raises:
        ReadingError: No file says them, or the languages are used in another way.
    """
    paths = [source / file for file in ("special_tokens_map.json", "tokenizer_config.json")]
    said = [read_object(path) for path in paths if path.is_file()]
    if any(content.get("legacy_behaviour") for content in said):
        raise ReadingError(["legacy_behaviour is set: the language behind the source cannot be represented"])
    classes = {str(content.get("tokenizer_class")).removesuffix("Fast") for content in said}
    if "MBartTokenizer" in classes:
        raise ReadingError(["it is an mBART of 25 languages, whose language behind the source cannot be represented"])
    for key in ("additional_special_tokens", "extra_special_tokens"):
        for content in said:
            found = [_spelling(token) for token in content.get(key) or []]
            if names := [name for name in found if _CODE.fullmatch(name)]:
                return names
    known = next((content["language_codes"] for content in said if content.get("language_codes") in _SETS), None)
    if known is None and "MBart50Tokenizer" in classes:
        known = "mbart50"
    if known is None:
        raise ReadingError([f"neither {paths[0].name} nor {paths[1].name} says its languages"])
    return [code if "_" in code else f"__{code}__" for code in _SETS[known].split()]


def _spelling(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)


def _vocabulary(config: dict[str, Any], generation: dict[str, Any], pieces: list[str | None]) -> Vocabulary:
    """Find the special tokens; the filler, which their models take for no token at all, is never generated.

    Raises:
        ReadingError: The table does not fit the model; lists every reason.
    """
    size, eos, pad = config["vocab_size"], huggingface.end_token(config), config["pad_token_id"]
    banned = huggingface.banned_tokens(config, generation) | {pad}
    reasons = []
    if len(pieces) > size:
        reasons.append(f"the vocabulary has {len(pieces)} tokens, the model has {size}")
    if "<unk>" not in pieces:
        reasons.append("there is no '<unk>' in the vocabulary")
    if not all(
        isinstance(number, int) and 0 <= number < size for number in (eos, config["decoder_start_token_id"], *banned)
    ):
        reasons.append(f"a special token id is not from 0 to {size - 1}")
    elif eos >= len(pieces) or pieces[eos] != "</s>":
        reasons.append(f"eos_token_id is {eos}, which is not '</s>' in the vocabulary")
    if eos in banned:
        reasons.append("the end token may not be generated")
    if reasons:
        raise ReadingError(reasons)
    return Vocabulary(
        size,
        size,
        pad=pad,
        eos=eos,
        decoder_start=config["decoder_start_token_id"],
        unk=pieces.index("<unk>"),
        bos=None,
        banned=tuple(sorted(banned)),
    )


def _positions(weights: Weights, settings: TransformerSettings, pad: int) -> Weights:
    """Take the tables of positions out of the weights, or compute them: what is read of them begins at row 2.

    Raises:
        ReadingError: The filler would let positions begin elsewhere, or stored sinusoids are others.
    """
    sinusoids = _sinusoids(settings.max_positions + _OFFSET, settings.dim)
    tables = []
    for learned, computed in zip(_POSITIONS, _COMPUTED, strict=True):
        given = weights.pop(computed, None)
        if given is not None and not torch.allclose(
            given[_OFFSET : len(sinusoids)], sinusoids[_OFFSET : len(given)], atol=1e-3
        ):
            raise ReadingError([f"{computed} are not the sinusoids of tensor2tensor"])
        table = weights.pop(learned, None) if settings.embedding_norm else sinusoids
        if table is None:
            raise ReadingError([f"there is no weight {learned}"])
        tables.append(table[_OFFSET:].contiguous())
    if not settings.embedding_norm and pad != _OFFSET - 1:
        raise ReadingError([f"pad_token_id is {pad}, but positions begin behind it, at {_OFFSET}"])
    return {"source_positions.weight": tables[0], "target_positions.weight": tables[1]}


def _sinusoids(count: int, dim: int) -> Tensor:
    """Return sines beside cosines, the slowest rate 1/10000 itself, as tensor2tensor has them; in float32, as there."""
    half = dim // 2
    rates = torch.exp(torch.arange(half).float() * -(math.log(10000) / max(half - 1, 1)))
    angles = torch.arange(count).float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
