"""A bundle's weights in CTranslate2: texts in, translations out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ctranslate2 import Translator

from loadtests.offline.ctranslate2_model import convert
from serving.bundle.bundle import load_bundle
from serving.opening import open_tokenizer
from serving.pb import translation_service_pb2 as pb


@dataclass(frozen=True)
class Search:
    """Options of a batch."""

    beam_size: int
    n_best: int
    length_penalty: float


@dataclass(frozen=True)
class Translated:
    """A translation and its numbers of tokens; scores are sums of log-probabilities over length ** length_penalty."""

    translation: pb.Translation
    source_tokens: int
    target_tokens: int


class PeerModel:
    """A model that threads may share: CTranslate2 runs ``workers`` batches at a time, each on ``threads`` threads."""

    def __init__(self, directory: Path, *, compute_type: str, workers: int, threads: int) -> None:
        """Convert and load the bundle NAME/VERSION; ``compute_type`` is one of CTranslate2's."""
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
        """Translate texts as one batch; long ones are truncated at the model's limit."""
        limits = self.manifest.limits
        encoded = [self._tokenizer.encode(text, limits.max_source_tokens).ids for text in texts]
        longest = max(len(ids) - 1 for ids in encoded)
        results = self._translator.translate_batch(
            [list(map(str, ids.tolist())) for ids in encoded],
            beam_size=search.beam_size,
            num_hypotheses=search.n_best,
            length_penalty=search.length_penalty,
            max_input_length=0,
            max_decoding_length=min(2 * longest + 16, limits.max_target_tokens),
            return_scores=True,
        )
        found = []
        for ids, result in zip(encoded, results, strict=True):
            texts = [self._tokenizer.decode(list(map(int, tokens))).text for tokens in result.hypotheses]
            hypotheses = [pb.Hypothesis(text=t, score=s) for t, s in zip(texts, result.scores, strict=True)]
            translation = pb.Translation(hypotheses=hypotheses, parts=1)
            found.append(Translated(translation, len(ids) - 1, len(result.hypotheses[0])))
        return found
