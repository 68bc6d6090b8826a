"""``make gpu-check``: is the engine right on this GPU, steady, and how fast?

    python -m loadtests.offline.gpu_check --bundle models/en-fr/3

Parity (fp32 on the GPU against the CPU, fp16 against fp32), batch invariance, memory over 10,000 mixed requests, and
tables of times. Writes JSON and Markdown; ends with 1 if a limit is broken. ``--device cpu`` rehearses it without one.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.offline.corpus import Corpus, bleu, read_corpus, token_ids
from loadtests.offline.gpu_model import BEAMS, GpuModel, card, used_bytes
from loadtests.offline.gpu_times import bulk_times, forced_times, open_rival
from loadtests.offline.searches import Ids, Search
from loadtests.service.sentences import sentences
from serving.bundle.bundle import Bundle, load_bundle
from serving.decoding.hypothesis import FinishedHypothesis
from serving.errors import StartupError

PARTS = ("parity", "invariance", "memory", "times", "bulk")
MAX_DIFFERENCE = {"fp32": 1e-3, "fp16": 0.1}  # nats, of tokens that both chose
MIN_EQUAL = {"fp32": 0.98, "fp16": 0.9}  # sentences with the same tokens
MIN_INVARIANT = {"fp32": 0.98, "fp16": 0.95}  # sentences with the same tokens alone and in company
MAX_BLEU_LOSS = 0.3
MAX_GROWTH = 0.02  # of memory in use, after a tenth of the requests
_PACKAGES = ("onnxruntime-gpu", "onnxruntime", "numpy", "torch", "ctranslate2", "sacrebleu")
_MIXED_AT_ONCE = 250


@dataclass
class Findings:
    """What was measured, and which limits it breaks."""

    figures: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def require(self, holds: bool, sentence: str) -> None:
        """Notes a limit that does not hold."""
        if not holds:
            self.broken.append(sentence)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 1 if a limit is broken or there is nothing to check."""
    asked = _parser().parse_args(arguments)
    try:
        bundle = load_bundle(asked.bundle)
        corpus = _corpus(asked, bundle)
        findings = check(asked, bundle, corpus)
    except (StartupError, ValueError, OSError) as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return 1
    asked.out.mkdir(parents=True, exist_ok=True)
    text = markdown(findings)
    (asked.out / "gpu-check.json").write_text(
        json.dumps({**findings.figures, "broken": findings.broken}, indent=1) + "\n", encoding="utf-8"
    )
    (asked.out / "gpu-check.md").write_text(text, encoding="utf-8")
    print(text)
    return 1 if findings.broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpu-check", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("models/en-fr/3"), help="with fp32 and, to compare, fp16")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--data", type=Path, help="corpora, or two files up to their languages (default: bundled lines)"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: everything)"
    )
    parser.add_argument("--sentences", type=int, default=1000, help="of the text, for parity (default: 1000)")
    parser.add_argument("--requests", type=int, default=10_000, help="mixed ones, for memory (default: 10000)")
    parser.add_argument("--repeats", type=int, default=9, help="of each time in the table (default: 9)")
    parser.add_argument("--max-length", type=int, default=60, help="target tokens (default: 60)")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-check"), help="folder (default: runs/gpu-check)")
    return parser


def _corpus(asked: argparse.Namespace, bundle: Bundle) -> Corpus:
    if asked.data is None:
        return Corpus(sentences(None, None)[: asked.sentences], [])
    manifest = bundle.manifest
    corpus = read_corpus(asked.data, manifest.source_language, manifest.target_language)
    return Corpus(corpus.sources[: asked.sentences], corpus.references[: asked.sentences])


def check(asked: argparse.Namespace, bundle: Bundle, corpus: Corpus) -> Findings:
    """Measures everything."""
    findings = Findings()
    findings.figures |= {
        "card": card(asked.device),
        "versions": _versions(),
        "bundle": f"{bundle.manifest.name}/{bundle.manifest.version}",
        "sentences": len(corpus.sources),
    }
    precisions = [name for name in ("fp32", "fp16") if name in bundle.manifest.precisions]
    findings.require("fp16" in precisions, "the bundle has no fp16: export it with --precisions fp32,int8,fp16")
    sources = token_ids(bundle, corpus.sources)
    if "parity" in asked.parts:
        parity(asked, bundle, corpus, sources, precisions, findings)
    for precision in precisions:
        with _open(asked, precision) as model:
            findings.figures.setdefault("recorded", {})[precision] = model.records
            findings.require(
                model.records or asked.device != "cuda", f"{precision}: decoder steps are not recorded as CUDA graphs"
            )
            if "invariance" in asked.parts:
                invariance(asked, model, sources, findings, precision)
            if "memory" in asked.parts:
                memory(asked, model, sources, findings, precision)
    if {"times", "bulk"} & set(asked.parts):
        times(asked, bundle, sources, precisions, findings)
    return findings


def _open(asked: argparse.Namespace, precision: str, *, cuda_graphs: bool = True) -> GpuModel:
    device = "cuda" if asked.device == "cuda" else "pretended"
    return GpuModel(asked.bundle, precision, device, cuda_graphs=cuda_graphs)


def parity(
    asked: argparse.Namespace, bundle: Bundle, corpus: Corpus, sources: list[Ids], precisions: Sequence[str],
    findings: Findings,
) -> None:  # fmt: skip
    """Fp32 on the device against the CPU's; fp16 against fp32, both on the device."""
    searches = {beam: [Search(beam, asked.max_length)] * len(sources) for beam in BEAMS}
    with GpuModel(asked.bundle, "fp32", "cpu") as host:
        expected = {beam: host.translate(sources, searches[beam]) for beam in BEAMS}
    findings.figures["parity"] = {}
    for precision in precisions:
        with _open(asked, precision) as model:
            found = {beam: model.translate(sources, searches[beam]) for beam in BEAMS}
        for beam in BEAMS:
            figures = _compared(bundle, corpus, expected[beam], found[beam])
            findings.figures["parity"][f"{precision}, beam {beam}"] = figures
            what = f"{precision}, beam {beam}"
            findings.require(
                figures["equal_ratio"] >= MIN_EQUAL[precision],
                f"{what}: {figures['equal_ratio']:.1%} of the sentences are equal, at least "
                f"{MIN_EQUAL[precision]:.0%} must be",
            )
            findings.require(
                figures["max_difference"] <= MAX_DIFFERENCE[precision],
                f"{what}: a log-probability differs by {figures['max_difference']:.2e}, at most "
                f"{MAX_DIFFERENCE[precision]} may",
            )
            loss = (figures["bleu_expected"] or 0) - (figures["bleu"] or 0)
            findings.require(loss <= MAX_BLEU_LOSS, f"{what}: {loss:.2f} BLEU are lost, at most {MAX_BLEU_LOSS} may")
        if precision == "fp32":
            expected = found


def _compared(
    bundle: Bundle, corpus: Corpus, expected: Sequence[FinishedHypothesis], found: Sequence[FinishedHypothesis]
) -> dict[str, Any]:
    equal = [a.tokens == b.tokens for a, b in zip(expected, found, strict=True)]
    differences = [
        float(np.abs(np.subtract(a.log_probs, b.log_probs)).max())
        for a, b, same in zip(expected, found, equal, strict=True)
        if same
    ]
    scores = [bleu(bundle, [list(one.tokens) for one in many], corpus.references) for many in (expected, found)]
    return {
        "equal_ratio": float(np.mean(equal)),
        "max_difference": max(differences, default=float("inf")),
        "bleu_expected": scores[0],
        "bleu": scores[1],
    }


def invariance(
    asked: argparse.Namespace, model: GpuModel, sources: list[Ids], findings: Findings, precision: str
) -> None:
    """Sentences alone against the same sentences in company."""
    searches = [Search(BEAMS[number % 2], asked.max_length) for number in range(len(sources))]
    together = model.translate(sources, searches)
    alone = [
        model.translate([source], [search])[0]
        for source, search in list(zip(sources, searches, strict=True))[: asked.sentences // 4 or 1]
    ]
    pairs = list(zip(alone, together, strict=False))
    tokens = float(np.mean([a.tokens == b.tokens for a, b in pairs]))
    findings.figures.setdefault("invariance", {})[precision] = {
        "sentences": len(pairs),
        "equal_tokens_ratio": tokens,
        "equal_bits_ratio": float(np.mean([a == b for a, b in pairs])),
    }
    findings.require(
        tokens >= MIN_INVARIANT[precision],
        f"{precision}: {tokens:.1%} of the sentences are the same alone and in company, at least "
        f"{MIN_INVARIANT[precision]:.0%} must be",
    )


def memory(asked: argparse.Namespace, model: GpuModel, sources: list[Ids], findings: Findings, precision: str) -> None:
    """Memory in use over mixed requests: every length and both beams, many at a time."""
    rng = np.random.default_rng(0)
    first, figures, done = max(asked.requests // 10, 1), [], 0
    while done < asked.requests:
        count = min(_MIXED_AT_ONCE, asked.requests - done)
        picked = [sources[number] for number in rng.integers(0, len(sources), size=count)]
        lengths = rng.integers(1, asked.max_length + 1, size=count)
        searches = [
            Search(BEAMS[int(beam)], int(length))
            for beam, length in zip(rng.integers(0, 2, count), lengths, strict=True)
        ]
        model.translate(picked, searches)
        done += count
        if done >= first:
            figures.append(used_bytes(asked.device))
    growth = figures[-1] / figures[0] - 1
    findings.figures.setdefault("memory", {})[precision] = {
        "requests": done, "bytes_early": figures[0], "bytes_late": figures[-1], "bytes_most": max(figures),
        "growth_ratio": growth,
    }  # fmt: skip
    findings.require(
        growth <= MAX_GROWTH or asked.device != "cuda",
        f"{precision}: memory grew by {growth:.1%} after request {first}, at most {MAX_GROWTH:.0%} may it",
    )


def times(
    asked: argparse.Namespace, bundle: Bundle, sources: list[Ids], precisions: Sequence[str], findings: Findings
) -> None:
    """Whole translations, encoder included, in turns with CTranslate2 in float16 where that is installed."""
    kinds = [kind for kind in ("times", "bulk") if kind in asked.parts]
    findings.figures |= {kind: [] for kind in kinds}
    with open_rival(bundle, asked.device) as rival:
        for precision in precisions:
            for graphs in (True, False) if asked.device == "cuda" else (False,):
                with _open(asked, precision, cuda_graphs=graphs) as model:
                    what = {"precision": precision, "cuda_graphs": model.records}
                    if "times" in kinds:
                        rows = forced_times(model, rival, sources, asked.max_length // 2, asked.repeats)
                        findings.figures["times"] += [what | row for row in rows]
                    if "bulk" in kinds:
                        rows = bulk_times(model, rival, sources, asked.max_length, asked.repeats)
                        findings.figures["bulk"] += [what | row for row in rows]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def markdown(findings: Findings) -> str:
    """The findings for people."""
    figures = findings.figures
    lines = ["# GPU check", "", f"Card: {figures['card']}. Versions: {figures['versions']}."]
    lines += [f"Bundle {figures['bundle']}, {figures['sentences']} sentences. Recorded: {figures['recorded']}.", ""]
    lines += [f"* BROKEN: {sentence}" for sentence in findings.broken] or ["All limits hold."]
    for title in ("parity", "invariance", "memory"):
        if rows := figures.get(title):
            columns = list(next(iter(rows.values())))
            lines += ["", f"## {title.capitalize()}", ""]
            lines += _table(["", *columns], [[name, *(_shown(row[c]) for c in columns)] for name, row in rows.items()])
    for title, note in (("times", "Batches of one length."), ("bulk", "All sentences at once.")):
        if measured := figures.get(title):
            columns = list(dict.fromkeys(column for row in measured for column in row))
            lines += ["", f"## {title.capitalize()}", "", f"{note} Medians; ratio: CTranslate2's time over ours.", ""]
            lines += _table(columns, [[_shown(row.get(c)) for c in columns] for row in measured])
    return "\n".join(lines) + "\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
