"""What the tests of engine and translator stand on: a toy engine, a gate before its steps, and a tiny tokenizer."""

from __future__ import annotations

import functools
import io
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import sentencepiece

from serving.bundle.manifest import Manifest, SpecialIds
from serving.bundle.tokenizer import SubwordTokenizer
from serving.decoding.options import DecodingOptions
from serving.engine.engine import Engine
from serving.engine.observer import DropReason, Observer, Outcome, RejectReason
from serving.engine.scheduler import EngineLimits
from serving.engine.submission import Decoded, Sentence
from serving.engine.threads import Threads
from serving.messages import FinishReason, QualityFlag, Sampling
from tests.toy_runner import ToyModel, ToyRunner

PAD, UNK, BOS, EOS = 0, 1, 2, 3
IDS = SpecialIds(pad=PAD, unk=UNK, bos=BOS, eos=EOS, decoder_start=BOS)
VOCABULARY = 60
NAN_TOKEN = 59
MODEL = ToyModel(VOCABULARY, IDS, nan_token=NAN_TOKEN)
PATIENCE = 30  # seconds until a test that waits for another thread gives up
CORPUS = """The cat sat on the mat. I drink milk, and the dog drinks water. Where is the train station?
A man in a blue shirt is standing on a ladder. She said: "Yes, of course!" We don't know what it is.
Le chat dort sur le tapis. L'eau est froide. Où est la gare ? Il fait beau aujourd'hui, n'est-ce pas ?
Ein Hund läuft durch den Wald; die Katze schläft. 1 2 3 4 5 6 7 8 9 10 11 12 2026 ( ) - ' … é ü ß"""


class Gate:
    """Holds the engine's thread before each step until a test lets it through."""

    def __init__(self) -> None:
        self._arrived, self._permits = threading.Semaphore(0), threading.Semaphore(0)
        self._open = False
        self._error: BaseException | None = None

    def __call__(self) -> None:
        self._arrived.release()
        if not self._open and not self._permits.acquire(timeout=PATIENCE):
            raise TimeoutError("nobody let the step through")
        if self._open:
            self._permits.release()  # there may be other workers at the gate
        error, self._error = self._error, None
        if error:
            raise error

    def reached(self) -> None:
        """Waits until the engine stands before its next step."""
        assert self._arrived.acquire(timeout=PATIENCE)

    def let(self) -> None:
        """Lets one step through."""
        self._permits.release()

    def fail(self, error: BaseException) -> None:
        """Makes the step that stands at the gate raise."""
        self._error = error
        self._permits.release()

    def open(self) -> None:
        """Lets every step through from now on."""
        self._open = True
        self._permits.release()


class Clock:
    """A clock that a test moves, or that shows the real time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.real = False

    def __call__(self) -> float:
        return time.monotonic() if self.real else self.now


@dataclass
class Recorder(Observer):
    """Counts what the engine reports."""

    counts: Counter[object] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)  # workers and callers report at the same time
    freed_after: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def submitted(self, sentences: int, source_tokens: int) -> None:
        self.counts["submitted"] += sentences

    def rejected(self, sentences: int, reason: RejectReason) -> None:
        self.counts["rejected", reason] += sentences

    def dropped(self, reason: DropReason) -> None:
        with self.lock:
            self.counts["dropped", reason] += 1

    def admitted(self, queue_seconds: float) -> None:
        with self.lock:
            self.counts["admitted"] += 1

    def encoded(self, seconds: float, sources: int, tokens: int, padding: int) -> None:
        with self.lock:
            self.counts["encoded sources"] += sources
            self.counts["encoded tokens"] += tokens

    def stepped(self, seconds: float, host_seconds: float, slots: int, beam: int) -> None:
        assert 0 <= host_seconds <= seconds
        with self.lock:
            self.counts["rows"] += slots * beam

    def first_token(self, seconds: float) -> None:
        self.counts["first token"] += 1

    def freed(self, steps: int) -> None:
        self.freed_after.append(steps)

    def restarted(self) -> None:
        self.counts["restarted"] += 1

    def finished(self, outcome: Outcome, finish_reason: FinishReason | None, target_tokens: int) -> None:
        with self.lock:
            self.counts[outcome] += 1

    def tokenized(self, seconds: float, source_lengths: Sequence[int]) -> None:
        self.lengths += source_lengths

    def detokenized(self, seconds: float) -> None:
        self.counts["detokenized"] += 1

    def flagged(self, flag: QualityFlag) -> None:
        self.counts[flag] += 1


@dataclass
class Toy:
    """A running engine over the toy model."""

    engine: Engine
    runner: ToyRunner
    seen: Recorder
    clock: Clock

    @property
    def steps(self) -> list[tuple[int, int]]:
        return self.runner.counts.steps


@contextmanager
def toy_engine(model: ToyModel = MODEL, *, gate: Gate | None = None, **limits: int) -> Iterator[Toy]:
    """Runs a toy engine; a gate is opened at the end, and the thread ends with the block."""
    runner, seen, clock = ToyRunner(model), Recorder(), Clock()
    if gate:
        runner.before_step = gate
    engine = Engine(Threads(runner), limits=EngineLimits(**limits), observer=seen, clock=clock)
    try:
        yield Toy(engine, runner, seen, clock)
    finally:
        if gate:
            gate.open()
        engine.stop(PATIENCE)


def sentence(
    *tokens: int,
    beam: int = 1,
    max_length: int = 40,
    deadline: float | None = None,
    priority: int = 0,
    sampling: Sampling | None = None,
    n_best: int = 1,
) -> Sentence:
    """A sentence of these tokens."""
    options = DecodingOptions(max_length=max_length, beam_size=beam, n_best=n_best, sampling=sampling)
    return Sentence(np.array([*tokens, EOS]), options, deadline, priority, request_id=f"request-{tokens[0]}")


def tokens_of(future: Future[tuple[Decoded, ...]]) -> list[tuple[int, ...]]:
    """The best tokens of each sentence of a submission."""
    return [decoded.hypotheses[0].tokens for decoded in future.result(PATIENCE)]


def random_sentences(count: int, seed: int = 0) -> list[Sentence]:
    """Sentences of mixed length, beam size, constraints and sampling."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        beam = int(rng.choice([1, 1, 2, 4]))
        drawn = (
            Sampling(seed=int(rng.integers(99)), top_k=int(rng.integers(9)))
            if beam == 1 and rng.random() < 0.5
            else None
        )
        options = DecodingOptions(
            max_length=30,
            beam_size=beam,
            n_best=beam,
            length_penalty=float(rng.choice([0.0, 0.6, 1.0])),
            no_repeat_ngram_size=int(rng.choice([0, 0, 2])),
            repetition_penalty=float(rng.choice([1.0, 1.3])),
            sampling=drawn,
        )
        made.append(Sentence(np.r_[rng.integers(4, NAN_TOKEN, rng.integers(1, 20)), EOS], options))
    return made


@functools.cache
def subword_model(byte_fallback: bool = True) -> bytes:
    """A small SentencePiece model with the special ids above."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.splitlines()),
        model_writer=model,
        vocab_size=350 if byte_fallback else 100,
        character_coverage=1.0,
        byte_fallback=byte_fallback,
        pad_id=PAD,
        unk_id=UNK,
        bos_id=BOS,
        eos_id=EOS,
        minloglevel=2,
    )
    return model.getvalue()


def tokenizer(*, reverse_source: bool = False, byte_fallback: bool = True) -> SubwordTokenizer:
    model = subword_model(byte_fallback)
    return SubwordTokenizer(model, model, special_ids=IDS, reverse_source=reverse_source)


def manifest(max_source_tokens: int = 30, max_target_tokens: int = 100) -> Manifest:
    """The manifest of a bundle that would hold the toy model and that tokenizer."""
    graph = {"file": "graph.onnx", "inputs": (), "outputs": ()}
    verification = {
        "created": "2026-01-02T03:04:05Z",
        "versions": {},
        "shapes_checked": 4,
        "max_abs_log_prob_difference": 0.0,
        "sentences": 0,
        "greedy_equal_ratio": 1.0,
        "beam_equal_ratio": 1.0,
        "beam_size": 4,
    }
    attention = {"name": "attention", "dtype": "float32", "axes": ("slot", "beam", "src")}
    decoder = graph | {"outputs": (attention,)}
    precision = {"devices": ["cpu"], "encoder": graph, "decoder": decoder, "memory": [], "state": []}
    return Manifest.model_validate(
        {
            "format_version": 2,
            "name": "toy",
            "version": 1,
            "source_language": "en",
            "target_language": "fr",
            "architecture": {"family": "toy", "sizes": {}},
            "vocabulary_size": tokenizer().source_size,
            "special_ids": IDS.model_dump(),
            "limits": {"max_source_tokens": max_source_tokens, "max_target_tokens": max_target_tokens},
            "tokenizer": {"source": "spm.model", "target": "spm.model"},
            "precisions": {"fp32": {**precision, "verification": verification}},
            "files": {"graph.onnx": "0" * 64, "spm.model": "0" * 64},
        }
    )
