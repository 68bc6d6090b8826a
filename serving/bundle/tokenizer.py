"""Conversion of text to token ids and back, with the span of each token in the text as given."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from sentencepiece import SentencePieceProcessor

from serving.bundle.manifest import SpecialIds, TokenizerKind
from serving.bundle.moses import MosesProcessor
from serving.bundle.pieces import PieceProcessor
from serving.bundle.plain_tokens import TokenProcessor
from serving.bundle.words import WordProcessor
from serving.errors import StartupError

Spans = NDArray[np.int64]
Processor = SentencePieceProcessor | PieceProcessor | WordProcessor | TokenProcessor | MosesProcessor

_NAMES: dict[TokenizerKind, str] = {
    "sentencepiece": "a SentencePiece model",
    "words": "a word vocabulary",
    "tokens": "a vocabulary of tokens",
    "moses": "a vocabulary of byte pairs",
}

# Training cleans text the same way (``clean_text`` in training/data/cleaning.py; tests/parity compares them): any white
# space separates words; controls, the zero-width space, the byte order mark and lone surrogates are not part of them.
_WHITE_SPACE = re.compile(r"[^\S ]")
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200b\ufeff\ud800-\udfff]")


class _Mapping(TypedDict):
    """Result of SentencePiece for ``offset_mapping``."""

    ids: list[int]
    pieces: list[str]
    offsets: list[tuple[int, int]]


@dataclass(frozen=True)
class EncodedSource:
    """A source text as the model reads it.

    Attributes:
        ids: Token ids between the special tokens that the model expects, an end token as a rule; reversed if it expects
            that. Shape (src,), int64.
        spans: Start and end of each token in the text as given, in code points; those of special tokens are empty.
            Of tokens that share a character, all but the last have empty spans. Shape (src, 2), int64.
        size: Number of tokens of the text itself, special tokens not counted.
        dropped: Number of tokens cut off at the end of the text.
    """

    ids: NDArray[np.int64]
    spans: Spans
    size: int
    dropped: int


@dataclass(frozen=True)
class DecodedTarget:
    """A translation as text.

    Attributes:
        text: Detokenized text.
        pieces: Spelling of each token in the vocabulary.
        spans: Start and end of each token in ``text``, in code points. Shape (tgt, 2), int64.
    """

    text: str
    pieces: tuple[str, ...]
    spans: Spans


class SubwordTokenizer:
    """SentencePiece models or vocabularies of a bundle; immutable, so threads may share it.

    SentencePiece normalises text (NFKC, runs of white space); its spans refer to the text before normalisation.
    """

    def __init__(
        self,
        source: bytes,
        target: bytes,
        *,
        special_ids: SpecialIds,
        reverse_source: bool = False,
        kind: TokenizerKind = "sentencepiece",
        source_vocabulary: bytes | None = None,
        target_vocabulary: bytes | None = None,
        source_bos: bool = False,
        source_eos: bool = True,
    ) -> None:
        """Load serialised models of one kind, and vocabularies if they have any; both sides may be the same.

        Raises:
            StartupError: A file is not of that kind.
        """
        self._source = _load(source, source_vocabulary, "source", kind)
        alike = (target, target_vocabulary) == (source, source_vocabulary)
        self._target = self._source if alike else _load(target, target_vocabulary, "target", kind)
        self._before = [special_ids.bos] * source_bos
        self._after = [special_ids.eos] * source_eos
        self._reverse = reverse_source
        self._spelt: set[str] = set(string.ascii_letters + string.digits)

    @property
    def source_size(self) -> int:
        """Size of the source vocabulary."""
        return int(self._source.get_piece_size())

    @property
    def target_size(self) -> int:
        """Size of the target vocabulary."""
        return int(self._target.get_piece_size())

    def encode(self, text: str, limit: int | None = None, before: Sequence[int] = ()) -> EncodedSource:
        """Encode a source text, or its first ``limit`` tokens, special tokens not counted.

        Args:
            text: The text.
            limit: Most tokens of it.
            before: Token ids that stand before it and are special too, such as those of languages.
        """
        mapping = self._mapped(text)
        ids, offsets = mapping["ids"][:limit], mapping["offsets"][:limit]
        if self._reverse:
            ids, offsets = ids[::-1], offsets[::-1]
        before = [*self._before, *before]
        return EncodedSource(
            ids=np.array([*before, *ids, *self._after], dtype=np.int64),
            spans=np.array(
                [*((0, 0) for _ in before), *offsets, *((len(text), len(text)) for _ in self._after)], np.int64
            ).reshape(-1, 2),
            size=len(ids),
            dropped=len(mapping["ids"]) - len(ids),
        )

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the start and end of each source token in text order, without the end token."""
        return self._mapped(text)["offsets"]

    def tokens(self, text: str) -> list[int]:
        """Return the source token ids of a text in its order, without special tokens."""
        return list(self._source.encode(_clean(text, self._source)))

    def source_pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the spelling of source tokens, special ones included."""
        return [self._source.id_to_piece(token) for token in ids]

    def count(self, text: str) -> int:
        """Return the number of source tokens of a text, special tokens not counted."""
        return len(self.tokens(text))

    def unknown(self, text: str) -> frozenset[str]:
        """Return the characters of a text that the source vocabulary spells in bytes or not at all.

        Letters and digits of ASCII, marks, controls and separators are never among them. Of a word vocabulary they are
        the letters that no token has, since it copies symbols; there are none where the text is tokens already.
        """
        new = set(text) - self._spelt
        if not new:
            return frozenset()
        found = frozenset(character for character in new if not self._spells(character))
        self._spelt |= new - found
        return found

    def _spells(self, character: str) -> bool:
        source = self._source
        if isinstance(source, TokenProcessor) or unicodedata.category(character)[0] in "MCZ":
            return True
        if isinstance(source, WordProcessor):
            return not character.isalpha() or source.spells(character)
        return not any(source.is_unknown(token) or source.is_byte(token) for token in source.encode(character))

    def encode_prefix(self, text: str) -> tuple[int, ...]:
        """Encode the beginning of a translation, without an end token."""
        return tuple(self._target.encode(_clean(text, self._target)))

    def spellings(self, term: str) -> set[tuple[int, ...]]:
        """Return the ways to spell a target term in tokens: after a space, and right behind another character.

        There is none if the vocabulary lacks a character of it.
        """
        found = {self.encode_prefix(term)}
        mapping = self._target.encode("'" + term, return_type="offset_mapping")
        starts = [begin for begin, _ in mapping["offsets"]]
        if 1 in starts:
            found.add(tuple(mapping["ids"][starts.index(1) :]))
        return {tokens for tokens in found if tokens and self.decode(tokens).text.strip() == term}

    @cached_property
    def target_pieces(self) -> tuple[str, ...]:
        """Spelling of each target token, with U+2581 for a space before it."""
        return tuple(self._target.id_to_piece(token) for token in range(self.target_size))

    def target_token(self, piece: str) -> int | None:
        """Return the target token that is spelt so; None if there is none."""
        token = int(self._target.piece_to_id(piece))
        copied = isinstance(self._target, WordProcessor)
        return token if copied or self._target.id_to_piece(token) == piece else None

    @property
    def copies_unknown_words(self) -> bool:
        """Whether :meth:`decode` uses the source text that each token attends to."""
        return isinstance(self._target, WordProcessor)

    def decode(self, ids: Sequence[int], attended: Sequence[str] = ()) -> DecodedTarget:
        """Decode target token ids, without the end token, to text.

        Args:
            ids: Token ids.
            attended: Source text that each token attends to most, which replaces an unknown word; or empty.
        """
        if isinstance(self._target, WordProcessor) and attended:
            mapping = self._target.fill(self._target.replaced(ids, attended))
        else:
            mapping = self._target.decode(list(ids), return_type="offset_mapping")
        return DecodedTarget(
            text=mapping["text"],
            pieces=tuple(mapping["pieces"]),
            spans=np.array(mapping["offsets"], dtype=np.int64).reshape(-1, 2),
        )

    def _mapped(self, text: str) -> _Mapping:
        clean = _clean(text, self._source)
        mapping: _Mapping = self._source.encode(clean, return_type="offset_mapping")
        if len(clean) < len(text):
            kept = [place for place, character in enumerate(text) if not _INVISIBLE.match(character)] + [len(text)]
            mapping["offsets"] = [(kept[begin], kept[end]) for begin, end in mapping["offsets"]]
        return mapping


def _clean(text: str, processor: Processor) -> str:
    """Return the text as training would have cleaned it, but for runs of spaces, which the tokenizers collapse."""
    if isinstance(processor, MosesProcessor):  # has rules of its own, for no-break spaces too
        return text
    return _WHITE_SPACE.sub(" ", _INVISIBLE.sub("", text))


def _load(model: bytes, vocabulary: bytes | None, side: str, kind: TokenizerKind) -> Processor:
    try:
        if kind == "words":
            return WordProcessor(model)
        if kind == "tokens":
            return TokenProcessor(model)
        if kind == "moses":
            return MosesProcessor(model)
        if vocabulary is not None:
            return PieceProcessor(model, vocabulary)
        return SentencePieceProcessor(model_proto=model)
    except (RuntimeError, OSError, ValueError) as error:
        raise StartupError(f"the {side} tokenizer is not {_NAMES[kind]}; export the bundle again") from error
    except ImportError as error:
        raise StartupError(
            f"the {side} tokenizer needs sacremoses, which is not installed: add the extra moses"
        ) from error
