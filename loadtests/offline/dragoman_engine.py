"""This project's engine, offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from loadtests.offline.searches import Ids, Search
from serving.bundle.bundle import load_bundle
from serving.decoding.options import DecodingOptions
from serving.engine.submission import Sentence
from serving.opening import offline_engine
from serving.runtime.onnx_runner import OnnxRunner


class DragomanEngine:
    """``serving.engine`` with the rows it has in a server: sentences join and leave its slots as it sees fit."""

    def __init__(self, path: Path, variant: str, threads: int) -> None:
        """Open a bundle in the precision ``variant``; ``NAME*N`` has N workers that share the threads."""
        precision, _, several = variant.partition("*")
        workers = int(several or 1)
        bundle = load_bundle(path)
        runner = OnnxRunner.open(bundle, precision=precision, device="cpu", threads=threads // workers)
        self._engine, self._conventions = offline_engine(runner, workers=workers), bundle.manifest.search

    def translate(self, sources: Sequence[Ids], search: Search, options: Mapping[str, object]) -> list[Ids]:
        """Translate sources that are all submitted at once; ``options`` are ignored."""
        wanted = DecodingOptions(
            max_length=search.max_length,
            min_length=search.min_length,
            beam_size=search.beam,
            search=self._conventions,
        )
        sentences = [Sentence(np.array(source, dtype=np.int64), wanted) for source in sources]
        decoded = self._engine.submit(sentences).future.result()
        return [list(one.hypotheses[0].tokens) for one in decoded]
