"""A small real model of CTranslate2, imported and asked over gRPC, against the library's own answers."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from export import import_command
from serving.client import Options, TranslationClient
from tests.system.served import server

ctranslate2 = pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed (extra peer)")

DATA = Path(os.environ.get("DRAGOMAN_DATA", "."), "aren")
WORDS, CALL = 500, 100  # in all, and of one request
THEIRS = {"n_best": "num_hypotheses", "min_length": "min_decoding_length", "max_length": "max_decoding_length"}

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="DRAGOMAN_DATA has no aren/: the small real model is missing")


@pytest.fixture(scope="module", params=["aren-transliteration", "aren-transliteration-i8"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any, Any]]:
    """The library's translator, a client of our server, and words."""
    folder, place = DATA / request.param, tmp_path_factory.mktemp("aren")
    draw = random.Random(0)
    letters = (folder / "source_vocabulary.txt").read_text(encoding="utf-8").split("\n")[3:39]
    words = ["".join(draw.choices(letters, k=draw.randint(2, 8))) for _ in range(WORDS)]
    (place / "words.ar").write_text("\n".join(words[:40]) + "\n", encoding="utf-8")
    arguments = ["--name", "ar-en", "--sentences", str(place / "words.ar"), "--precisions", "fp32"]
    assert import_command.main([str(folder), str(place), *arguments, "--max-target-tokens", "30"]) == 0
    translator = ctranslate2.Translator(str(folder), compute_type="float32", inter_threads=1, intra_threads=1)
    with server(place) as at, TranslationClient(at.grpc) as client:
        yield translator, client, words


@pytest.mark.parametrize(
    "options",
    [
        {"beam_size": 1},
        {"beam_size": 2},
        {"beam_size": 4, "n_best": 4},
        {"beam_size": 4, "n_best": 4, "length_penalty": 0.6},
        {"beam_size": 8, "n_best": 3, "length_penalty": 1.4},
        {"beam_size": 1, "max_length": 5},
        {"beam_size": 4, "n_best": 4, "max_length": 5},
        {"beam_size": 1, "no_repeat_ngram_size": 2},
        {"beam_size": 4, "n_best": 4, "no_repeat_ngram_size": 1},
        {"beam_size": 4, "n_best": 4, "min_length": 6},
        {"beam_size": 1, "target_prefixes": "ka"},
        {"beam_size": 4, "n_best": 4, "target_prefixes": "m"},
    ],
    ids=lambda options: "-".join(f"{key}={value}" for key, value in options.items()),
)
def test_answers_are_the_library_s(options: dict[str, Any], both: tuple[Any, Any, Any]) -> None:
    """Every hypothesis and its score, with what the library does where nothing is asked for."""
    translator, client, words = both
    prefix, limit = options.get("target_prefixes", ""), options.get("max_length", 30)
    theirs = {THEIRS.get(key, key): value for key, value in options.items() if key != "target_prefixes"}
    expected = translator.translate_batch(
        [list(word) for word in words],
        target_prefix=[list(prefix)] * WORDS if prefix else None,
        return_scores=True,
        **{**theirs, "max_decoding_length": limit},
    )
    asked = Options(**{"max_length": limit, **options, "target_prefixes": (prefix,) * CALL if prefix else ()})
    calls = (client.translate(words[first : first + CALL], asked) for first in range(0, WORDS, CALL))
    answers = [answer for call in calls for answer in call.translations]
    for answer, best in zip(answers, expected, strict=True):
        assert [one.text for one in answer.hypotheses] == ["".join(tokens) for tokens in best.hypotheses]
        assert [one.score for one in answer.hypotheses] == pytest.approx(best.scores, abs=1e-4)
