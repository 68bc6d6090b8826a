"""The `dragoman-train` command."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from training.config import load_config
from training.errors import TrainingError


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the model that a configuration file describes.

    Returns:
        The exit status: 0 when training has finished, 1 for an error the user can mend, 130 when interrupted.
    """
    parser = argparse.ArgumentParser(prog="dragoman-train", description="Train a translation model.")
    parser.add_argument("config", type=Path, help="YAML configuration file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as trainer.max_steps=1000")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        config = load_config(options.config, options.overrides)
        # Imported late: a wrong configuration is reported at once, without waiting for the training stack.
        from training.run import run

        run(config)
    except TrainingError as error:
        sys.stderr.write(f"dragoman-train: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
