"""``dragoman-import``: a model of another toolkit in, verified bundle out."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from export.bundle import write_bundle
from export.command_line import add_bundle_arguments, bundle_options, fitting, report
from export.errors import ExportError
from export.precisions import SHORTLISTED
from export.readers import hub
from export.readers.kinds import kind_of
from serving.bundle.bundle import load_bundle
from serving.bundle.manifest import LANGUAGE_TAG, VerificationRecord
from training.data.parallel_text import CorpusFiles

# English sentences of a checkout; what is installed has none.
_SENTENCES = Path(__file__).parents[1] / "loadtests" / "service" / "sentences.txt"
_FEWEST_SENTENCES = 40


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 with every reason on standard error."""
    asked = _parser().parse_args(arguments)
    return report("dragoman-import", lambda: _import(asked))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dragoman-import",
        description="Reads a model of another toolkit, exports it to OUT/NAME/VERSION and verifies it against PyTorch.",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="directory or file of the model, or its name on the Hugging Face hub, such as Helsinki-NLP/opus-mt-en-de",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="directory of bundles")
    parser.add_argument("--name", required=True, help="name of the bundle, such as en-de")
    parser.add_argument(
        "--languages",
        nargs=2,
        metavar=("SOURCE", "TARGET"),
        help="BCP-47 tags, such as en de (default: what the model says, else the name if it is of two tags)",
    )
    parser.add_argument(
        "--sentences",
        type=Path,
        help=f"sentences in the source language to calibrate and verify on, one a line, plain or .gz; at least "
        f"{_FEWEST_SENTENCES} (default for English: those of the load tests)",
    )
    add_bundle_arguments(parser)
    return parser


def _import(asked: argparse.Namespace) -> dict[str, VerificationRecord]:
    if asked.references is not None and asked.sentences is None:
        raise ExportError("--references are translations of --sentences: give both, or neither")
    source = hub.fetch(asked.source) if hub.is_name(asked.source) else Path(asked.source)
    kind = kind_of(source)
    languages = asked.languages or kind.languages(source) or _of_name(asked.name)
    if languages is None:
        raise ExportError(f"{kind.name} does not say its languages: give them, such as --languages en de")
    if wrong := [tag for tag in languages if not re.fullmatch(LANGUAGE_TAG, tag)]:
        raise ExportError(f"{wrong[0]!r} is not a language tag such as en or pt-BR: give others with --languages")
    print(f"dragoman-import: {asked.source} is {kind.name}, {languages[0]} to {languages[1]}", file=sys.stderr)
    pairs = CorpusFiles(source=(sentences := _sentences(asked, languages[0])), target=asked.references or sentences)
    trained = kind.read(source, (languages[0], languages[1]))
    served = any(name in SHORTLISTED for name in asked.precisions)
    options = bundle_options(asked, trained.shortlist if served else None)
    evidence = fitting(
        trained,
        pairs.pairs(),
        (options.max_source_tokens, options.max_target_tokens),
        sentences=(_FEWEST_SENTENCES, asked.max_sentences),
        translated=asked.references is not None,
    )
    target = write_bundle(trained, asked.out, options, evidence)
    print(f"dragoman-import: wrote {target}", file=sys.stderr)
    precisions = load_bundle(target).manifest.precisions
    return {name: precision.verification for name, precision in precisions.items()}


def _of_name(name: str) -> tuple[str, str] | None:
    match = re.fullmatch(r"([a-z]{2,3})-([a-z]{2,3})", name)
    return (match[1], match[2]) if match else None


def _sentences(asked: argparse.Namespace, language: str) -> Path:
    """Return the file of sentences.

    Raises:
        ExportError: None is given, and there are none in this language.
    """
    if asked.sentences is not None:
        return Path(asked.sentences)
    if language.split("-")[0].lower() not in {"en", "eng"} or not _SENTENCES.is_file():
        raise ExportError(
            f"there are no sentences in {language} to calibrate and verify on: give a file with one a line, "
            f"{_FEWEST_SENTENCES} or more, with --sentences"
        )
    return _SENTENCES
