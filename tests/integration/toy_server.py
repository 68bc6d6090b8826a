"""A real server on loopback over the toy model: all but ONNX Runtime and SentencePiece is what production runs."""

from __future__ import annotations

import asyncio
import io
import string
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc import aio
from sentencepiece import SentencePieceTrainer

from serving.api.loading import served
from serving.api.server import Server
from serving.bundle.manifest import Manifest
from serving.bundle.tokenizer import SubwordTokenizer
from serving.config import ServerConfig
from serving.engine.threads import Threads
from serving.opening import OpenModel
from serving.pb import translation_service_pb2 as pb
from serving.pb.translation_service_pb2_grpc import TranslationServiceStub
from tests.toy_runner import ToyModel, ToyRunner

if TYPE_CHECKING:
    from serving.pb.translation_service_pb2_grpc import TranslationServiceAsyncStub

PAD, UNK, BOS, EOS = 0, 1, 2, 3
VOCABULARY_SIZE = 80
NAN_TEXT = "#"  # the toy model has no probabilities for it
Detail = TypeVar("Detail", bound=Message)
_HASH = "0" * 64


def toy_manifest(name: str = "toy", version: int = 1, source: str = "en", target: str = "fr") -> Manifest:
    """The manifest of a bundle that would hold the toy model."""
    graph = {"file": "graph.onnx", "inputs": (), "outputs": ()}
    verification = {
        "created": "2026-01-02T03:04:05Z",
        "versions": {"onnxruntime": "1"},
        "shapes_checked": 4,
        "max_abs_log_prob_difference": 1e-5,
        "sentences": 500,
        "greedy_equal_ratio": 1.0,
        "beam_equal_ratio": 0.998,
        "beam_size": 4,
        "reference_bleu": 41.5,
    }
    precision = {"devices": ["cpu"], "encoder": graph, "decoder": graph, "memory": [], "state": []}
    return Manifest.model_validate(
        {
            "format_version": 2,
            "name": name,
            "version": version,
            "source_language": source,
            "target_language": target,
            "architecture": {"family": "toy", "sizes": {"layers": 2, "norm": "pre", "dropout": 0.1, "tied": True}},
            "vocabulary_size": VOCABULARY_SIZE,
            "special_ids": {"pad": PAD, "unk": UNK, "bos": BOS, "eos": EOS, "decoder_start": BOS},
            "limits": {"max_source_tokens": 60, "max_target_tokens": 80},
            "tokenizer": {"source": "spm.model", "target": "spm.model"},
            "defaults": {"beam_size": 2, "length_penalty": 0.5},
            "precisions": {"fp32": {**precision, "verification": verification}},
            "files": {"graph.onnx": _HASH, "spm.model": _HASH},
        }
    )


@cache
def toy_sentencepiece() -> bytes:
    """A SentencePiece model of single characters, so that a test can count tokens."""
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([f"{string.ascii_letters} {string.digits} .,!?#'-"]),
        model_writer=model,
        model_type="char",
        vocab_size=VOCABULARY_SIZE,
        hard_vocab_limit=False,
        character_coverage=1.0,
        add_dummy_prefix=False,
        pad_id=PAD,
        unk_id=UNK,
        bos_id=BOS,
        eos_id=EOS,
        minloglevel=2,
    )
    return model.getvalue()


def toy_tokenizer() -> SubwordTokenizer:
    """The tokenizer that the toy bundle would hold."""
    return SubwordTokenizer(toy_sentencepiece(), toy_sentencepiece(), special_ids=toy_manifest().special_ids)


def toy_runner(manifest: Manifest) -> ToyRunner:
    """A runner that copies what it reads, so surely that no beam finds something better."""
    (nan_token,) = toy_tokenizer().encode_prefix(NAN_TEXT)
    return ToyRunner(ToyModel(toy_tokenizer().target_size, manifest.special_ids, nan_token=nan_token, peak=16.0))


@dataclass
class Toy:
    """A toy server and everything a test wants to look at or hold up."""

    config: ServerConfig
    server: Server
    channel: aio.Channel
    runners: dict[str, ToyRunner] = field(default_factory=dict)

    @property
    def stub(self) -> TranslationServiceAsyncStub:
        """A client of it."""
        return TranslationServiceStub(self.channel)

    @property
    def runner(self) -> ToyRunner:
        """The only model's runner."""
        (runner,) = self.runners.values()
        return runner

    def add(self, manifest: Manifest) -> ToyRunner:
        """Loads a toy model into the server."""
        runner = toy_runner(manifest)
        model = served(
            OpenModel(manifest, toy_tokenizer(), Threads(runner), "fp32", "cpu"),
            config=self.config,
            metrics=self.server.metrics,
        )
        self.server.models.add(model)
        self.runners[model.label] = runner
        return runner

    @contextmanager
    def held(self, runner: ToyRunner | None = None) -> Iterator[Callable[[int], None]]:
        """Stops the model before its next step; the value lets a number of steps pass, the end of the block all."""
        runner = runner or self.runner
        permits, free = threading.Semaphore(0), threading.Event()

        def wait() -> None:
            while not (free.is_set() or permits.acquire(timeout=0.01)):
                pass

        runner.before_step = wait
        try:
            yield lambda steps: permits.release(steps)
        finally:
            free.set()

    def sample(self, name: str, **labels: str) -> float | None:
        """A metric's value."""
        return self.server.metrics.registry.get_sample_value(name, labels)


def toy_config(**changes: object) -> ServerConfig:
    """A configuration on free loopback ports."""
    values = {"models": Path("unused"), "listen": "127.0.0.1:0", "http": "127.0.0.1:0", "web": "", "max_contents": 16}
    return ServerConfig.model_validate(values | changes)


@asynccontextmanager
async def started(config: ServerConfig | None = None) -> AsyncIterator[Toy]:
    """A server that listens and loads: without a model, refusing calls."""
    config = config or toy_config()
    server = Server(config)
    try:
        await server.start()
        async with aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Toy(config, server, channel)
    finally:
        await server.stop()


@asynccontextmanager
async def serving(config: ServerConfig | None = None) -> AsyncIterator[Toy]:
    """A server with one toy model, ready."""
    async with started(config) as toy:
        toy.add(toy_manifest())
        await toy.server.serve()
        yield toy


async def eventually(condition: Callable[[], bool]) -> None:
    """Waits for something that another thread or task is about to do."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.002)


async def failure(call: aio.UnaryUnaryCall[Any, Any]) -> aio.AioRpcError:
    """Waits for a call that must fail."""
    try:
        await call
    except aio.AioRpcError as error:
        return error
    raise AssertionError("the call succeeded")


def trailing(error: aio.AioRpcError) -> dict[str, Any]:
    """What came with a failed call's status."""
    return dict(cast("Iterable[tuple[str, Any]]", error.trailing_metadata()))


def detail(error: aio.AioRpcError, kind: type[Detail]) -> Detail:
    """A google.rpc detail of a failed call."""
    status = status_pb2.Status.FromString(trailing(error)["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            return message
    raise AssertionError(f"{kind.__name__} is not among the details")


def request(*contents: str, **options: object) -> pb.TranslateRequest:
    """A request with decoding options."""
    return pb.TranslateRequest(contents=contents, options=pb.DecodingOptions(**options))  # type: ignore[arg-type]
