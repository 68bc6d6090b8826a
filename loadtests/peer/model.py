"""A bundle's weights in CTranslate2: texts in, texts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ctranslate2 import Translator

from loadtests.offline.ctranslate2_model import convert
from serving.bundle.bundle import load_bundle
from serving.opening import open_tokenizer


@dataclass(frozen=True)
class Search:
    """Options of a batch: all that the peer can do."""

    beam_size: int
    n_best: int
    length_penalty: float


@dataclass(frozen=True)
class Hypothesis:
    """One translation; the score is the sum of log-probabilities over length ** length_penalty."""

    text: str
    score: float
    tokens: int


@dataclass(frozen=True)
class Translated:
    """The answer to one text, best hypothesis first."""

    hypotheses: tuple[Hypothesis, ...]
    source_tokens: int


class PeerModel:
    """Threads may share it: CTranslate2 runs ``workers`` batches at the same time, each on ``threads`` threads."""

    def __init__(self, directory: Path, *, compute_type: str, workers: int, threads: int) -> None:
        """Converts and loads a bundle.

        Args:
            directory: The bundle, NAME/VERSION.
            compute_type: One of CTranslate2's.
            workers: Batches at the same time.
            threads: Threads of each.
        """
        bundle = load_bundle(directory)
        self.manifest = bundle.manifest
        self._tokenizer = open_tokenizer(bundle)
        with TemporaryDirectory() as folder:
            converted = Path(folder) / "model"
            convert(directory, converted)
            self._translator = Translator(
                str(converted), compute_type=compute_type, inter_threads=workers, intra_threads=threads
            )
        self.compute_type = str(self._translator.compute_type)

    def translate(self, search: Search, texts: Sequence[str]) -> list[Translated]:
        """Translates texts as one batch; too long ones are cut at the model's limit."""
        limit = self.manifest.limits.max_source_tokens
        encoded = [self._tokenizer.encode(text, limit).ids for text in texts]
        longest = max(len(ids) - 1 for ids in encoded)
        results = self._translator.translate_batch(
            [list(map(str, ids.tolist())) for ids in encoded],
            beam_size=search.beam_size,
            num_hypotheses=search.n_best,
            length_penalty=search.length_penalty,
            max_input_length=0,
            max_decoding_length=min(2 * longest + 16, self.manifest.limits.max_target_tokens),
            return_scores=True,
        )
        return [
            Translated(
                tuple(
                    Hypothesis(self._text(tokens), score, len(tokens))
                    for tokens, score in zip(result.hypotheses, result.scores, strict=True)
                ),
                source_tokens=len(ids) - 1,
            )
            for ids, result in zip(encoded, results, strict=True)
        ]

    def _text(self, tokens: Sequence[str]) -> str:
        return self._tokenizer.decode(list(map(int, tokens))).text
