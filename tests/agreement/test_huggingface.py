"""Random MarianMT, M2M100, NLLB and mBART-50 models against ``generate``: every hypothesis of many searches.

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
from export.readers.kinds import kind_of
from export.trained_model import TrainedModel
from serving.bundle.manifest import Languages
from serving.decoding.options import DecodingOptions
from tests.agreement.comparison import COUNT, FULL, LIMIT, Agreement, Ours, Theirs
from tests.agreement.marian_shapes import SHAPES, random_sources
from tests.unit.export.readers.marian_models import marian
from tests.unit.export.readers.multilingual_models import CODES, PIECES, Family, multilingual

transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra train-peer)")

_SMALL = 3  # searches of a shape, where not all are made


def searches(shape: int, tokens: range, config: Any) -> Iterator[dict[str, Any]]:
    """Generation configurations: beams, length penalties and rules of stopping in full, the rest at random.

    Args:
        shape: Its number.
        tokens: Ids that a search may suppress.
        config: Of the model.
    """
    plan: list[tuple[int, float, bool | str]] = [(1, 1.0, False)] * 4
    plan += [(b, p, e) for b in (2, 4, 8) for p in (0.6, 1.0, 1.4) for e in (False, True, "never")]
    draw = np.random.default_rng(shape)
    for beam, penalty, stopping in plan if FULL else draw.permutation(np.array(plan, dtype=object))[:_SMALL].tolist():
        yield {
            "num_beams": beam,
            "length_penalty": penalty,
            "early_stopping": stopping if beam > 1 else None,
            "no_repeat_ngram_size": int(draw.choice([0, 2, 3])),
            "forced_eos_token_id": [None, config.eos_token_id][draw.integers(2)],
            "suppress_tokens": [None, draw.integers(tokens.start, tokens.stop - 1, size=25).tolist()][draw.integers(2)],
            "bad_words_ids": [[config.pad_token_id]],
            "renormalize_logits": bool(draw.integers(2)),
            "min_length": int(draw.choice([0, 0, 5])),
            "max_length": LIMIT + 1,
        }


def generated(model: Any, sources: Sequence[list[int]], beam: int, prefix: Sequence[int] = ()) -> Iterator[Theirs]:
    """All hypotheses that ``generate`` has with the model's generation configuration, and their scores.

    A token that every translation is forced to begin with is left out.
    """
    config, told = model.config, model.generation_config.forced_bos_token_id is not None
    pad, eos, start = config.pad_token_id, config.eos_token_id, config.decoder_start_token_id
    rows = torch.full((len(sources), max(map(len, sources)) + 1), pad)
    for row, source in zip(rows, sources, strict=True):
        row[: len(source) + 1] = torch.tensor([*source, eos])
    found = model.generate(
        rows,
        attention_mask=(rows != pad).long(),
        decoder_input_ids=torch.tensor([[start, *prefix]] * len(sources)),
        num_return_sequences=beam,
        return_dict_in_generate=True,
        output_scores=True,
    )
    sequences = found.sequences[:, 1 + told :].reshape(len(sources), beam, -1).tolist()
    scores = found.sequences_scores.reshape(len(sources), beam).tolist() if beam > 1 else [[]] * len(sources)
    for hypotheses, own in zip(sequences, scores, strict=True):
        yield [[*before(tokens, (eos, pad))] for tokens in hypotheses], own


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
    number, tokens = list(SHAPES).index(shape), range(2, model.config.pad_token_id)
    sources = random_sources(COUNT, tokens, number)
    agreement = Agreement()
    for turn, search in enumerate(searches(number, tokens, model.config)):
        prefix = ((), (), (5,), (5, 9))[(turn + number) % 4]
        wanted = transformers.GenerationConfig(**{**model.generation_config.to_dict(), **search})
        wanted.save_pretrained(tmp_path)
        model.generation_config = wanted
        trained = huggingface_marian.read(tmp_path, Languages.between("en", "de"))
        ours = Ours(trained, sources, options_of(trained, prefix=prefix))
        agreement.add(ours, list(generated(model, sources, search["num_beams"], prefix)))
    agreement.check(shape)


@pytest.mark.timeout(0 if FULL else 300)
@pytest.mark.parametrize("family", CODES)
def test_so_it_is_in_every_language(family: Family, tmp_path: Path) -> None:
    model = multilingual(tmp_path, family)
    number, tokens = list(CODES).index(family), range(model.config.eos_token_id + 2, PIECES)
    sources, kind = random_sources(COUNT, tokens, number), kind_of(tmp_path)
    languages, agreement = kind.languages(tmp_path), Agreement()
    assert languages is not None
    directions = [languages.pair(*tags) for tags in (("en", "de"), ("de", "zh"), ("fr", "en"))]
    for turn, search in enumerate(searches(number, tokens, model.config)):
        pair = directions[turn % 3]
        assert pair is not None
        (language,) = pair.before_target
        search["max_length"] += 1  # the language
        wanted = transformers.GenerationConfig(**{**model.generation_config.to_dict(), **search})
        wanted.forced_bos_token_id = None  # else a bundle would know this target only
        wanted.save_pretrained(tmp_path)
        model.generation_config = wanted
        trained = kind.read(tmp_path, languages)
        read = [[*pair.before_source, *source] for source in sources]
        ours = Ours(trained, read, options_of(trained, start=pair.before_target))
        wanted.forced_bos_token_id = language
        agreement.add(ours, list(generated(model, read, search["num_beams"])))
    agreement.check(family)
