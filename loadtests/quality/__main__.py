"""``make quality``: how good a bundle's translations are, asked over gRPC: one table, as Markdown.

Scores by source and by length, what becomes of capitals, numbers, tags, emoji and the like, and the speed. Needs
sacrebleu (extra ``train`` or ``export``) and the corpora.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import sacrebleu

from loadtests.quality import robustness
from loadtests.quality.test_sets import Line, groups, read_test_sets
from loadtests.service.services import dragoman
from serving.client import FinishReason, Hypothesis, LongInput, Options, Segmentation, TranslationClient

_TEXTS_A_CALL = 100


class System:
    """A model of a running server, with the time it took."""

    def __init__(self, client: TranslationClient, model: str, options: Options) -> None:
        self._client, self._model, self._options = client, model, options

    def alone(self) -> System:
        """Return the same model with every text as one sentence, and nothing done for spans, case and repetitions."""
        bare = replace(
            self._options,
            segmentation=Segmentation.NONE,
            long_input=LongInput.SPLIT,
            protect_spans=False,
            adapt_case=False,
            retry_repetition=False,
        )
        return System(self._client, self._model, bare)

    def hypotheses(self, texts: Sequence[str]) -> list[Hypothesis]:
        """Translate, in order."""
        calls = (texts[at : at + _TEXTS_A_CALL] for at in range(0, len(texts), _TEXTS_A_CALL))
        return [
            translation.hypotheses[0]
            for call in calls
            for translation in self._client.translate(call, self._options, model=self._model).translations
        ]

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Return the translations as texts."""
        return [hypothesis.text for hypothesis in self.hypotheses(texts)]


def score_rows(lines: list[Line], system: System) -> list[str]:
    """Return the table of scores, then the speed."""
    started = time.monotonic()
    found = system.hypotheses([line.source for line in lines])
    seconds = time.monotonic() - started
    bleu, chrf = sacrebleu.BLEU(), sacrebleu.CHRF()
    rows = ["| test set | part | sentences | BLEU | chrF |", "| --- | --- | --- | --- | --- |"]
    for (name, part), numbers in groups(lines).items():
        pair = [found[n].text for n in numbers], [[lines[n].reference for n in numbers]]
        scores = f"{bleu.corpus_score(*pair).score:.2f} | {chrf.corpus_score(*pair).score:.2f}"
        rows.append(f"| {name} | {part} | {len(numbers)} | {scores} |")
    endless = sum(hypothesis.finish_reason is FinishReason.LENGTH for hypothesis in found)
    words = sum(len(hypothesis.text.split()) for hypothesis in found)
    return [
        *rows,
        "",
        f"`{bleu.get_signature()}`  ",
        f"`{chrf.get_signature()}`",
        "",
        f"Ended by the length limit: {endless} of {len(found)} ({100 * endless / len(found):.2f} %). "
        f"Speed: {len(found) / seconds:.1f} sentences a second, {words / seconds:.0f} words a second.",
    ]


def robustness_rows(general: list[Line], system: System, count: int) -> list[str]:
    """Return the table of robustness: of the server, and of the model alone, without what the server does for it."""
    rows = ["| what | texts | served | the model alone |", "| --- | --- | --- | --- |"]
    columns = [_robustness(general, one, count) for one in (system, system.alone())]
    return rows + [f"| {what} | {count} | {served} | {columns[1][what]} |" for what, served in columns[0].items()]


def _robustness(general: list[Line], system: System, count: int) -> dict[str, str]:
    """Return what becomes of each kind of text."""
    results: dict[str, str] = {}
    chosen, chrf = robustness.cased(general, count), sacrebleu.CHRF()
    usual = None
    for name, form in (("sentence case", str), ("capitals", str.upper), ("title case", robustness.title)):
        texts = system.translate([form(line.source) for line in chosen])
        score = chrf.corpus_score(texts, [[form(line.reference) for line in chosen]]).score
        usual = score if usual is None else usual
        results[name] = f"chrF {score:.2f} ({score - usual:+.2f})"
    for case in robustness.copying_cases(general, count):
        results[case.kind] = f"{100 * case.share(system.translate(case.texts)):.1f} % copied"
    triples = robustness.joined_texts(general, count)
    together = system.translate([" ".join(triple) for triple in triples])
    apart = system.translate([sentence for triple in triples for sentence in triple])
    kept = sum(robustness.none_is_lost(text, apart[3 * n : 3 * n + 3]) for n, text in enumerate(together))
    return results | {"three sentences in one text": f"none lost in {100 * kept / count:.1f} %"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.quality", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"), help="directory of bundles to serve")
    parser.add_argument("--server", metavar="HOST:PORT", help="a server that runs, instead of one of --models")
    parser.add_argument("--model", default="", help="name of the model (default: the server's)")
    parser.add_argument("--data", type=Path, default=os.environ.get("DRAGOMAN_DATA"), help="folder of the corpora")
    parser.add_argument("--beam", type=int, default=4)
    parser.add_argument("--count", type=int, default=200, help="texts of each kind of the robustness table")
    parser.add_argument("--part", action="append", metavar="LABEL", help="score these parts only; repeatable")
    asked = parser.parse_args(arguments)
    if asked.data is None:
        parser.error("the corpora are not found: set DRAGOMAN_DATA or --data")
    if asked.server:
        return _report(asked, asked.server)
    with tempfile.TemporaryDirectory() as folder, dragoman(asked.models, Path(folder) / "server.log") as service:
        return _report(asked, service.address)


def _report(asked: argparse.Namespace, server: str) -> int:
    with TranslationClient(server, deadline=1800) as client:
        model = client.get_model(asked.model)
        system = System(client, model.name, Options(beam_size=asked.beam))
        print(f"{model.name}/{model.version}, beam {asked.beam}\n", flush=True)
        lines = read_test_sets(asked.data, model.source_language, model.target_language)
        general = [line for line in lines if line.set.startswith("general")]
        scored = [line for line in lines if not asked.part or line.label in asked.part]
        print("\n".join(score_rows(scored, system)), end="\n\n", flush=True)
        print("\n".join(robustness_rows(general, system, asked.count)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
