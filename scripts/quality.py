"""BLEU and chrF of a running server on a parallel test set, by source: ``python -m scripts.quality``.

Needs sacrebleu (extra ``train`` or ``export``).
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import sacrebleu

from loadtests.service.sentences import read_lines
from serving.client import LongInput, Options, TranslationClient

_TEXTS_PER_CALL = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a Markdown table with a row for each label and one for all, then the signatures."""
    parser = argparse.ArgumentParser(prog="python -m scripts.quality", description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("labels", type=Path, nargs="?", help="the kind of each line")
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--beam", type=int, default=4)
    asked = parser.parse_args(arguments)
    sources, references = read_lines(asked.source), read_lines(asked.reference)
    labels = read_lines(asked.labels) if asked.labels else ["all"] * len(sources)
    if not len(sources) == len(references) == len(labels):
        parser.error(f"the files have {len(sources)}, {len(references)} and {len(labels)} lines; they must be parallel")
    texts = translate(sources, asked.server, asked.beam)
    rows: dict[str, list[int]] = defaultdict(list)
    for number, label in enumerate(labels):
        rows[label].append(number)
    if len(rows) > 1:
        rows["all"] = list(range(len(sources)))
    bleu, chrf = sacrebleu.BLEU(), sacrebleu.CHRF()
    print("| source | sentences | BLEU | chrF |\n| --- | --- | --- | --- |")
    for label, numbers in rows.items():
        pair = [texts[n] for n in numbers], [[references[n] for n in numbers]]
        scores = f"{bleu.corpus_score(*pair).score:.2f} | {chrf.corpus_score(*pair).score:.2f}"
        print(f"| {label} | {len(numbers)} | {scores} |")
    print(f"\n{bleu.get_signature()}\n{chrf.get_signature()}")
    return 0


def translate(sources: Sequence[str], server: str, beam: int) -> list[str]:
    """Return the best translations, in order; long texts are split."""
    options = Options(beam_size=beam, long_input=LongInput.SPLIT)
    with TranslationClient(server, deadline=600) as client:
        calls = (sources[at : at + _TEXTS_PER_CALL] for at in range(0, len(sources), _TEXTS_PER_CALL))
        return [one.hypotheses[0].text for texts in calls for one in client.translate(texts, options).translations]


if __name__ == "__main__":
    sys.exit(main())
