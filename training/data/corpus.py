"""Prepare a corpus once: filter, train subwords, tokenise to a store; found again by a fingerprint of its inputs."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from training.data.cleaning import FilterReport, FilterSettings, clean_pairs
from training.data.parallel_text import CorpusFiles, Pair, read_pairs
from training.data.subwords import Subwords, SubwordSettings, train_subwords
from training.data.token_store import EncodedPair, TokenStore, open_store, write_store

logger = logging.getLogger(__name__)

_ENCODE_LINES = 4096


@dataclass(frozen=True)
class CorpusSettings:
    """Everything that decides what the token store of a corpus holds.

    Attributes:
        files: The raw text.
        weights: Expected copies of a pair per pass by label; other labels are left out. None keeps all, once each.
        filters: Limits on raw pairs.
        max_tokens: Longest side in pieces.
        subwords: How the SentencePiece models are trained.
    """

    files: CorpusFiles
    weights: dict[str, float] | None
    filters: FilterSettings
    max_tokens: int
    subwords: SubwordSettings


@dataclass(frozen=True)
class PreparedCorpus:
    """A corpus ready for training; `source` and `target` are the same object if subwords are shared."""

    source: Subwords
    target: Subwords
    store: TokenStore


def fingerprint(settings: CorpusSettings) -> str:
    """Hash the settings with name, size and time of every input file; 16 hexadecimal digits."""
    stats = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in settings.files.paths if p.is_file()]
    described = json.dumps([asdict(settings), stats], sort_keys=True, default=str)
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def _kept_pairs(settings: CorpusSettings, report: FilterReport) -> Iterator[Pair]:
    labels = None if settings.weights is None else frozenset(k for k, w in settings.weights.items() if w > 0)
    return clean_pairs(read_pairs(settings.files), settings.filters, labels, report)


def sample_pairs(settings: CorpusSettings, seed: int = 0) -> list[Pair]:
    """Draw pairs for subword training, labels weighted as in training, by reservoir sampling in one pass."""
    draw, sample, seen = random.Random(seed), list[Pair](), 0
    weights = settings.weights
    for pair in _kept_pairs(settings, FilterReport()):
        if weights is not None and draw.random() >= weights[pair.label]:
            continue
        seen += 1
        if len(sample) < settings.subwords.sample_lines:
            sample.append(pair)
        elif (place := draw.randrange(seen)) < len(sample):
            sample[place] = pair
    return sample


def _train(settings: CorpusSettings, seed: int) -> tuple[bytes, bytes]:
    pairs, threads = sample_pairs(settings, seed), os.cpu_count() or 1
    logger.info("training SentencePiece on %d pairs", len(pairs))
    if settings.subwords.shared:
        both = (text for pair in pairs for text in (pair.source, pair.target))
        model = train_subwords(both, settings.subwords, threads)
        return model, model
    source = train_subwords((p.source for p in pairs), settings.subwords, threads)
    return source, train_subwords((p.target for p in pairs), settings.subwords, threads)


def encode_pairs(
    pairs: Iterable[Pair],
    source: Subwords,
    target: Subwords,
    max_tokens: int,
    label_index: dict[str, int],
    report: FilterReport,
) -> Iterator[EncodedPair]:
    """Stream token ids; pairs with a side longer than `max_tokens` pieces are dropped and counted."""
    stream = iter(pairs)
    while chunk := list(islice(stream, _ENCODE_LINES)):
        sources, targets = source.encode([p.source for p in chunk]), target.encode([p.target for p in chunk])
        for pair, left, right in zip(chunk, sources, targets, strict=True):
            if 0 < len(left) <= max_tokens and 0 < len(right) <= max_tokens:
                yield EncodedPair(left, right, label_index[pair.label])
                continue
            report.kept -= 1
            report.removed["too_many_tokens" if left and right else "empty"] += 1


def prepare_corpus(settings: CorpusSettings, cache: Path, seed: int = 0) -> PreparedCorpus:
    """Return the prepared corpus, from the cache if these very inputs were prepared before.

    Args:
        settings: What to prepare.
        cache: Directory of prepared corpora; each lies in a directory named by its fingerprint.
        seed: For the sample that subwords are trained on.

    Raises:
        DataError: If the corpus cannot be read, or nothing is left of it.
    """
    directory = cache / fingerprint(settings)
    directory.mkdir(parents=True, exist_ok=True)
    store = directory / "store"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of the processes of a run the first prepares, the others wait
        source, target = _subwords(settings, directory, seed)
        if not store.is_dir():
            _build_store(settings, source, target, store)
    return PreparedCorpus(source, target, open_store(store))


def _subwords(settings: CorpusSettings, directory: Path, seed: int) -> tuple[Subwords, Subwords]:
    models = {side: directory / f"{side}.spm" for side in ("source", "target")}
    if not all(path.is_file() for path in models.values()):
        for path, model in zip(models.values(), _train(settings, seed), strict=True):
            partial = path.with_suffix(".partial")
            partial.write_bytes(model)
            partial.replace(path)
    source = Subwords(models["source"].read_bytes())
    return source, source if settings.subwords.shared else Subwords(models["target"].read_bytes())


def _build_store(settings: CorpusSettings, source: Subwords, target: Subwords, directory: Path) -> None:
    report, facts = FilterReport(), dict[str, Any]()
    names = ("",) if settings.weights is None else tuple(sorted(settings.weights))
    index = {name: i for i, name in enumerate(names)}

    def pairs() -> Iterator[EncodedPair]:
        kept = _kept_pairs(settings, report)
        unlabelled = kept if settings.weights is not None else (Pair(p.source, p.target) for p in kept)
        yield from encode_pairs(unlabelled, source, target, settings.max_tokens, index, report)
        facts["filters"] = report.summary()
        logger.info("%s", report.summary())

    write_store(directory, pairs(), vocab_size=max(source.size, target.size), label_names=names, facts=facts)
