"""``dragoman-train distil``: train a student on a teacher's translations (Kim and Rush 2016, sequence level).

The teacher translates through the serving engine, by the same two commands that anyone uses: a ``dragoman-serve``
process unless one runs already, and ``dragoman-translate``, which keeps many sentences in flight. So the teacher is
batched as in production, may be on another machine, and training imports nothing of serving.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from training.config import TrainingConfig, load_config
from training.data.corpus import CleanedText, clean_corpus
from training.data.directories import alone
from training.data.parallel_text import CorpusFiles
from training.errors import TeacherError

_LOG = logging.getLogger(__name__)

LOG_EVERY = 10_000


@dataclass(frozen=True, kw_only=True)
class TeacherSettings:
    """Translation of the corpus by a teacher.

    Attributes:
        models: Directory of bundles to serve; None if ``server`` runs already.
        server: HOST:PORT of a running server.
        model: Name of the model; empty for the server's default.
        beam: Beam size.
        in_flight: Sentences that the server has at the same time.
    """

    models: Path | None = None
    server: str | None = None
    model: str = ""
    beam: int = 4
    in_flight: int = 256

    def identity(self) -> dict[str, str | int]:
        """Return what decides the translations: model and beam."""
        manifests = sorted(self.models.glob("*/*/manifest.json")) if self.models is not None else []
        bundles = {str(path.relative_to(self.models or "")): _digest(path) for path in manifests}
        return {"bundles": json.dumps(bundles), "server": self.server or "", "model": self.model, "beam": self.beam}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def serve_teacher(models: Path) -> Iterator[str]:
    """Run ``dragoman-serve`` over a directory of bundles; gives HOST:PORT once it is ready.

    Raises:
        TeacherError: If it does not get ready.
    """
    free = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    command = [sys.executable, "-m", "serving", "--models", str(models), *free]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = ""
            for said in process.stderr:
                event = json.loads(said) if said.startswith("{") else {}
                if event.get("event") == "ready":
                    break
            else:
                raise TeacherError(f"the teacher in {models} cannot be served: {said.strip() or 'it said nothing'}")
            # A pipe that nobody reads fills up and stops the server at its next log line.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield str(event["listen"])
        finally:
            process.terminate()


def complete_lines(path: Path) -> int:
    """Count the lines of a file, and cut off a last one that was not finished; 0 if there is no file."""
    if not path.exists():
        return 0
    count = end = 0
    with path.open("rb+") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                count, end = count + 1, end + len(line)
        lines.truncate(end)
    return count


def translate_corpus(text: CleanedText, directory: Path, teacher: TeacherSettings) -> Path:
    """Translate the sources of a corpus, from where an earlier attempt ended.

    Returns:
        TSV of sources, translations and labels, without the pairs whose translation failed.

    Raises:
        TeacherError: If the directory has another corpus' or teacher's translations, or the teacher fails.
    """
    done, finished = directory / "translations.txt", directory / "distilled.tsv"
    with alone(directory):
        _claim(directory / "made-of.json", {"corpus": text.path.parent.name, **teacher.identity()})
        total = text.report.kept
        if (start := complete_lines(done)) < total:
            _LOG.info("the teacher translates %d of %d sentences", total - start, total)
            running = nullcontext(teacher.server) if teacher.models is None else serve_teacher(teacher.models)
            with running as server:
                _translate(text, start, done, teacher, str(server))
        if not finished.is_file():
            _join(text, done, finished)
    return finished


def _claim(path: Path, identity: dict[str, str | int]) -> None:
    if not path.is_file():
        path.write_text(json.dumps(identity), encoding="utf-8")
    elif json.loads(path.read_text(encoding="utf-8")) != identity:
        raise TeacherError(f"{path.parent} holds translations of another corpus or teacher; delete it to start afresh")


def _translate(text: CleanedText, start: int, done: Path, teacher: TeacherSettings, server: str) -> None:
    command = [sys.executable, "-m", "serving.client", "--server", server, "--beam", str(teacher.beam)]
    command += ["--in-flight", str(teacher.in_flight), "--long-input", "split", "--deadline", "600"]
    command += ["--model", teacher.model] if teacher.model else []
    complaints = done.with_name("translate.log")
    with (
        done.open("ab") as out,
        complaints.open("w", encoding="utf-8") as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=errors) as process,
        suppress(BrokenPipeError),  # it ended early, and says why
    ):
        assert process.stdin is not None
        for number, pair in enumerate(islice(text.pairs(), start, None), start=start + 1):
            process.stdin.write(pair.source.encode() + b"\n")
            if number % LOG_EVERY == 0:
                _LOG.info("%d sentences are on their way", number)
    if (reached := complete_lines(done)) < text.report.kept:
        said = complaints.read_text(encoding="utf-8").strip().splitlines()
        raise TeacherError(
            f"the teacher stopped after {reached} of {text.report.kept} sentences "
            f"({said[-1] if said else 'it said nothing'}); start again to go on from there"
        )


def _join(text: CleanedText, done: Path, finished: Path) -> None:
    partial, failed = finished.with_suffix(".partial"), 0
    with done.open(encoding="utf-8", newline="\n") as lines, partial.open("w", encoding="utf-8", newline="\n") as out:
        for pair, line in zip(text.pairs(), lines, strict=True):
            translation = " ".join(line.split())
            failed += not translation
            if translation:
                out.write(f"{pair.source}\t{translation}\t{pair.label}\n")
    _LOG.info("the teacher's translations are complete; %d failed and are left out", failed)
    partial.replace(finished)


def student_config(config: TrainingConfig, distilled: Path, *, keep_original: bool) -> TrainingConfig:
    """Return the student's configuration, trained on the teacher's translations, or on those and the original text."""
    corpora = (CorpusFiles(tsv=distilled), *(config.data.train if keep_original else ()))
    return config.model_copy(update={"data": config.data.model_copy(update={"train": corpora})})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("config", type=Path, help="the student's YAML configuration")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as trainer.max_steps=1000")
    teacher = parser.add_mutually_exclusive_group(required=True)
    teacher.add_argument("--teacher", type=Path, metavar="MODELS", help="directory of bundles (NAME/VERSION) to serve")
    teacher.add_argument("--server", metavar="HOST:PORT", help="a server that runs already")
    parser.add_argument("--model", default="", metavar="NAME", help="the server's default model if not given")
    parser.add_argument("--beam", type=int, default=4, metavar="N", help="beam size of the teacher (default: 4)")
    parser.add_argument("--in-flight", type=int, default=256, metavar="N", help="sentences sent at once (default: 256)")
    parser.add_argument("--keep-original", action="store_true", help="train on the original translations too")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    config = load_config(options.config, options.overrides)
    teacher = TeacherSettings(
        models=options.teacher,
        server=options.server,
        model=options.model,
        beam=options.beam,
        in_flight=options.in_flight,
    )
    cache = config.cache_dir or config.run_dir / "cache"
    with alone(cache):
        text = clean_corpus(config.corpus(), cache)
    distilled = translate_corpus(text, config.run_dir / "distilled", teacher)
    from training.run import run as train

    train(student_config(config, distilled, keep_original=options.keep_original))
