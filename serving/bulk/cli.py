"""``dragoman-translate --ray``: a file in, a file out, line by line, on as many machines as there are."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from serving.bulk.blocks import Block, index
from serving.bulk.job import BulkJob
from serving.bulk.worker import WorkerSettings
from serving.bundle.bundle import MANIFEST_FILE, load_bundle, sha256
from serving.errors import DragomanError, StartupError
from serving.messages import LongInput
from serving.option_flags import add_option_flags, chosen_options, whole_number

PROGRAM = "dragoman-translate --ray"
OK, FAILED, INTERRUPTED = 0, 1, 130
_SAID = 20  # failures that are explained one by one


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0: every line was translated. 1: a line failed and is blank, or nothing could be done. 130: interrupted. A wrong
        command line exits with 2.
    """
    arguments = _parser().parse_args(argv)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would otherwise report its use to its makers
    try:
        return _run(arguments)
    except (DragomanError, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted; the same command goes on with what is left", file=sys.stderr)
        return INTERRUPTED


def _run(arguments: argparse.Namespace) -> int:
    try:
        from serving.bulk.cluster import connect, translate
    except ImportError as error:
        raise StartupError(f"Ray is not installed ({error}); pip install '.[cpu,ray]'") from error
    job = BulkJob(arguments.input.resolve(), arguments.output.resolve())
    settings = _settings(arguments)
    blocks, digest = index(job.source, arguments.lines_per_block)
    job.open(
        {
            "input": digest,
            "lines-per-block": arguments.lines_per_block,
            "model": sha256(settings.bundle / MANIFEST_FILE),
            "precision": settings.precision,
            "options": repr(settings.options),
        }
    )
    pending = [block for block in blocks if not job.is_done(block)]
    started = time.monotonic()
    if pending:
        connect(arguments.address)
        _watch(translate(job, settings, pending, workers=arguments.workers), blocks, pending)
    failures = job.failures(blocks)
    job.finish(blocks)
    _report(failures, sum(block.lines for block in pending), time.monotonic() - started)
    return FAILED if failures else OK


def _watch(done: Iterable[Block], blocks: Sequence[Block], pending: Sequence[Block]) -> None:
    total, left = sum(block.lines for block in blocks), sum(block.lines for block in pending)
    with tqdm(total=total, initial=total - left, unit=" lines", disable=None, leave=False) as bar:
        for block in done:
            bar.update(block.lines)


def _report(failures: dict[int, str], lines: int, seconds: float) -> None:
    for line, reason in list(failures.items())[:_SAID]:
        print(f"{PROGRAM}: line {line}: {reason}", file=sys.stderr)
    if len(failures) > _SAID:
        print(f"{PROGRAM}: and {len(failures) - _SAID} more lines failed; all of them are blank", file=sys.stderr)
    if lines:
        print(f"{lines} lines in {seconds:.1f} s, {lines / seconds:.1f} a second", file=sys.stderr)


def _settings(arguments: argparse.Namespace) -> WorkerSettings:
    bundle = load_bundle(_bundle(arguments.models.resolve(), arguments.model, arguments.model_version))
    if arguments.precision not in {"auto", *bundle.manifest.precisions}:
        has = ", ".join(bundle.manifest.precisions)
        raise StartupError(f"{bundle.directory} has no precision {arguments.precision!r}; it has {has}")
    options = chosen_options(arguments)
    return WorkerSettings(bundle.directory, arguments.precision, arguments.device, arguments.threads, options)


def _bundle(models: Path, name: str, version: int) -> Path:
    """Return the directory of the requested model: the only one without a name, the newest without a version."""
    found = [path.parent for path in models.glob(f"{name or '[!.]*'}/{version or '[0-9]*'}/{MANIFEST_FILE}")]
    if not found:
        raise StartupError(f"no {name or 'NAME'}/{version or 'VERSION'}/{MANIFEST_FILE} in {models}; give --models")
    if len(names := sorted({path.parent.name for path in found})) > 1:
        raise StartupError(f"{models} holds {', '.join(names)}; say which with --model")
    return max(found, key=lambda path: int(path.name))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Translates the lines of a file on a Ray cluster, without a server. The same command, given again, "
        "goes on with a job that was interrupted.",
        epilog="Exit status: 0 all translated; 1 a line failed and is blank, or an error; 2 usage; 130 interrupted.",
    )
    parser.add_argument("--input", type=Path, required=True, metavar="FILE", help="UTF-8 text, one a line")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="translations, one a line, in order")
    parser.add_argument("--models", type=Path, required=True, metavar="DIR", help="bundles, NAME/VERSION/ each")
    parser.add_argument("--model", default="", metavar="NAME", help="needed only with several models")
    parser.add_argument("--model-version", type=whole_number, default=0, metavar="N", help="the newest if not given")
    parser.add_argument("--address", metavar="HOST:PORT", help="of the cluster; without it one is started here")
    parser.add_argument("--workers", type=whole_number, default=1, metavar="N", help="processes, over all machines")
    parser.add_argument("--threads", type=whole_number, default=1, metavar="N", help="and cores of each worker")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu", help="cuda: one GPU a worker")
    parser.add_argument("--precision", default="auto", metavar="NAME", help="which graphs of the bundle to run")
    parser.add_argument(
        "--lines-per-block",
        type=whole_number,
        default=1000,
        metavar="N",
        help="lines that are lost, at most, with a worker",
    )
    # Every line has one translation, so that lines of the output stay those of the input.
    add_option_flags(parser, without={"n_best"}, long_input=LongInput.SPLIT)
    return parser
