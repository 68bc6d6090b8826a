"""Loading of bundles on disk into served models."""

from __future__ import annotations

import logging
import time
from functools import partial
from pathlib import Path

from serving.api.models import ModelRegistry, ServedModel
from serving.bundle.bundle import MANIFEST_FILE, load_bundle
from serving.config import ServerConfig
from serving.engine.scheduler import EngineLimits
from serving.engine.validation import ServingLimits
from serving.errors import StartupError
from serving.observability.json_logs import set_up_logs
from serving.observability.metrics import Metrics, ModelMetrics
from serving.opening import OpenModel, open_model, open_processes
from serving.runtime.parallelism import suitable_threads, suitable_workers
from serving.runtime.placement import placements
from serving.runtime.session import has_cuda

_LOG = logging.getLogger(__name__)
_STOP_SECONDS = 10.0  # for the step that is running when an engine is told to end


def load_models(config: ServerConfig, registry: ModelRegistry, metrics: Metrics) -> None:
    """Load every bundle in the directory of models.

    Raises:
        StartupError: There is no bundle, or some cannot be served; lists every problem.
    """
    problems = []
    for directory in bundle_directories(config.models):
        started = time.monotonic()
        try:
            model = load_model(directory, config, metrics)
        except StartupError as error:
            problems.append(str(error))
            continue
        registry.add(model)
        seconds = round(time.monotonic() - started, 3)
        _LOG.info("loaded", extra={"model": model.label, "device": model.device, "seconds": seconds})
    if problems:
        raise StartupError("; ".join(problems))


def bundle_directories(models: Path) -> list[Path]:
    """Return every ``NAME/VERSION`` directory with a manifest; hidden ones are exports in progress.

    Raises:
        StartupError: There is no such directory.
    """
    found = sorted(path.parent for path in models.glob(f"[!.]*/[!.]*/{MANIFEST_FILE}"))
    if not found:
        raise StartupError(f"no NAME/VERSION/{MANIFEST_FILE} in {models}; give --models a directory of bundles")
    return found


def served(model: OpenModel, *, config: ServerConfig, metrics: Metrics) -> ServedModel:
    """Start a model with the limits of the configuration."""
    manifest = model.manifest
    limits = ServingLimits(
        max_beam_size=config.max_beam,
        max_parts=config.max_queue_sentences,
        max_contents=config.max_contents,
        max_characters=config.max_characters,
    )
    running = model.start(
        engine_limits=EngineLimits(
            queue_sentences=config.max_queue_sentences,
            queue_tokens=config.max_queue_tokens,
            running_tokens=config.max_running_tokens,
            rows=config.max_rows,
            workers=config.workers or 1,
            run_seconds=config.run_timeout,
        ),
        serving_limits=limits,
        observer=ModelMetrics(metrics, f"{manifest.name}/{manifest.version}"),
    )
    return ServedModel(
        manifest=manifest,
        precision=model.precision,
        device=model.device,
        limits=limits,
        translator=running.translator,
        snapshot=running.engine.snapshot,
        close=lambda: running.close(_STOP_SECONDS),
    )


def load_model(directory: Path, config: ServerConfig, metrics: Metrics) -> ServedModel:
    """Load one bundle and start its model.

    Raises:
        StartupError: It cannot be served; lists every problem.
    """
    bundle = load_bundle(directory)
    manifest = bundle.manifest
    if (directory.parent.name, directory.name) != (manifest.name, str(manifest.version)):
        raise StartupError(f"{directory} holds {manifest.name}/{manifest.version}; name the directories like the model")
    workers = config.workers or suitable_workers(bundle.nbytes)
    threads = config.threads or suitable_threads(workers)
    (device, precision), *_ = placements(manifest, precision=config.precision, device=config.device, cuda=has_cuda())
    if device == "cpu":
        set_up = partial(set_up_logs, config.log_level)
        model = open_processes(bundle, precision=precision, threads=threads, set_up=set_up)
    else:  # the search takes its turns with the device, and one process is enough for that
        model = open_model(bundle, precision=config.precision, device=config.device, threads=threads)
        workers = workers if model.device == "cpu" else config.workers or 1
    return served(model, config=config.model_copy(update={"workers": workers}), metrics=metrics)
