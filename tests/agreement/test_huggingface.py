"""Random MarianMT models against ``generate``: every hypothesis of many searches.

``DRAGOMAN_AGREEMENT=1000 pytest tests/agreement -s`` makes every search with 1,000 sources and prints what it found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.readers import huggingface_marian
from export.trained_model import TrainedModel
from serving.bundle.manifest import Languages
from serving.decoding.options import DecodingOptions
from tests.agreement.comparison import COUNT, FULL, LIMIT, Agreement, Theirs
from tests.agreement.marian_shapes import SHAPES, random_sources
from tests.unit.export.readers.marian_models import EOS, marian

transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra train-peer)")

_BATCH = 250
_SMALL = 3  # searches of a shape, where not all are made


def searches(shape: int, vocabulary: int, pad: int) -> Iterator[dict[str, Any]]:
    """Generation configurations: beams, length penalties and rules of stopping in full, the rest at random."""
    plan: list[tuple[int, float, bool | str]] = [(1, 1.0, False)] * 4
    plan += [(b, p, e) for b in (2, 4, 8) for p in (0.6, 1.0, 1.4) for e in (False, True, "never")]
    draw = np.random.default_rng(shape)
    for beam, penalty, stopping in plan if FULL else draw.permutation(np.array(plan, dtype=object))[:_SMALL].tolist():
        yield {
            "num_beams": beam,
            "length_penalty": penalty,
            "early_stopping": stopping if beam > 1 else None,
            "no_repeat_ngram_size": int(draw.choice([0, 2, 3])),
            "forced_eos_token_id": [None, EOS][draw.integers(2)],
            "suppress_tokens": [None, draw.integers(2, vocabulary - 1, size=25).tolist()][draw.integers(2)],
            "bad_words_ids": [[pad]],
            "renormalize_logits": bool(draw.integers(2)),
            "min_length": int(draw.choice([0, 0, 5])),
            "max_length": LIMIT + 1,
        }


def generated(model: Any, sources: Sequence[list[int]], beam: int, prefix: Sequence[int] = ()) -> Iterator[Theirs]:
    """All hypotheses that ``generate`` has with the model's generation configuration, and their scores."""
    pad, start = model.config.pad_token_id, model.config.decoder_start_token_id
    for first in range(0, len(sources), _BATCH):
        batch = sources[first : first + _BATCH]
        rows = torch.full((len(batch), max(map(len, batch)) + 1), pad)
        for row, source in zip(rows, batch, strict=True):
            row[: len(source) + 1] = torch.tensor([*source, EOS])
        found = model.generate(
            rows,
            attention_mask=(rows != pad).long(),
            decoder_input_ids=torch.tensor([[start, *prefix]] * len(batch)),
            num_return_sequences=beam,
            return_dict_in_generate=True,
            output_scores=True,
        )
        sequences = found.sequences[:, 1:].reshape(len(batch), beam, -1).tolist()
        scores = found.sequences_scores.reshape(len(batch), beam).tolist() if beam > 1 else [[]] * len(batch)
        for hypotheses, own in zip(sequences, scores, strict=True):
            yield [[*before(tokens, (EOS, pad))] for tokens in hypotheses], own


def before(tokens: list[int], ends: tuple[int, ...]) -> Iterator[int]:
    """The tokens before the first of ``ends``."""
    for token in tokens:
        if token in ends:
            return
        yield token


def options_of(trained: TrainedModel, **asked: Any) -> DecodingOptions:
    """What a request gets that leaves the rest to the model; all hypotheses, if it does not say how many."""
    given: dict[str, Any] = {"max_length": LIMIT, "search": trained.search, **dict(trained.defaults), **asked}
    return DecodingOptions(**{"n_best": given["beam_size"], **given})


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
@pytest.mark.parametrize("shape", SHAPES)
def test_every_hypothesis_is_the_library_s(shape: str, tmp_path: Path) -> None:
    marian(tmp_path, **SHAPES[shape])
    model = transformers.MarianMTModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    number, config = list(SHAPES).index(shape), model.config
    sources = random_sources(COUNT, config.pad_token_id, number)
    agreement = Agreement()
    for turn, search in enumerate(searches(number, config.pad_token_id, config.pad_token_id)):
        prefix = ((), (), (5,), (5, 9))[(turn + number) % 4]
        wanted = transformers.GenerationConfig(**{**model.generation_config.to_dict(), **search})
        wanted.save_pretrained(tmp_path)
        model.generation_config = wanted
        trained = huggingface_marian.read(tmp_path, Languages.between("en", "de"))
        agreement.add(
            trained,
            sources,
            options_of(trained, prefix=prefix),
            list(generated(model, sources, search["num_beams"], prefix)),
        )
    agreement.check(shape)
