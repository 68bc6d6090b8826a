"""Random MarianMT models in three engines: ``generate``, ``Translator`` of what its converter wrote, and ours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.readers import ctranslate2 as reader
from export.readers import huggingface_marian
from serving.bundle.manifest import Languages
from tests.agreement.comparison import COUNT, FULL, LIMIT, Agreement, Ours, Theirs
from tests.agreement.marian_shapes import SHAPES, random_sources
from tests.agreement.test_huggingface import generated, options_of
from tests.unit.export.readers.marian_models import marian

transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra train-peer)")
ctranslate2 = pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed (extra peer)")

# Its converter takes neither vocabularies of different sizes nor ids without a piece.
CONVERTIBLE = [name for name, shape in SHAPES.items() if not (shape.get("separate") or shape.get("padding"))]
_SMALL = 3  # searches of a shape, where not all are made


def searches(shape: int) -> Iterator[dict[str, Any]]:
    """Options: beams and length penalties in full, the rest at random."""
    draw = np.random.default_rng(shape)
    plan = np.array([*product((1, 2, 4, 8), (0.6, 1.0, 1.4))], dtype=object)
    for beam, penalty in plan if FULL else draw.permutation(plan)[:_SMALL].tolist():
        yield {
            "beam_size": int(beam),
            "length_penalty": float(penalty),
            "no_repeat_ngram_size": int(draw.choice([0, 2, 3])),
            "min_length": int(draw.choice([0, 1, 5])),
        }


def translated(
    folder: Path, sources: Sequence[list[int]], search: dict[str, Any], prefix: Sequence[int]
) -> Iterator[Theirs]:
    """All hypotheses of ``Translator`` and their scores."""
    translator = ctranslate2.Translator(str(folder), compute_type="float32", inter_threads=1, intra_threads=1)
    shared = folder / "shared_vocabulary.json"
    read, written = (
        json.loads((shared if shared.exists() else folder / f"{side}_vocabulary.json").read_text())
        for side in ("source", "target")
    )
    ids = {token: number for number, token in enumerate(written)}
    options = {key: value for key, value in search.items() if key != "min_length"}
    found = translator.translate_batch(
        [[*(read[token] for token in source), "</s>"] for source in sources],
        target_prefix=[[written[token] for token in prefix]] * len(sources) if prefix else None,
        num_hypotheses=search["beam_size"],
        max_decoding_length=LIMIT,
        min_decoding_length=search["min_length"],
        return_scores=True,
        max_batch_size=250,
        **options,
    )
    for one in found:
        yield [[ids[token] for token in tokens] for tokens in one.hypotheses], one.scores


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Steps of tiny models are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    yield
    torch.set_num_threads(threads)


@pytest.mark.timeout(0 if FULL else 300)
@pytest.mark.parametrize("shape", CONVERTIBLE)
def test_three_engines_have_one_answer(shape: str, tmp_path: Path) -> None:
    folder, number = tmp_path / "marian", list(SHAPES).index(shape)
    marian(folder, **SHAPES[shape])
    ctranslate2.converters.TransformersConverter(str(folder)).convert(str(tmp_path / "converted"))
    model = transformers.MarianMTModel.from_pretrained(folder, dtype=torch.float32).eval()
    # What their converter leaves out of what a model's configuration says, and what it takes as said.
    model.generation_config.update(num_beams=2, early_stopping=True, renormalize_logits=True, forced_eos_token_id=None)
    model.generation_config.save_pretrained(folder)
    original, converted = (
        huggingface_marian.read(folder, Languages.between("en", "de")),
        reader.read(tmp_path / "converted", Languages.between("en", "de")),
    )
    sources = random_sources(COUNT, range(2, original.vocabulary.pad), number)
    agreements = {name: Agreement() for name in ("generate", "Translator", "Translator with a prefix")}
    for search in searches(number):
        generation = {"num_beams": search["beam_size"], "min_length": search["min_length"] + 1, "max_length": LIMIT + 1}
        kept = {key: search[key] for key in ("length_penalty", "no_repeat_ngram_size")}
        model.generation_config.update(**generation, **kept, early_stopping=search["beam_size"] > 1)
        theirs = list(translated(tmp_path / "converted", sources, search, ()))
        ours = Ours(converted, sources, options_of(converted, **search))
        agreements["Translator"].add(ours, theirs)
        agreements["generate"].add(ours, list(generated(model, sources, search["beam_size"])))
        agreements["Translator"].add(Ours(original, sources, options_of(original, **search)), theirs)
        prefix = (5, 9)[: 1 + number % 2]
        theirs = list(translated(tmp_path / "converted", sources, search, prefix))
        ours = Ours(converted, sources, options_of(converted, **search, prefix=prefix))
        agreements["Translator with a prefix"].add(ours, theirs)
    for name, agreement in agreements.items():
        agreement.check(f"{shape}, {name}")
