"""Trained model with its tokenizers and languages, wherever it was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serving.bundle.manifest import DecodingDefaults, Languages, SearchConventions, SpecialIds, Tokenizer
from serving.bundle.shortlist import Shortlist
from serving.bundle.tokenizer import SubwordTokenizer
from serving.opening import read_tokenizer
from training.checkpoint import LoadedCheckpoint
from training.data.batches import make_source
from training.data.tokenizer import load_tokenizer
from training.data.words import Words
from training.models.build import ModelSettings
from training.models.contract import TranslationModel, Vocabulary


@dataclass(frozen=True)
class TrainedModel:
    """Model with its tokenizers and languages.

    Attributes:
        model: In eval mode, on the CPU, float32.
        settings: Of the model.
        languages: That it translates, and the tokens that tell it which.
        tokenizer: As the manifest names it.
        files: Contents of the tokenizer's files, by name.
        reverse_source: Whether the model reads sources backwards.
        defaults: Of decoding.
        search: What its users expect of a search.
        shortlist: The lexicon that came with it, if one did.
        alignment: Decoder layer and head that were trained to align words, if that is known.
    """

    model: TranslationModel[Any]
    settings: ModelSettings
    languages: Languages
    tokenizer: Tokenizer
    files: Mapping[str, bytes]
    reverse_source: bool = False
    defaults: DecodingDefaults = field(default_factory=DecodingDefaults)
    search: SearchConventions = field(default_factory=SearchConventions)
    shortlist: Shortlist | None = None
    alignment: tuple[int, int] | None = None

    @classmethod
    def of(cls, checkpoint: LoadedCheckpoint) -> Self:
        """Take what an export needs out of a checkpoint."""
        source, target = checkpoint.source_tokenizer_bytes, checkpoint.target_tokenizer_bytes
        words = isinstance(load_tokenizer(source), Words)
        suffix = "words.json" if words else "spm"
        tokenizer = Tokenizer(
            kind="words" if words else "sentencepiece",
            source=f"source.{suffix}",
            target=f"source.{suffix}" if source == target else f"target.{suffix}",
        )
        config = checkpoint.config
        return cls(
            checkpoint.model,
            config.model,
            Languages.between(*config.languages),
            tokenizer,
            {tokenizer.target: target, tokenizer.source: source},
            config.data.reverse_source,
        )

    @property
    def vocabulary(self) -> Vocabulary:
        """Sizes and special ids."""
        return self.model.vocabulary

    @property
    def special_ids(self) -> SpecialIds:
        """Special ids as a manifest has them: none is missing."""
        vocabulary = self.vocabulary
        return SpecialIds(
            pad=vocabulary.pad,
            unk=vocabulary.unk if vocabulary.unk is not None else vocabulary.pad,
            bos=vocabulary.bos if vocabulary.bos is not None else vocabulary.decoder_start,
            eos=vocabulary.eos,
            decoder_start=vocabulary.decoder_start,
        )

    @cached_property
    def _texts(self) -> SubwordTokenizer:
        return read_tokenizer(self.tokenizer, self.files.__getitem__, special_ids=self.special_ids)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Cut source texts into token ids, without special ids and in the order of the text."""
        return [self._texts.tokens(text) for text in texts]

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Cut translations into token ids, without special ids."""
        return [list(self._texts.encode_prefix(text)) for text in texts]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Join target token ids, without special ids, to texts."""
        return [self._texts.decode(row).text for row in rows]

    def framed(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """Add the special ids that the encoder reads around a source's token ids. Shape (src,)."""
        source, _ = make_source([ids], self.vocabulary, reverse=self.reverse_source)
        return source[0].numpy()
