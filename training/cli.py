"""The ``dragoman-train`` command."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from training.errors import TrainingError

# Each is a module with `add_arguments(parser)` and `run(options)`, loaded only when it is asked for.
COMMANDS = {
    "distil": (
        "training.commands.distillation",
        "Train a student on a teacher's translations.",
    ),
    "evaluate": (
        "training.commands.evaluate",
        "Score a checkpoint, or translations in a file, on a test set.",
    ),
    "lexicon": ("training.commands.lexicon", "Write the words of a corpus that translate each other, to train on."),
    "attention": ("training.commands.attention_maps", "Draw what a model looks at while it translates a sentence."),
    "average": ("training.commands.checkpoint_averaging", "Average the weights of checkpoints of one run."),
}

EPILOG = "Other commands, each with --help of its own:\n" + "".join(
    f"  dragoman-train {name:10} {said}\n" for name, (_, said) in COMMANDS.items()
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the model that a configuration file describes, or run one of the other commands.

    Returns:
        The exit status: 0 when all is done, 1 for an error the user can mend, 130 when interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        if words and words[0] in COMMANDS:
            return _command(words[0], words[1:])
        return _train(words)
    except TrainingError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or 'the system'}: {error.strerror or error}.")
    except KeyboardInterrupt:
        return 130


def _fail(message: str) -> int:
    sys.stderr.write(f"dragoman-train: {message}\n")
    return 1


def _command(name: str, words: Sequence[str]) -> int:
    module, said = COMMANDS[name]
    command = import_module(module)
    parser = argparse.ArgumentParser(prog=f"dragoman-train {name}", description=said)
    command.add_arguments(parser)
    # Overrides may stand before or after options.
    command.run(parser.parse_intermixed_args(words))
    return 0


def _train(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="dragoman-train",
        description="Train a translation model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, help="YAML configuration file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as trainer.max_steps=1000")
    options = parser.parse_args(words)
    # Imported late: a wrong configuration is reported at once, without waiting for the training stack.
    from training.config import load_config

    config = load_config(options.config, options.overrides)
    from training.run import run

    run(config)
    return 0
