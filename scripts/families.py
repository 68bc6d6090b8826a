"""``make families``: a tiny model of every family, trained, exported with verification, served and queried over gRPC.

A family is a file of ``training/configs`` with smaller sizes and another corpus, passed to ``dragoman-train`` as
overrides. The task can be learnt in seconds but not guessed: numbers written as English words are translated to German
and their order is reversed.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from loadtests.service.services import dragoman
from serving.client import Options, TranslationClient

CONFIGS = Path(__file__).parents[1] / "training" / "configs"
WORDS = {
    "zero": "null",
    "one": "eins",
    "two": "zwei",
    "three": "drei",
    "four": "vier",
    "five": "fünf",
    "six": "sechs",
    "seven": "sieben",
    "eight": "acht",
    "nine": "neun",
    "ten": "zehn",
    "eleven": "elf",
    "twelve": "zwölf",
    "thirteen": "dreizehn",
    "fourteen": "vierzehn",
    "fifteen": "fünfzehn",
    "sixteen": "sechzehn",
    "seventeen": "siebzehn",
    "eighteen": "achtzehn",
    "nineteen": "neunzehn",
}
TRAINED = 20_000  # pairs
VALID = 500  # pairs, the fewest that an export is verified on
ASKED = 128  # pairs, as many as one call may hold
ENOUGH = 0.98  # of them must come back exactly right
LIMIT = 20  # tokens per side

RNN = {"embedding_dim": 32, "hidden_dim": 64, "attention_dim": 32}
WIDE = {**RNN, "hidden_dim": 96}
TRANSFORMER = {"dim": 64, "heads": 4, "feedforward_dim": 128, "encoder_layers": 2, "decoder_layers": 2}
DECODER_ONLY = {"dim": 64, "heads": 4, "feedforward_dim": 128, "layers": 3}
MASKED_LM = {"dim": 64, "heads": 4, "feedforward_dim": 128, "encoder_layers": 2}


@dataclass(frozen=True)
class Task:
    """Translation of numbers from English words to German ones.

    Attributes:
        longest: Maximum number of words in a sentence; the minimum is 2.
        turned: Whether the order of the words is reversed.
    """

    longest: int = 8
    turned: bool = True

    def __str__(self) -> str:
        """Return its name in the table."""
        return f"{'reverse' if self.turned else 'copy'} 2 to {self.longest}"

    def write(self, folder: Path) -> list[tuple[str, str]]:
        """Write the training and validation sets; no two sentences are the same.

        Returns:
            The held-out pairs.
        """
        draw = random.Random(1)
        rows: dict[tuple[str, ...], None] = {}
        while len(rows) < ASKED + VALID + TRAINED:
            rows[tuple(draw.choices(list(WORDS), k=draw.randint(2, self.longest)))] = None
        turn = -1 if self.turned else 1
        pairs = [(" ".join(row), " ".join(WORDS[word] for word in row[::turn])) for row in rows]
        draw.shuffle(pairs)  # there are few short ones, which were drawn first
        folder.mkdir(parents=True)
        for name, some in (("valid", pairs[ASKED : ASKED + VALID]), ("train", pairs[ASKED + VALID :])):
            for language, texts in zip(("en", "de"), zip(*some, strict=True), strict=True):
                (folder / f"{name}.{language}").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        return pairs[:ASKED]


@dataclass(frozen=True)
class Family:
    """A model to train.

    Attributes:
        config: Name of its file in ``training/configs``.
        sizes: Settings of the model, smaller than the file's.
        steps: Training steps.
        task: The task it learns.
        learning_rate: Peak of the learning rate.
        start: The masked language model that initializes its encoder.
    """

    config: str
    sizes: dict[str, int]
    steps: int = 600
    task: Task = Task()
    learning_rate: float = 5e-3
    start: Family | None = None


# One fixed vector holds a short sentence only; and a source that is read backwards wants a target that is not turned.
# Tanh units and the predicted position of local-p learn slowly here: at higher rates they multiply rounding errors, on
# sources longer than those they were trained on, until PyTorch in float32 is far from itself in float64.
SHORT = Task(longest=4)
SHORT_COPY = Task(longest=4, turned=False)
FAMILIES = {
    "elman": Family("multi30k-en-de-elman", {**RNN, "hidden_dim": 128}, 1500, SHORT, learning_rate=3e-3),
    "cho": Family("multi30k-en-de-cho", WIDE, steps=1400, task=SHORT, learning_rate=1e-2),
    "sutskever": Family("multi30k-en-de-sutskever", WIDE, 900, SHORT_COPY, learning_rate=1e-2),
    "bahdanau": Family("multi30k-en-de-bahdanau", RNN),
    "luong-dot": Family("multi30k-en-de-luong-dot", RNN),
    "luong-general": Family("multi30k-en-de-luong-general", RNN),
    "luong-concat": Family("multi30k-en-de-luong-concat", RNN),
    "luong-local": Family("multi30k-en-de-luong-local", RNN, steps=900, learning_rate=2e-3),
    "transformer-pre-norm": Family("multi30k-en-de", TRANSFORMER),
    "transformer-post-norm": Family("transformer-base", TRANSFORMER, steps=1000),
    "transformer-deep-encoder": Family("en-fr-4", {**TRANSFORMER, "encoder_layers": 4, "decoder_layers": 1}, steps=900),
    "transformer-ssru": Family("multi30k-en-de-ssru", TRANSFORMER),
    "transformer-modern": Family("multi30k-en-de-modern", TRANSFORMER),
    "transformer-from-mlm": Family("multi30k-en-de", TRANSFORMER, start=Family("mlm-en-fr", MASKED_LM, steps=200)),
    "decoder-only-prefix": Family("multi30k-en-de-decoder-only", DECODER_ONLY),
    "decoder-only-gpt": Family("multi30k-en-de-gpt", DECODER_ONLY),
}


@dataclass(frozen=True)
class Outcome:
    """The result of one family.

    Attributes:
        name: Name of the family.
        seconds: Processor time of its training.
        parameters: Number of parameters.
        precision: Precision it was served in.
        exact: Share of exact answers by beam size.
    """

    name: str
    seconds: float
    parameters: int
    precision: str
    exact: dict[int, float]

    def __str__(self) -> str:
        """Return a row of the table."""
        family = FAMILIES[self.name]
        cells = [
            self.name,
            f"{self.parameters:,}",
            str(family.task),
            f"{family.start.steps} + {family.steps}" if family.start else str(family.steps),
            f"{self.seconds:.0f}",
            *(f"{share:.3f}" for share in self.exact.values()),
            self.precision,
        ]
        return f"| {' | '.join(cells)} |"


HEADER = """\
| family | parameters | task | steps | CPU seconds | exact, greedy | exact, beam 4 | served |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def overrides(family: Family, texts: Path, run_dir: Path) -> dict[str, Any]:
    """Return the overrides of the configuration file, by key."""
    monolingual = family.config.startswith("mlm")

    def corpora(name: str) -> list[dict[str, str]]:
        english, german = (str(texts / f"{name}.{language}") for language in ("en", "de"))
        sides = [(english, english), (german, german)] if monolingual else [(english, german)]
        return [{"source": source, "target": target} for source, target in sides]

    return {
        "run_dir": str(run_dir),
        "languages": ["en", "de"],
        "data.train": corpora("train"),
        "data.valid": corpora("valid"),
        "data.weights": None,
        "data.max_tokens": LIMIT,
        "data.augmentation": None,
        "tokenizer": {"kind": "word", "vocab_size": 46},  # the numbers, and six special tokens
        "init_from": str(run_dir / "start" / "best.ckpt") if family.start else None,
        **{f"model.{name}": value for name, value in family.sizes.items()},
        "model.dropout": 0.0,
        "batch": {"tokens": 500},
        "optimizer": {
            "learning_rate": family.learning_rate,
            "warmup_steps": 100,
            "cooldown": 0.5,
            "label_smoothing": 0.1,
            "average_decay": 0.97,
        },
        "validation": {
            "every_steps": family.steps,
            "max_pairs": 40,
            "max_length": LIMIT,
            "metric": "loss" if monolingual else "bleu",
        },
        "trainer": {
            "max_steps": family.steps,
            "accelerator": "cpu",
            "threads": 1,
            "checkpoint_every_steps": family.steps,
            "progress_bar": False,
            "tensorboard": False,
        },
    }


def train(family: Family, texts: Path, run_dir: Path) -> bool:
    """Run ``dragoman-train``, first for the model it is initialized from; return whether it succeeded."""
    from training.cli import main

    if family.start is not None and not train(family.start, texts, run_dir / "start"):
        return False
    told = [f"{key}={json.dumps(value)}" for key, value in overrides(family, texts, run_dir).items()]
    return main([str(CONFIGS / f"{family.config}.yaml"), *told]) == 0


def export(name: str, checkpoint: Path, models: Path) -> bool:
    """Run ``dragoman-export``; return whether it succeeded."""
    from export.cli import main

    limits = [f"--max-{side}-tokens={LIMIT}" for side in ("source", "target")]
    precisions = ["--precisions=fp32,int8", "--max-bleu-loss=inf"]
    with contextlib.redirect_stdout(io.StringIO()):
        return main([str(checkpoint), str(models), "--name", name, *limits, *precisions]) == 0


def build(name: str, folder: Path) -> float | None:
    """Train and export one family, in a process of the pool.

    Returns:
        Processor time of the training in seconds; None if it failed, with the reason on standard error.
    """
    import_module("training.run")  # takes seconds to load, which are not part of the training
    logging.disable(logging.INFO)
    family, run_dir = FAMILIES[name], folder / "runs" / name
    begin = time.process_time()
    trained = train(family, folder / str(family.task), run_dir)
    seconds = time.process_time() - begin
    return seconds if trained and export(name, run_dir / "best.ckpt", folder / "models") else None


def outcomes(folder: Path, names: Sequence[str]) -> Iterator[Outcome]:
    """Build families, one per core at a time; then serve all that succeeded together and query each."""
    held_out = {task: task.write(folder / str(task)) for task in {FAMILIES[name].task for name in names}}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        built = dict(zip(names, pool.map(build, names, [folder] * len(names)), strict=True))
    if not any(seconds is not None for seconds in built.values()):
        return
    with dragoman(folder / "models", folder / "server.log") as service, TranslationClient(service.address) as client:
        for name, seconds in built.items():
            if seconds is not None:
                served = client.get_model(name)
                parameters = int(served.sizes["parameters"])
                exact = {beam: share_of_exact(client, name, beam, held_out[FAMILIES[name].task]) for beam in (1, 4)}
                yield Outcome(name, seconds, parameters, served.precision, exact)


def share_of_exact(client: TranslationClient, model: str, beam: int, pairs: Sequence[tuple[str, str]]) -> float:
    """Return the share of sentences whose best translation equals the expected one exactly."""
    answer = client.translate([source for source, _ in pairs], Options(beam_size=beam), model=model)
    texts = [translation.hypotheses[0].text for translation in answer.translations]
    return sum(text == target for text, (_, target) in zip(texts, pairs, strict=True)) / len(pairs)


def main(names: Sequence[str]) -> int:
    """Print a row for each family; return status 0 if all were built and answer accurately enough."""
    if unknown := [name for name in names if name not in FAMILIES]:
        print(f"families: there is no family {unknown[0]!r}; choose from {', '.join(FAMILIES)}", file=sys.stderr)
        return 2
    right = 0
    print(HEADER, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for outcome in outcomes(Path(folder), names or tuple(FAMILIES)):
            print(outcome, flush=True)
            right += min(outcome.exact.values()) >= ENOUGH
    return int(right < len(names or FAMILIES))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
