"""SentencePiece (Kudo and Richardson 2018): train a model, and turn text into token ids and back."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from tempfile import NamedTemporaryFile

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from training.data.normalization import normalization_rules
from training.errors import DataError

PAD, UNK, BOS, EOS = 0, 1, 2, 3


def train_subwords(
    sentences: Iterable[str],
    vocab_size: int,
    *,
    kind: str = "unigram",
    character_coverage: float = 1.0,
    required_characters: str = "",
    symbols: Sequence[str] = (),
    normalization: str = "nmt_nfkc",
    threads: int = 2,
) -> bytes:
    """Train a SentencePiece model; ids 0 to 3 are pad, unk, bos, eos, and bytes stand in for unseen characters.

    Args:
        sentences: Text to train on.
        vocab_size: Number of pieces, special and byte pieces included.
        kind: ``unigram`` (Kudo 2018) or ``bpe`` (Sennrich et al. 2016).
        character_coverage: Share of characters with a piece of their own; the rest become byte pieces.
        required_characters: Characters that have a piece of their own however rare they are.
        symbols: Strings that are always one piece.
        normalization: SentencePiece's rule, applied before cutting; ``nfc`` is from ``training.data.normalization``.
        threads: To use.

    Returns:
        The serialised model.

    Raises:
        DataError: If the text is too small for ``vocab_size``.
    """
    model = io.BytesIO()
    try:
        with _rule(normalization) as rule:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(sentences),
                model_writer=model,
                vocab_size=vocab_size,
                model_type=kind,
                character_coverage=character_coverage,
                required_chars=required_characters,
                user_defined_symbols=list(symbols),
                byte_fallback=True,
                split_digits=True,
                pad_id=PAD,
                unk_id=UNK,
                bos_id=BOS,
                eos_id=EOS,
                num_threads=threads,
                minloglevel=2,
                **rule,  # type: ignore[arg-type]
            )
    except RuntimeError as error:
        too_small = "smaller than required_chars" in str(error)
        remedy = (
            "raise tokenizer.vocab_size or lower tokenizer.character_coverage"
            if too_small
            else "lower tokenizer.vocab_size or give more text"
        )
        raise DataError(f"SentencePiece cannot train {vocab_size} pieces on this text ({error}); {remedy}.") from error
    return _without_path(model.getvalue())


@contextmanager
def _rule(normalization: str) -> Iterator[dict[str, str]]:
    """SentencePiece's option for a rule; rules that it does not know by name it reads from a file."""
    if normalization != "nfc":
        yield {"normalization_rule_name": normalization}
        return
    with NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as rules:
        rules.write(normalization_rules())
        rules.flush()
        yield {"normalization_rule_tsv": rules.name}


def _without_path(model: bytes) -> bytes:
    """Forget where the file of rules was: the same text gives the same model, byte for byte."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)  # type: ignore[attr-defined]
    proto.normalizer_spec.ClearField("normalization_rule_tsv")
    return bytes(proto.SerializeToString())


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

    @property
    def pieces(self) -> list[str]:
        """Spelling of every piece, in order of id; U+2581 stands for a space."""
        return [self._processor.id_to_piece(i) for i in range(self.size)]

    @property
    def unknown_ids(self) -> frozenset[int]:
        """Pieces that stand for what the vocabulary cannot spell: unk, and the bytes of unseen characters."""
        return frozenset(i for i in range(self.size) if i == UNK or self._processor.is_byte(i))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Cut texts into piece ids, without bos or eos."""
        return self._processor.encode(list(texts), out_type=int)  # type: ignore[no-any-return]

    def sample(self, texts: Sequence[str], alpha: float, seed: int) -> list[list[int]]:
        """Cut texts at random (subword regularisation, Kudo 2018; for BPE, BPE-dropout, Provilkov et al. 2020).

        Args:
            texts: To cut.
            alpha: Unigram: smoothing of the distribution over segmentations, smaller is more random. BPE: probability
                that a merge is dropped.
            seed: Decides everything, whatever was drawn before.
        """
        sentencepiece.set_random_generator_seed(seed)
        return [
            self._processor.encode(text, out_type=int, enable_sampling=True, alpha=alpha, nbest_size=-1)
            for text in texts
        ]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Join piece ids back to texts."""
        return self._processor.decode([list(row) for row in ids])  # type: ignore[no-any-return]
