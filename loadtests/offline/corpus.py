"""Real sentences to translate, their references, and BLEU of translations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sacrebleu

from loadtests.offline.searches import Ids
from loadtests.service.sentences import read_lines
from serving.bundle.bundle import Bundle
from serving.bundle.manifest import Languages
from serving.opening import open_tokenizer

_TEST_SET = Path("multi30k", "test_2016_flickr")


@dataclass(frozen=True)
class Corpus:
    """Parallel sentences; ``references`` is empty where there are none."""

    sources: list[str]
    references: list[str]


def read_corpus(data: Path, languages: Languages) -> Corpus:
    """Read a test set from the folder of the corpora, or from two files up to their languages.

    Raises:
        ValueError: The model has several pairs of languages, there are no sentences, or not as many references.
    """
    pair = languages.pair("", "")
    if pair is None:
        raise ValueError(f"the model translates {languages.in_words}, and only one pair can be compared; give another")
    prefix = data / _TEST_SET if data.is_dir() else data
    sources, references = (_lines(prefix, language) for language in (pair.source, pair.target))
    if not sources:
        raise ValueError(f"there is no {prefix}.{pair.source}, with or without .gz; name another with --data")
    if references and len(references) != len(sources):
        raise ValueError(f"{prefix} has {len(sources)} sentences, but {len(references)} references; make them parallel")
    return Corpus(sources, references)


def token_ids(bundle: Bundle, texts: Sequence[str]) -> list[Ids]:
    """Return source token ids with the end token; long texts are truncated at the bundle's limit."""
    tokenizer, limit = open_tokenizer(bundle), bundle.manifest.limits.max_source_tokens
    return [tokenizer.encode(text, limit).ids.tolist() for text in texts]


def bleu(bundle: Bundle, rows: Sequence[Ids], references: Sequence[str]) -> float | None:
    """Return the BLEU (13a, cased) of translations as token ids; None without references."""
    tokenizer = open_tokenizer(bundle)
    texts = [tokenizer.decode(ids).text for ids in rows]
    return float(sacrebleu.corpus_bleu(texts, [list(references)]).score) if references else None


def _lines(prefix: Path, language: str) -> list[str]:
    paths = [prefix.with_name(f"{prefix.name}.{language}{end}") for end in ("", ".gz")]
    return next((read_lines(path) for path in paths if path.is_file()), [])
