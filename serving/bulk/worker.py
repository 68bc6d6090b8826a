"""What runs on every worker: the engine in the worker's own process, block after block."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.bulk.blocks import Block, read
from serving.bulk.job import Job
from serving.bundle.bundle import load_bundle
from serving.bundle.tokenizer import SubwordTokenizer
from serving.engine.engine import Engine
from serving.engine.request import TranslationRequest
from serving.engine.scheduler import EngineLimits
from serving.engine.translator import Translator
from serving.engine.validation import ServingLimits
from serving.errors import DragomanError
from serving.messages import Options
from serving.runtime.onnx_runner import OnnxRunner

_LINES_IN_FLIGHT = 1024  # enough to keep the grid full, and no more of a block than that in the engine's queue
_ANY = 1 << 30  # nobody else waits: the block itself is the limit of the queue


@dataclass(frozen=True)
class WorkerSettings:
    """How a worker translates.

    Attributes:
        bundle: Directory of the bundle, where every worker finds it.
        precision: Which of its graphs to run.
        device: ``cpu``, ``cuda`` or ``auto``.
        threads: Of the model's operators.
        options: Of every line.
    """

    bundle: Path
    precision: str
    device: str
    threads: int
    options: Options


class BlockTranslator:
    """Translates blocks of a job; Ray makes one in each worker process."""

    def __init__(self, job: Job, settings: WorkerSettings) -> None:
        """Loads the bundle.

        Raises:
            StartupError: It cannot be served.
        """
        self._job = job
        self._options = settings.options
        bundle = load_bundle(settings.bundle)
        manifest = bundle.manifest
        tokenizer = SubwordTokenizer.read(
            manifest.tokenizer,
            lambda file: bundle.path(file).read_bytes(),
            special_ids=manifest.special_ids,
            reverse_source=manifest.reverse_source,
        )
        self._engine = Engine(
            OnnxRunner.open(bundle, precision=settings.precision, device=settings.device, threads=settings.threads),
            special_ids=manifest.special_ids,
            vocabulary_size=manifest.vocabulary_size,
            limits=EngineLimits(queue_sentences=_ANY, queue_tokens=_ANY),
        )
        limits = ServingLimits(max_parts=_ANY)
        self._translator = Translator(manifest, tokenizer, self._engine, limits=limits)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Translates one block unless it is done, which it is if a worker died just after it had written it.

        Args:
            row: The fields of a :class:`Block`.

        Returns:
            The same, with the number of lines that failed.
        """
        block = Block(**{name: int(value) for name, value in row.items()})
        if not self._job.is_done(block):
            translations, failures = asyncio.run(self._translate(block))
            self._job.write(block, translations, failures)
        return dict(row)

    def close(self) -> None:
        """Ends the engine; Ray just ends the process."""
        self._translator.close()
        self._engine.stop()

    async def _translate(self, block: Block) -> tuple[list[str], dict[int, str]]:
        places = asyncio.Semaphore(_LINES_IN_FLIGHT)
        failures: dict[int, str] = {}

        async def translate(number: int, text: str | None) -> str:
            if text is None:
                failures[number] = "not valid UTF-8; convert the input to UTF-8"
                return ""
            async with places:
                try:
                    result = await self._translator.translate(TranslationRequest((text,), self._options))
                except DragomanError as error:
                    failures[number] = str(error)
                    return ""
            return result.translations[0].hypotheses[0].text

        lines = enumerate(read(self._job.source, block), block.first_line)
        translations = await asyncio.gather(*(translate(number, text) for number, text in lines))
        return translations, failures
