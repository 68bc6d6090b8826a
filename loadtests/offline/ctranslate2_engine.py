"""CTranslate2, offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ctranslate2 import Translator

from loadtests.offline.searches import SHORTLIST, Ids, Search


class CTranslate2Engine:
    """A converted bundle (see ``ctranslate2_model.py``), on its compute types."""

    def __init__(self, path: Path, variant: str, threads: int, device: str = "cpu") -> None:
        """Open a model.

        ``variant`` is a compute type. ``TYPE*N`` runs N batches at a time that share the threads; ``TYPE-shortlist``
        uses the bundle's shortlist.
        """
        compute_type, _, workers = variant.partition("*")
        self._shortlist = compute_type.endswith(SHORTLIST)
        compute_type = compute_type.removesuffix(SHORTLIST)
        inter = int(workers or 1)
        self._translator = Translator(
            str(path), device, compute_type=compute_type, inter_threads=inter, intra_threads=threads // inter
        )

    def translate(self, sources: Sequence[Ids], search: Search, options: Mapping[str, object]) -> list[Ids]:
        """Translate sources as one batch, or as ``options`` of ``translate_batch`` say."""
        results = self._translator.translate_batch(
            [[str(number) for number in source] for source in sources],
            beam_size=search.beam,
            max_decoding_length=search.max_length,
            min_decoding_length=search.min_length,
            max_input_length=0,
            use_vmap=self._shortlist,
            suppress_sequences=[[str(number)] for number in search.suppressed] or None,
            **options,
        )
        return [[int(token) for token in result.hypotheses[0]] for result in results]
