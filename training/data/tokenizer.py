"""The tokenizers of the two languages: trained as a configuration asks, and loaded again from their bytes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.data.parallel_text import Pair
from training.data.subwords import Subwords, train_subwords
from training.data.words import Words, train_words
from training.errors import DataError

Tokenizer = Subwords | Words


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """Settings of the tokenizers.

    Attributes:
        vocab_size: Number of tokens, special and byte pieces included.
        kind: SentencePiece unigram (Kudo 2018) or BPE (Sennrich et al. 2016), or whole words.
        shared: One tokenizer for both languages.
        character_coverage: SentencePiece: share of characters with a piece of their own; the rest become byte pieces.
        required_characters: SentencePiece: characters that have a piece of their own however rare they are.
        symbols: SentencePiece: strings that are always one piece, such as placeholders.
        normalization: SentencePiece's rule, applied before cutting; ``nfc`` is from ``training.data.normalization``.
        sample_lines: At most this many pairs are used to train it.
        sampling: SentencePiece: alpha of subword regularisation in training (see ``Subwords.sample``); None is off.
        path: A trained tokenizer to use, for both languages, instead of training one.
    """

    vocab_size: int = 8000
    kind: Literal["unigram", "bpe", "word"] = "unigram"
    shared: bool = True
    character_coverage: float = 1.0
    required_characters: str = ""
    symbols: tuple[str, ...] = ()
    normalization: Literal["identity", "nfc", "nfkc", "nmt_nfkc"] = "nmt_nfkc"
    sample_lines: int = 1_000_000
    sampling: float | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        """Check that the settings fit together.

        Raises:
            DataError: If words are to be sampled, or a trained tokenizer is not to be shared.
        """
        if self.kind == "word" and self.sampling is not None:
            raise DataError("tokenizer.sampling cuts words at random, but tokenizer.kind is 'word'; leave it out.")
        if self.path is not None and not self.shared:
            raise DataError("tokenizer.path is used for both languages; set tokenizer.shared to true.")


def train_tokenizers(pairs: Sequence[Pair], settings: TokenizerSettings) -> tuple[bytes, bytes]:
    """Train the tokenizers of source and target, or read a trained one; twice the same if shared.

    Raises:
        DataError: If the text is too small for the vocabulary, or the trained tokenizer cannot be read.
    """
    if settings.path is not None:
        model = read_tokenizer(settings.path).model
        return model, model
    sides = [[pair.source for pair in pairs], [pair.target for pair in pairs]]
    if settings.shared:
        model = _train([text for both in zip(*sides, strict=True) for text in both], settings)
        return model, model
    return _train(sides[0], settings), _train(sides[1], settings)


def _train(texts: Sequence[str], settings: TokenizerSettings) -> bytes:
    if settings.kind == "word":
        return train_words(texts, settings.vocab_size)
    return train_subwords(
        texts,
        settings.vocab_size,
        kind=settings.kind,
        character_coverage=settings.character_coverage,
        required_characters=settings.required_characters,
        symbols=settings.symbols,
        normalization=settings.normalization,
        threads=os.cpu_count() or 1,
    )


def load_tokenizer(model: bytes) -> Tokenizer:
    """Load a serialised tokenizer of either kind; word vocabularies are JSON, SentencePiece models are not."""
    return Words(model) if model.startswith(b"{") else Subwords(model)


def read_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer from a file.

    Raises:
        DataError: If the file is missing, or is no tokenizer.
    """
    try:
        return load_tokenizer(path.read_bytes())
    except OSError as error:
        raise DataError(f"the tokenizer {path} cannot be read: {error.strerror}.") from error
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is neither a SentencePiece model nor a word vocabulary; give tokenizer.path another file."
        ) from error
