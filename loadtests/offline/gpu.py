"""Times on a GPU, in turns with CTranslate2 in float16 where it is installed: ``python -m loadtests.offline.gpu``.

Whole translations, encoder included: batches of one length, and all sentences at once. ``make gpu-check`` runs it after
the tests of ``tests/gpu``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loadtests.offline.corpus import token_ids
from loadtests.offline.gpu_model import BEAMS, GpuModel, add_options, card, text
from loadtests.offline.searches import Ids, Search
from loadtests.offline.timing import alternate, best, ratio
from loadtests.report import table, write_json
from serving.bundle.bundle import Bundle, load_bundle
from serving.errors import StartupError

PARTS = ("times", "bulk")
BATCHES = (1, 8, 32, 64)
_OURS = "ours"
_RIVAL_BATCHES = (64, 256, 1024)  # sentences; of many that are there at once

Rival = Callable[[Sequence[Ids], Search, int], object]  # sources, search, maximum of sentences per batch


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; write ``times.json`` and ``times.md``."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.offline.gpu", description=__doc__)
    add_options(parser.add_argument)
    parser.add_argument("--repeats", type=int, default=9, help="repetitions of each measurement (default: 9)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: both")
    asked = parser.parse_args(arguments)
    try:
        name, found = card(asked.device), measure(asked)
    except (StartupError, ValueError, OSError) as error:
        print(f"gpu: {error}", file=sys.stderr)
        return 1
    write_json(asked.out / "times.json", {"card": name, "bundle": str(asked.bundle), **found})
    titles = {"times": "Batches of one length", "bulk": "All sentences at once"}
    tables = [f"## {titles[part]}\n\n{table(found[part])}\n" for part in asked.parts]
    note = "Medians in ms; ratio: CTranslate2's time over ours.\n"
    (asked.out / "times.md").write_text("\n".join([f"# Times on {name['name']}\n", note, *tables]), "utf-8")
    print("\n".join(tables))
    return 0


def measure(asked: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Measure each precision, with and without CUDA graphs; return rows by part."""
    bundle = load_bundle(asked.bundle)
    sources = token_ids(bundle, text(asked, bundle).sources)
    precisions = [name for name in ("fp32", "fp16") if name in bundle.manifest.precisions]
    rows: dict[str, list[dict[str, Any]]] = {part: [] for part in asked.parts}
    with open_rival(bundle, asked.device) as rival:
        for precision in precisions:
            for graphs in (True, False) if asked.device == "cuda" else (False,):
                with GpuModel(asked.bundle, precision, asked.device, cuda_graphs=graphs) as model:
                    kinds = {"times": forced_times(model, rival, sources, asked.max_length // 2, asked.repeats),
                             "bulk": bulk_times(model, rival, sources, asked.max_length, asked.repeats)}  # fmt: skip
                    for part in asked.parts:
                        label = {"precision": precision, "cuda_graphs": model.records}
                        rows[part] += [label | row for row in kinds[part]]
    return rows


@contextmanager
def open_rival(bundle: Bundle, device: str) -> Iterator[Rival | None]:
    """Open CTranslate2 in float16 on the bundle's own weights; None where it is absent or cannot use the card."""
    if device != "cuda" or find_spec("ctranslate2") is None or find_spec("onnx") is None:
        yield None
        return
    from ctranslate2 import get_cuda_device_count

    from loadtests.offline.ctranslate2_engine import CTranslate2Engine
    from loadtests.offline.ctranslate2_model import convert

    if not get_cuda_device_count():
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        convert(bundle.directory, Path(folder) / "model")
        engine = CTranslate2Engine(Path(folder) / "model", "float16", threads=1, device="cuda")
        yield lambda sources, search, batch: engine.translate(sources, search, {"max_batch_size": batch})


def forced_times(
    model: GpuModel, rival: Rival | None, sources: Sequence[Ids], length: int, repeats: int
) -> Iterator[dict[str, Any]]:
    """Time batches of real sentences, each translated to exactly ``length`` tokens."""
    for size in BATCHES:
        batch = [sources[number % len(sources)] for number in range(size)]
        for beam in BEAMS:
            search = Search(beam, length, length)
            rivals = {"": partial(rival, batch, search, 0)} if rival else {}
            row = _row(partial(model.translate, batch, [search] * size), rivals, repeats)
            yield {"batch": size, "beam": beam, **row, "tokens_per_second": size * length / row["ms"] * 1e3}


def bulk_times(
    model: GpuModel, rival: Rival | None, sources: Sequence[Ids], longest: int, repeats: int
) -> Iterator[dict[str, Any]]:
    """Time all sentences at once, without a forced length; the rival uses the batch size that suits it best."""
    for beam in BEAMS:
        search = Search(beam, longest)
        rivals = {str(size): partial(rival, sources, search, size) for size in _RIVAL_BATCHES} if rival else {}
        row = _row(partial(model.translate, sources, [search] * len(sources)), rivals, repeats)
        yield {"beam": beam, **row, "sentences_per_second": len(sources) / row["ms"] * 1e3}


def _row(ours: Callable[[], object], rivals: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Any]:
    """Return our median, the best rival's, and the median ratio by round; the first round only warms up."""
    found = alternate({name: partial(_seconds, run) for name, run in {_OURS: ours, **rivals}.items()}, repeats + 1)
    times = {name: seconds[1:] for name, seconds in found.items()}
    own = times.pop(_OURS)
    row: dict[str, Any] = {"ms": statistics.median(own) * 1e3}
    if times:
        theirs = times[best(times)]
        row |= {"rival_ms": statistics.median(theirs) * 1e3, "ratio": ratio(theirs, own).median}
    return row


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
