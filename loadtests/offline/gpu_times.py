"""Times on a GPU, in turns with CTranslate2 in float16 where it is installed and can use the card."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loadtests.offline.gpu_model import BEAMS, GpuModel
from loadtests.offline.searches import Ids, Search
from loadtests.offline.timing import alternate, best
from serving.bundle.bundle import Bundle

BATCHES = (1, 8, 32, 64)
_OURS = "ours"
_RIVAL_BATCHES = (64, 256, 1024)  # sentences; of many that are there at once

Rival = Callable[[Sequence[Ids], Search, int], None]  # sources, how, sentences of a batch at most


@contextmanager
def open_rival(bundle: Bundle, device: str) -> Iterator[Rival | None]:
    """CTranslate2 in float16 on the bundle's own weights; None where it is absent or cannot use the card."""
    if device != "cuda" or find_spec("ctranslate2") is None or find_spec("onnx") is None:
        yield None
        return
    from ctranslate2 import Translator, get_cuda_device_count

    from loadtests.offline.ctranslate2_model import convert

    if not get_cuda_device_count():
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        convert(bundle.directory, Path(folder) / "model")
        translator = Translator(str(Path(folder) / "model"), device="cuda", compute_type="float16")

        def translate(sources: Sequence[Ids], search: Search, batch: int) -> None:
            translator.translate_batch(
                [[str(number) for number in source] for source in sources],
                beam_size=search.beam,
                max_decoding_length=search.max_length,
                min_decoding_length=search.min_length,
                max_input_length=0,
                max_batch_size=batch,
            )

        yield translate


def forced_times(
    model: GpuModel, rival: Rival | None, sources: Sequence[Ids], length: int, repeats: int
) -> Iterator[dict[str, Any]]:
    """Batches of real sentences, each translated to exactly ``length`` tokens."""
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
    """All sentences at once, each as long as it gets; the rival makes batches of the size that suits it best."""
    for beam in BEAMS:
        search = Search(beam, longest)
        rivals = {str(size): partial(rival, sources, search, size) for size in _RIVAL_BATCHES} if rival else {}
        row = _row(partial(model.translate, sources, [search] * len(sources)), rivals, repeats)
        yield {"beam": beam, **row, "sentences_per_second": len(sources) / row["ms"] * 1e3}


def _row(ours: Callable[[], object], rivals: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Any]:
    """Our median and the best rival's; the ratio is the median over rounds, of which the first only warms up."""
    found = alternate({name: _timed(run) for name, run in {_OURS: ours, **rivals}.items()}, repeats + 1)
    times = {name: seconds[1:] for name, seconds in found.items()}
    own = times.pop(_OURS)
    row: dict[str, Any] = {"ms": statistics.median(own) * 1e3}
    if times:
        theirs = times[best(times)]
        ratios = [rival / mine for rival, mine in zip(theirs, own, strict=True)]
        row |= {"rival_ms": statistics.median(theirs) * 1e3, "ratio": statistics.median(ratios)}
    return row


def _timed(run: Callable[[], object]) -> Callable[[], float]:
    def seconds() -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return seconds
