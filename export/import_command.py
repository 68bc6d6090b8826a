"""``dragoman-import``: a model of another toolkit in, verified bundle out."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from export.bundle import write_bundle
from export.command_line import add_bundle_arguments, add_shortlist_sizes, bundle_options, fitting, report
from export.errors import ExportError
from export.lexicon import LexiconSizes, build_shortlist
from export.own_translations import own_translations
from export.precisions import SHORTLISTED
from export.readers import hub
from export.readers.kinds import Kind, kind_of
from export.readers.languages import chosen
from export.trained_model import TrainedModel
from serving.bundle.bundle import load_bundle
from serving.bundle.manifest import LanguagePair, Languages, VerificationRecord
from serving.bundle.shortlist import Shortlist
from training.data.parallel_text import CorpusFiles

# English sentences of a checkout; what is installed has none.
_SENTENCES = Path(__file__).parents[1] / "loadtests" / "service" / "sentences.txt"
_FEWEST_SENTENCES = 40
_SENTENCES_USED = 200  # a model of 75 million parameters takes PyTorch two seconds of a processor for each


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
        type=lambda tags: tags.split(","),
        help="BCP-47 tags, such as en de, or several on a side with commas between (default: what the model says, "
        "else the name if it is of two tags)",
    )
    parser.add_argument(
        "--sentences",
        type=Path,
        help=f"sentences in the source language to calibrate and verify on, one a line, plain or .gz; at least "
        f"{_FEWEST_SENTENCES} (default for English: those of the load tests)",
    )
    parser.add_argument(
        "--sentences-in",
        metavar="TAG",
        help="language of --sentences (default: the model's only source language, or English if it reads that)",
    )
    add_bundle_arguments(parser, _SENTENCES_USED)
    group = parser.add_argument_group("vocabulary shortlist")
    group.add_argument(
        "--shortlist",
        action="store_true",
        help="add fp32-shortlist and int8-shortlist to the bundle, which score only the target tokens that a lexicon "
        "gives for a source; it is learnt from the model's own translations of --sentences",
    )
    group.add_argument(
        "--shortlist-sentences", type=int, default=20_000, metavar="N", help="how many of them (default: 20000)"
    )
    add_shortlist_sizes(group)
    return parser


def _import(asked: argparse.Namespace) -> dict[str, VerificationRecord]:
    if asked.references is not None and asked.sentences is None:
        raise ExportError("--references are translations of --sentences: give both, or neither")
    source = hub.fetch(asked.source) if hub.is_name(asked.source) else Path(asked.source)
    kind = kind_of(source)
    languages = _languages(asked, source, kind)
    print(f"dragoman-import: {asked.source} is {kind.name}, {languages.in_words}", file=sys.stderr)
    directions = _directions(asked, languages)
    pairs = CorpusFiles(
        source=(sentences := _sentences(asked, directions[0].source)), target=asked.references or sentences
    )
    trained = kind.read(source, languages)
    limits = asked.max_source_tokens, asked.max_target_tokens
    evidence = fitting(
        trained,
        pairs.pairs(),
        limits,
        sentences=(_FEWEST_SENTENCES, asked.max_sentences),
        translated=asked.references is not None,
        languages=directions,
    )
    options = bundle_options(asked, _shortlist(asked, trained, pairs, directions))
    target = write_bundle(trained, asked.out, options, evidence)
    print(f"dragoman-import: wrote {target}", file=sys.stderr)
    precisions = load_bundle(target).manifest.precisions
    return {name: precision.verification for name, precision in precisions.items()}


def _shortlist(
    asked: argparse.Namespace, trained: TrainedModel, pairs: CorpusFiles, directions: Sequence[LanguagePair]
) -> Shortlist | None:
    """Return the lexicon of the bundle: one learnt from the model's own translations if asked for, else the model's."""
    if not any(name in SHORTLISTED for name in asked.precisions):
        if asked.shortlist:
            raise ExportError(f"--shortlist needs a precision for CPUs: add one of {', '.join(SHORTLISTED)}")
        return None
    if not asked.shortlist:
        return trained.shortlist
    sentences = fitting(
        trained,
        pairs.pairs(),
        (asked.max_source_tokens, asked.max_target_tokens),
        sentences=(_FEWEST_SENTENCES, asked.shortlist_sentences),
        translated=False,
        languages=directions,
    )
    translations, sizes = (
        own_translations(trained, sentences),
        LexiconSizes(asked.shortlist_always, asked.shortlist_best),
    )
    return build_shortlist(trained.encode(sentences.sources), translations, trained.vocabulary, sizes)


def _languages(asked: argparse.Namespace, source: Path, kind: Kind) -> Languages:
    """Return the languages of the bundle.

    Raises:
        ExportError: Nothing says them, or the model has no such languages.
    """
    own = kind.languages(source)
    if asked.languages is not None:
        return chosen(own, *asked.languages)
    of_name = re.fullmatch(r"([a-z]{2,3})-([a-z]{2,3})", asked.name)
    if own is None and of_name is None:
        raise ExportError(f"{kind.name} does not say its languages: give them, such as --languages en de")
    return own or chosen(None, [of_name[1]], [of_name[2]])  # type: ignore[index]


def _directions(asked: argparse.Namespace, languages: Languages) -> list[LanguagePair]:
    """Return the pairs of languages that the sentences are translated between.

    Raises:
        ExportError: The language of the sentences is unknown, or they have references in one language of many.
    """
    sources = list(languages.sources)
    source = asked.sentences_in or (sources[0] if len(sources) == 1 else "")
    if not source and asked.sentences is None:
        source = next((tag for tag in sources if _is_english(tag)), "")
    targets = [target for target in languages.targets if target != source] or list(languages.targets)
    if asked.references is not None and len(targets) > 1:
        raise ExportError(f"--references are in one language, but the model writes {len(targets)}: leave them out")
    found = [languages.pair(source, target) for target in targets]
    if None in found:
        raise ExportError(
            f"the language of the sentences is {source or 'unknown'}: say which of {', '.join(sources)} it is with "
            "--sentences-in"
        )
    return [pair for pair in found if pair is not None]


def _is_english(tag: str) -> bool:
    return tag.partition("-")[0].lower() in {"en", "eng"}


def _sentences(asked: argparse.Namespace, language: str) -> Path:
    """Return the file of sentences.

    Raises:
        ExportError: None is given, and there are none in this language.
    """
    if asked.sentences is not None:
        return Path(asked.sentences)
    if not _is_english(language) or not _SENTENCES.is_file():
        raise ExportError(
            f"there are no sentences in {language} to calibrate and verify on: give a file with one a line, "
            f"{_FEWEST_SENTENCES} or more, with --sentences"
        )
    return _SENTENCES
