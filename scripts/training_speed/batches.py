"""Batches that every trainer is timed on: real text, prepared as by ``dragoman-train``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from training.checkpoint import vocabulary_of
from training.config import TrainingConfig
from training.data.batches import Batch, BatchStream
from training.data.corpus import PreparedCorpus, prepare_corpus
from training.data.sampler import Position, TokenBatchSampler


@dataclass(frozen=True)
class Workload:
    """A prepared corpus and the first batches of its first pass, in memory."""

    corpus: PreparedCorpus
    batches: list[Batch]

    @property
    def target_tokens(self) -> list[int]:
        """Real target tokens of each batch, the end tokens included."""
        return [int(batch.mask.sum()) for batch in self.batches]


def prepare(config: TrainingConfig, steps: int, cache: Path) -> Workload:
    """Prepare the corpus of a configuration and one batch of it per step."""
    corpus = prepare_corpus(config.corpus(), cache)
    sampler = TokenBatchSampler(corpus.store, corpus.copies, config.batch, config.seed)
    stream = BatchStream(corpus.store, sampler, vocabulary_of(corpus.source, corpus.target), Position())
    return Workload(corpus, list(islice(stream, steps)))


def moment() -> float:
    """Wait for the device; return the seconds of ``time.perf_counter``."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
