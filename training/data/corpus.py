"""Prepare a corpus once, in two stages that are found again by a fingerprint of all that decides them.

``clean-FINGERPRINT/`` holds the pairs that passed the filters (``pairs.tsv``) and the filters' counts
(``report.json``); ``tokens-FINGERPRINT/`` the tokenizers and the token store made of them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from training.data.alignment import align_store, fit_aligner
from training.data.augmentation import AugmentationSettings, augment
from training.data.cleaning import FilterReport, FilterSettings, clean_pairs
from training.data.corpora import Mixture, read_corpora
from training.data.directories import alone, complete_directory
from training.data.hub_dataset import HubDataset
from training.data.parallel_text import CorpusFiles, Pair
from training.data.token_store import EncodedPair, TokenStore, open_store, write_store
from training.data.tokenizer import Tokenizer, TokenizerSettings, load_tokenizer, train_tokenizers
from training.errors import DataError

_LOG = logging.getLogger(__name__)

_ENCODE_LINES = 4096


@dataclass(frozen=True)
class CorpusSettings:
    """Everything that decides what the token store of a corpus holds.

    Attributes:
        corpora: The raw text.
        languages: BCP-47 tags of source and target.
        mixture: How often the pairs of each label are seen; the sample that tokenizers are trained on follows it.
        filters: Limits on raw pairs.
        max_tokens: Longest side in tokens.
        tokenizer: How the tokenizers are made.
        seed: Of that sample, and of augmentation.
        augmentation: How pairs are changed before they are cut into tokens; None leaves them as they are.
        aligned_pairs: Pairs that an aligner is fitted to, which then aligns the store; None leaves it unaligned.
        aligned_share: How many of the pairs of the store then get links.
    """

    corpora: tuple[CorpusFiles | HubDataset, ...]
    languages: tuple[str, str]
    mixture: Mixture
    filters: FilterSettings
    max_tokens: int
    tokenizer: TokenizerSettings
    seed: int = 0
    augmentation: AugmentationSettings | None = None
    aligned_pairs: int | None = None
    aligned_share: float = 1.0

    @property
    def variants(self) -> int:
        """How many times the token store holds a pair, each time changed in other places."""
        return 1 if self.augmentation is None else self.augmentation.variants

    def variant(self, number: int, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Stream one variant of the cleaned pairs."""
        if self.augmentation is None:
            return iter(pairs)
        return augment(pairs, self.augmentation, self.filters.max_words, f"{self.seed} {number}")


@dataclass(frozen=True)
class CleanedText:
    """Pairs that passed the filters, on disk."""

    path: Path
    report: FilterReport

    def pairs(self) -> Iterator[Pair]:
        """Stream them."""
        with self.path.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                yield Pair(*line.rstrip("\n").split("\t"))


@dataclass(frozen=True)
class PreparedCorpus:
    """A corpus ready for training; ``source`` and ``target`` are the same object if the tokenizer is shared.

    Attributes:
        source: Tokenizer of the source language.
        target: Tokenizer of the target language.
        store: Token ids of every pair.
        copies: By label, the expected number of copies of its rows of the store in a pass.
        text: The pairs as text, before augmentation.
    """

    source: Tokenizer
    target: Tokenizer
    store: TokenStore
    copies: dict[str, float]
    text: CleanedText


def _fingerprint(*parts: Any) -> str:
    described = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def clean_fingerprint(settings: CorpusSettings) -> str:
    """Hash of what decides the cleaned text; 16 hexadecimal digits."""
    corpora = [(asdict(corpus), corpus.identity()) for corpus in settings.corpora]
    labels = settings.mixture.labels
    return _fingerprint(
        corpora, asdict(settings.filters), settings.languages, None if labels is None else sorted(labels)
    )


def token_fingerprint(settings: CorpusSettings) -> str:
    """Hash of what decides tokenizers and token store; 16 hexadecimal digits."""
    path = settings.tokenizer.path
    trained = hashlib.sha256(path.read_bytes()).hexdigest() if path is not None and path.is_file() else None
    # How text is cut in training is decided at every step anew, so `sampling` changes nothing here.
    tokenizer = {k: v for k, v in asdict(settings.tokenizer).items() if k not in {"path", "sampling"}}
    augmentation = [] if settings.augmentation is None else [asdict(settings.augmentation)]
    return _fingerprint(
        clean_fingerprint(settings),
        asdict(settings.mixture),
        tokenizer,
        trained,
        settings.max_tokens,
        settings.seed,
        *augmentation,
    )


def clean_corpus(settings: CorpusSettings, cache: Path) -> CleanedText:
    """Filter the raw text, or find it filtered before.

    Raises:
        DataError: If a corpus cannot be read, or nothing is left.
    """
    place = cache / f"clean-{clean_fingerprint(settings)}"
    if not place.is_dir():
        report = FilterReport()
        raw = read_corpora(settings.corpora)
        with complete_directory(place) as partial:
            with (partial / "pairs.tsv").open("w", encoding="utf-8", newline="\n") as lines:
                for pair in clean_pairs(raw, settings.filters, settings.languages, settings.mixture.labels, report):
                    lines.write(f"{pair.source}\t{pair.target}\t{pair.label}\n")
            _LOG.info("%s", report.summary())
            if report.kept == 0:
                raise DataError(f"no pair of the corpus is left ({report.summary()}); loosen the filters.")
            (partial / "report.json").write_text(json.dumps(vars(report), indent=1), encoding="utf-8")
    found = json.loads((place / "report.json").read_text(encoding="utf-8"))
    report = FilterReport(found["read"], found["kept"], Counter(found["removed"]), Counter(found["labels"]))
    return CleanedText(place / "pairs.tsv", report)


def sample_pairs(pairs: Iterable[Pair], copies: dict[str, float], count: int, seed: int) -> list[Pair]:
    """Draw pairs, labels weighted as in training, by reservoir sampling in one pass."""
    draw, sample, seen = random.Random(seed), list[Pair](), 0
    for pair in pairs:
        if draw.random() >= copies[pair.label]:
            continue
        seen += 1
        if len(sample) < count:
            sample.append(pair)
        elif (place := draw.randrange(seen)) < len(sample):
            sample[place] = pair
    return sample


def encode_pairs(
    pairs: Iterable[Pair],
    source: Tokenizer,
    target: Tokenizer,
    max_tokens: int,
    label_index: dict[str, int],
    removed: Counter[str],
) -> Iterator[EncodedPair]:
    """Stream token ids; pairs with a side that is empty or longer than ``max_tokens`` are dropped and counted."""
    stream = iter(pairs)
    while chunk := list(islice(stream, _ENCODE_LINES)):
        sources, targets = source.encode([p.source for p in chunk]), target.encode([p.target for p in chunk])
        for pair, left, right in zip(chunk, sources, targets, strict=True):
            if 0 < len(left) <= max_tokens and 0 < len(right) <= max_tokens:
                yield EncodedPair(left, right, label_index[pair.label])
            else:
                removed["too_many_tokens" if left and right else "empty"] += 1


def prepare_corpus(settings: CorpusSettings, cache: Path) -> PreparedCorpus:
    """Return the prepared corpus, from the cache if these very inputs were prepared before.

    Args:
        settings: What to prepare.
        cache: Directory of prepared corpora.

    Raises:
        DataError: If the corpus cannot be read, or nothing is left of it.
    """
    with alone(cache):
        text = clean_corpus(settings, cache)
        copies = settings.mixture.copies(text.report.labels)
        place = cache / f"tokens-{token_fingerprint(settings)}"
        if not place.is_dir():
            with complete_directory(place) as partial:
                _tokenize(text, copies, settings, partial)
        source = load_tokenizer((place / "source.tokenizer").read_bytes())
        target = source if settings.tokenizer.shared else load_tokenizer((place / "target.tokenizer").read_bytes())
        store = open_store(place / "store")
        if settings.aligned_pairs is not None:
            store = _aligned(store, source, target, settings, place)
    per_row = {label: number / settings.variants for label, number in copies.items()}
    return PreparedCorpus(source, target, store, per_row, text)


def _aligned(
    store: TokenStore, source: Tokenizer, target: Tokenizer, settings: CorpusSettings, place: Path
) -> TokenStore:
    pairs, share = settings.aligned_pairs or len(store), settings.aligned_share
    links = place / f"links-{pairs}-{share:g}"
    if not links.is_file():
        aligner = fit_aligner(store, (source.size, target.size), pairs, shared=source is target)
        partial = links.with_suffix(".partial")
        align_store(store, aligner, partial, share)
        partial.rename(links)
    return store.with_links(links)


def _tokenize(text: CleanedText, copies: dict[str, float], settings: CorpusSettings, directory: Path) -> None:
    # Characters that occur only in what augmentation makes up shall be bytes, not pieces.
    augmentation = settings.augmentation and settings.augmentation.without_inventions()
    read = replace(settings, augmentation=augmentation).variant(0, text.pairs())
    sample = sample_pairs(read, copies, settings.tokenizer.sample_lines, settings.seed)
    _LOG.info("tokenizers are made of %d pairs", len(sample))
    models = train_tokenizers(sample, settings.tokenizer)
    for side, model in zip(("source", "target"), models, strict=True):
        (directory / f"{side}.tokenizer").write_bytes(model)
    source, target = map(load_tokenizer, models)
    removed, names = Counter[str](), tuple(sorted(text.report.labels))
    index = {name: i for i, name in enumerate(names)}
    variants = chain.from_iterable(settings.variant(number, text.pairs()) for number in range(settings.variants))
    pairs = encode_pairs(variants, source, target, settings.max_tokens, index, removed)
    size = max(source.size, target.size)
    write_store(directory / "store", pairs, vocab_size=size, label_names=names, removed=removed)
    if removed:
        _LOG.info("removed by length in tokens: %s", dict(removed))
