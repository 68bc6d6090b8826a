"""A translator over the toy model, which copies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from serving.bundle.manifest import Manifest
from serving.engine.request import TranslationRequest
from serving.engine.translator import Translator
from serving.engine.validation import ServingLimits
from serving.errors import InvalidRequest
from serving.messages import Options, Result, Translation
from tests.toy_runner import ToyModel
from tests.unit.serving.engine.toy_engine import IDS, Gate, Recorder, Toy, manifest, tokenizer, toy_engine

TEXT = "The cat sat on the mat."
LONG = "The cat sat on the mat. Where is the train station?  I drink milk.\n\nA man is standing on a ladder. " * 3


@dataclasses.dataclass
class Served:
    translator: Translator
    toy: Toy
    seen: Recorder

    def translate(self, *texts: str, **options: object) -> tuple[Translation, ...]:
        return self.ask(*texts, **options).translations

    def ask(self, *texts: str, **options: object) -> Result:
        chosen = Options(**{"tokens": True} | options)  # type: ignore[arg-type]
        return self.translator.translate_blocking(TranslationRequest(texts, chosen, request_id="test"))


@contextmanager
def served(
    described: Manifest | None = None,
    *,
    reverse: bool = False,
    gate: Gate | None = None,
    limits: ServingLimits | None = None,
    **engine_limits: int,
) -> Iterator[Served]:
    described = described or manifest()
    subwords = tokenizer(reverse_source=reverse)
    # A model that reads the source reversed undoes that, so that the text comes back as it was.
    model = ToyModel(described.vocabulary_size, IDS, reverse=reverse, peak=12.0)
    with toy_engine(model, gate=gate, **engine_limits) as toy:
        seen = Recorder()
        translator = Translator(described, subwords, toy.engine, limits=limits, observer=seen)
        try:
            yield Served(translator, toy, seen)
        finally:
            translator.close()


def violations(copy: Served, *texts: str, **options: object) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as refused:
        copy.translate(*texts, **options)
    fields = [violation.field for violation in refused.value.violations]
    assert len(fields) == len(set(fields))
    return {violation.field: violation.description for violation in refused.value.violations}
