"""SentencePiece (Kudo and Richardson 2018): train a model, and turn text into token ids and back."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import sentencepiece

from training.errors import DataError

PAD, UNK, BOS, EOS = 0, 1, 2, 3


@dataclass(frozen=True, kw_only=True)
class SubwordSettings:
    """How the SentencePiece models are trained.

    Attributes:
        vocab_size: Number of pieces, special and byte pieces included.
        kind: Unigram language model (Kudo 2018) or BPE (Sennrich et al. 2016).
        shared: One model for both languages.
        character_coverage: Share of characters with a piece of their own; the rest become byte pieces.
        normalization: SentencePiece's rule, applied to text before it is cut.
        sample_lines: At most this many sentences are used.
    """

    vocab_size: int = 8000
    kind: Literal["unigram", "bpe"] = "unigram"
    shared: bool = True
    character_coverage: float = 1.0
    normalization: Literal["identity", "nfkc", "nmt_nfkc"] = "nmt_nfkc"
    sample_lines: int = 1_000_000


def train_subwords(sentences: Iterator[str], settings: SubwordSettings, threads: int = 2) -> bytes:
    """Train a SentencePiece model; ids 0 to 3 are pad, unk, bos, eos, and bytes stand in for unseen characters.

    Returns:
        The serialised model.

    Raises:
        DataError: If the text is too small for `vocab_size`.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences,
            model_writer=model,
            vocab_size=settings.vocab_size,
            model_type=settings.kind,
            character_coverage=settings.character_coverage,
            normalization_rule_name=settings.normalization,
            byte_fallback=True,
            split_digits=True,
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            num_threads=threads,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise DataError(
            f"SentencePiece cannot train {settings.vocab_size} pieces on this text ({error}); "
            "lower tokenizer.vocab_size or give more text."
        ) from error
    return model.getvalue()


class Subwords:
    """A trained SentencePiece model."""

    def __init__(self, model: bytes) -> None:
        """Load a serialised model."""
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    @property
    def size(self) -> int:
        """Number of pieces."""
        return int(self._processor.get_piece_size())

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Cut texts into piece ids, without bos or eos."""
        return self._processor.encode(list(texts), out_type=int)  # type: ignore[no-any-return]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Join piece ids back to texts."""
        return self._processor.decode([list(row) for row in ids])  # type: ignore[no-any-return]
