"""The worker's side: an engine in its own process, which translates block after block."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.bulk.blocks import Block, read
from serving.bulk.job import BulkJob
from serving.bundle.bundle import load_bundle
from serving.engine.request import TranslationRequest
from serving.engine.scheduler import EngineLimits
from serving.engine.validation import ServingLimits
from serving.errors import DragomanError
from serving.messages import Options
from serving.opening import UNLIMITED, open_model

_LINES_IN_FLIGHT = 1024  # enough to keep the grid full, and no more of a block than that in the engine's queue


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of every worker.

    Attributes:
        bundle: Directory of the bundle, the same on every worker.
        precision: One of the bundle's, or ``auto``.
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

    def __init__(self, job: BulkJob, settings: WorkerSettings) -> None:
        """Load the bundle.

        Raises:
            StartupError: The bundle cannot be served.
        """
        self._job = job
        self._options = settings.options
        bundle = load_bundle(settings.bundle)
        model = open_model(bundle, precision=settings.precision, device=settings.device, threads=settings.threads)
        self._model = model.start(
            engine_limits=EngineLimits(queue_sentences=UNLIMITED, queue_tokens=UNLIMITED),
            serving_limits=ServingLimits(max_parts=UNLIMITED, max_characters=UNLIMITED),
        )

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Translate one block unless it is done, as it is if a worker died just after writing it.

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
        """End the engine's threads; Ray just ends the process."""
        self._model.close()

    async def _translate(self, block: Block) -> tuple[list[str], dict[int, str]]:
        places = asyncio.Semaphore(_LINES_IN_FLIGHT)
        failures: dict[int, str] = {}

        async def translate(number: int, text: str | None) -> str:
            if text is None:
                failures[number] = "not valid UTF-8; convert the input to UTF-8"
                return ""
            async with places:
                try:
                    result = await self._model.translator.translate(TranslationRequest((text,), self._options))
                except DragomanError as error:
                    failures[number] = str(error)
                    return ""
            return result.translations[0].hypotheses[0].text

        lines = enumerate(read(self._job.source, block), block.first_line)
        translations = await asyncio.gather(*(translate(number, text) for number, text in lines))
        return translations, failures
