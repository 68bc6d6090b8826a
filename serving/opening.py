"""The way from a bundle to translations: tokenizer, runner, engine, translator, put together here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from serving.bundle.bundle import Bundle, load_bundle
from serving.bundle.manifest import Manifest, SpecialIds, Tokenizer
from serving.bundle.tokenizer import SubwordTokenizer
from serving.engine.engine import Engine
from serving.engine.observer import Observer
from serving.engine.scheduler import EngineLimits
from serving.engine.translator import Translator
from serving.engine.validation import ServingLimits
from serving.errors import StartupError
from serving.runtime.onnx_runner import OnnxRunner
from serving.runtime.runner import Runner

UNLIMITED = 1 << 30  # of a queue that nobody else waits in


@dataclass(frozen=True)
class OpenModel:
    """A model in memory, not yet running.

    Attributes:
        manifest: Of its bundle.
        tokenizer: Text to token ids and back.
        runner: Its graphs.
        reopen: Loads the graphs again.
    """

    manifest: Manifest
    tokenizer: SubwordTokenizer
    runner: Runner
    reopen: Callable[[], Runner] | None = None

    def start(
        self,
        *,
        engine_limits: EngineLimits | None = None,
        serving_limits: ServingLimits | None = None,
        observer: Observer | None = None,
    ) -> RunningModel:
        """Put the model behind an engine of its own."""
        name = f"{self.manifest.name}/{self.manifest.version}"
        engine = Engine(self.runner, limits=engine_limits, observer=observer, name=name, reopen=self.reopen)
        translator = Translator(self.manifest, self.tokenizer, engine, limits=serving_limits, observer=observer)
        return RunningModel(engine, translator)


@dataclass(frozen=True)
class RunningModel:
    """A model that translates until it is closed."""

    engine: Engine
    translator: Translator

    def close(self, timeout: float | None = None) -> None:
        """End the threads of the engine, waiting up to ``timeout`` seconds for each, and of the tokenizer."""
        self.engine.stop(timeout)
        self.translator.close()


def open_model(bundle: Bundle, *, precision: str = "auto", device: str = "auto", threads: int = 0) -> OpenModel:
    """Load a bundle; the options are those of :meth:`OnnxRunner.open`.

    Raises:
        StartupError: The bundle cannot be served with these options.
    """
    tokenizer = open_tokenizer(bundle)
    runner = OnnxRunner.open(bundle, precision=precision, device=device, threads=threads)

    def reopen() -> OnnxRunner:
        again = load_bundle(bundle.directory)
        if again.manifest != bundle.manifest:
            raise StartupError(f"{bundle.directory} has changed since it was loaded; reload the model")
        return OnnxRunner.open(again, precision=runner.precision_name, device=runner.device, threads=threads)

    return OpenModel(bundle.manifest, tokenizer, runner, reopen)


def open_tokenizer(bundle: Bundle) -> SubwordTokenizer:
    """Load a bundle's tokenizer.

    Raises:
        StartupError: A file is not of the kind that the manifest names.
    """
    manifest = bundle.manifest
    return read_tokenizer(
        manifest.tokenizer,
        lambda file: bundle.path(file).read_bytes(),
        special_ids=manifest.special_ids,
        reverse_source=manifest.reverse_source,
    )


def read_tokenizer(
    files: Tokenizer, read: Callable[[str], bytes], *, special_ids: SpecialIds, reverse_source: bool = False
) -> SubwordTokenizer:
    """Load the files of a tokenizer, each read by its name.

    Raises:
        StartupError: A file is not of the kind that the manifest names.
    """
    return SubwordTokenizer(
        read(files.source),
        read(files.target),
        special_ids=special_ids,
        reverse_source=reverse_source,
        kind=files.kind,
        source_vocabulary=read(files.source_vocabulary) if files.source_vocabulary else None,
        target_vocabulary=read(files.target_vocabulary) if files.target_vocabulary else None,
        source_bos=files.source_bos,
        source_eos=files.source_eos,
    )


def offline_engine(runner: Runner, *, workers: int = 1) -> Engine:
    """Start an engine for token ids, with a queue that takes everything."""
    return Engine(runner, limits=EngineLimits(queue_sentences=UNLIMITED, queue_tokens=UNLIMITED, workers=workers))
