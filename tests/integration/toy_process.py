"""``python -m tests.integration.toy_process``: the real command over the toy model, slow enough to be interrupted."""

from __future__ import annotations

import os
import sys
import time

import serving.cli
from serving.api.loading import served
from serving.api.models import ModelRegistry
from serving.config import ServerConfig
from serving.engine.threads import Threads
from serving.observability.metrics import Metrics
from serving.opening import OpenModel
from tests.integration.toy_server import toy_manifest, toy_runner, toy_tokenizer


def load_toy(config: ServerConfig, registry: ModelRegistry, metrics: Metrics) -> None:
    """Stands in for what loads bundles; ``TOY_LOAD_SECONDS`` and ``TOY_STEP_SECONDS`` say how long things take."""
    time.sleep(float(os.environ.get("TOY_LOAD_SECONDS", "0")))
    runner = toy_runner(toy_manifest())
    step_seconds = float(os.environ.get("TOY_STEP_SECONDS", "0.03"))
    runner.before_step = lambda: time.sleep(step_seconds)
    registry.add(
        served(
            OpenModel(toy_manifest(), toy_tokenizer(), Threads(runner), "fp32", "cpu"), config=config, metrics=metrics
        )
    )


if __name__ == "__main__":
    setattr(serving.cli, "load_models", load_toy)  # noqa: B010 - mypy holds the name for private to the module
    sys.exit(serving.cli.main())
