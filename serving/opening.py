"""The way from a bundle to translations: tokenizer, runner, engine, translator, put together here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from serving.bundle.bundle import Bundle
from serving.bundle.manifest import Manifest, SpecialIds, Tokenizer
from serving.bundle.tokenizer import SubwordTokenizer
from serving.engine.engine import Engine
from serving.engine.observer import Observer
from serving.engine.processes import Processes
from serving.engine.scheduler import EngineLimits
from serving.engine.threads import Threads
from serving.engine.translator import Translator
from serving.engine.validation import ServingLimits
from serving.engine.workers import WorkerKind
from serving.runtime.onnx_runner import OnnxRunner
from serving.runtime.runner import Runner

UNLIMITED = 1 << 30  # of a queue that nobody else waits in


@dataclass(frozen=True)
class OpenModel:
    """A model that can run.

    Attributes:
        manifest: Of its bundle.
        tokenizer: Text to token ids and back.
        workers: Threads around its graphs, or processes that load them.
        precision: Key of ``manifest.precisions`` that runs.
        device: Where it really runs: ``cpu`` or ``cuda``.
    """

    manifest: Manifest
    tokenizer: SubwordTokenizer
    workers: WorkerKind
    precision: str
    device: str

    def start(
        self,
        *,
        engine_limits: EngineLimits | None = None,
        serving_limits: ServingLimits | None = None,
        observer: Observer | None = None,
    ) -> RunningModel:
        """Put the model behind an engine of its own.

        Raises:
            StartupError: It cannot be loaded.
        """
        engine = Engine(self.workers, limits=engine_limits, observer=observer, name=self.manifest.label)
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
    """Load a bundle into this process; the options are those of :meth:`OnnxRunner.open`.

    Raises:
        StartupError: The bundle cannot be served with these options.
    """
    tokenizer = open_tokenizer(bundle)
    runner = OnnxRunner.open(bundle, precision=precision, device=device, threads=threads)
    again = _opener(bundle, runner.precision_name, runner.device, threads)
    return OpenModel(bundle.manifest, tokenizer, Threads(runner, again), runner.precision_name, runner.device)


def open_processes(
    bundle: Bundle, *, precision: str, threads: int, set_up: Callable[[], object] | None = None
) -> OpenModel:
    """Prepare a bundle for processes, each of which loads it on the CPU.

    Args:
        bundle: What :func:`serving.bundle.bundle.load_bundle` returned.
        precision: One of the manifest's that runs on the CPU.
        threads: Threads of one operator; 0 takes one for each core.
        set_up: Called first in each process, if it is given; can be pickled.

    Raises:
        StartupError: The tokenizer cannot be loaded.
    """
    workers = Processes(_opener(bundle, precision, "cpu", threads), set_up)
    return OpenModel(bundle.manifest, open_tokenizer(bundle), workers, precision, "cpu")


def _opener(bundle: Bundle, precision: str, device: str, threads: int) -> Callable[[], OnnxRunner]:
    return partial(OnnxRunner.open_again, bundle.directory, bundle.manifest, precision, device, threads)


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
    limits = EngineLimits(queue_sentences=UNLIMITED, queue_tokens=UNLIMITED, workers=workers)
    return Engine(Threads(runner), limits=limits)
