"""A student of Marian in 8 bits with its lexicon, imported and asked over gRPC, against equations in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from export import import_command
from export.readers import marian
from export.trained_model import TrainedModel
from serving.bundle.bundle import load_bundle
from serving.bundle.manifest import Languages
from serving.client import Options, TranslationClient
from tests.system.served import server
from tests.unit.export.readers.marian_native import (
    PIECES,
    SENTENCES,
    STUDENT,
    bin_of,
    dequantized,
    lexicon_of,
    random_weights,
    spm,
)
from tests.unit.export.readers.marian_reference import Reference, Search

LIMIT, UNKNOWN = 16, 1


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Reference, TrainedModel, Path]]:
    """The student of the equations, what was read of it, and the directory of bundles that it was imported to."""
    place = tmp_path_factory.mktemp("student")
    folder, draw = place / "ende", np.random.default_rng(4)
    folder.mkdir()
    weights = random_weights(STUDENT, (PIECES, PIECES))
    (folder / "model.ende.intgemm.alphas.bin").write_bytes(bin_of(weights, STUDENT, 8, alphas=True))
    (folder / "vocab.ende.spm").write_bytes(spm())
    lists = [draw.choice(PIECES, 6, replace=False).tolist() for _ in range(PIECES)]
    (folder / "lex.50.50.ende.s2t.bin").write_bytes(lexicon_of(lists, first=20, best=50))
    arguments = ["--name", "en-de", "--precisions", "fp32", "--max-bleu-loss", "inf", "--max-target-tokens", str(LIMIT)]
    assert import_command.main([str(folder), str(place / "models"), *arguments, "--max-sentences", "60"]) == 0
    yield (
        Reference(dequantized(weights, 8), STUDENT),
        marian.read(folder, Languages.between("en", "de")),
        place / "models",
    )


def test_the_bundle_has_the_lexicon(both: tuple[Reference, TrainedModel, Path]) -> None:
    manifest = load_bundle(both[2] / "en-de" / "1").manifest
    assert sorted(manifest.precisions) == ["fp32", "fp32-shortlist"]
    assert manifest.architecture.sizes["decoder_autoregression"] == "ssru"
    assert [state.name for state in manifest.precisions["fp32"].state] == ["ssru_0", "ssru_1"]


@pytest.mark.parametrize("precision", ["fp32", "fp32-shortlist"])
def test_answers_are_those_of_the_equations(precision: str, both: tuple[Reference, TrainedModel, Path]) -> None:
    reference, trained, models = both
    assert trained.shortlist is not None
    texts, answered = SENTENCES[:10], set[int]()
    with server(models, "--precision", precision) as at, TranslationClient(at.grpc) as client:
        for beam, exponent in ((1, 0.0), (4, 1.0)):
            options = Options(
                beam_size=beam, n_best=beam, max_length=LIMIT, length_penalty=exponent, retry_repetition=False
            )
            answers = client.translate(texts, options).translations
            search = Search(reference, [UNKNOWN], beam, exponent, LIMIT)
            for ids, answer in zip(trained.encode(texts), answers, strict=True):
                source = [*ids, 0]
                allowed = trained.shortlist.candidates(np.array(source)) if "shortlist" in precision else None
                expected = search.translate(source, allowed)
                found = [one.text for one in answer.hypotheses]
                assert found == trained.decode([tokens for tokens, _ in expected])
                assert [one.score for one in answer.hypotheses] == pytest.approx([s for _, s in expected], abs=1e-4)
                answered |= {len(tokens) for tokens, _ in expected}
    assert len(answered) > 4
