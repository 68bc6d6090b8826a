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

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="DRAGOMAN_DATA has no aren/: the small real model is missing")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any, Any]]:
    """The library's translator, a client of our server, and words."""
    folder, place = DATA / "aren-transliteration-i8", tmp_path_factory.mktemp("aren")
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
    ("ours", "theirs"),
    [
        ({"beam_size": 1}, {"beam_size": 1}),
        ({"beam_size": 4, "n_best": 4}, {"beam_size": 4, "num_hypotheses": 4}),
        ({"beam_size": 4, "length_penalty": 0.6}, {"beam_size": 4, "length_penalty": 0.6}),
        ({"beam_size": 1, "max_length": 5}, {"beam_size": 1, "max_decoding_length": 5}),
        ({"beam_size": 1, "no_repeat_ngram_size": 2}, {"beam_size": 1, "no_repeat_ngram_size": 2}),
    ],
    ids=lambda options: "-".join(f"{key}={value}" for key, value in options.items()),
)
def test_answers_are_the_library_s(ours: dict[str, Any], theirs: dict[str, Any], both: tuple[Any, Any, Any]) -> None:
    translator, client, words = both
    expected = translator.translate_batch(
        [list(word) for word in words],
        **{"max_decoding_length": 30, "min_decoding_length": 0, "return_scores": True, **theirs},
    )
    options = Options(**{"max_length": 30, **ours})
    calls = (client.translate(words[first : first + CALL], options) for first in range(0, WORDS, CALL))
    answers = [answer for call in calls for answer in call.translations]
    banned = "no_repeat_ngram_size" in theirs  # theirs makes the other tokens more likely
    for answer, best in zip(answers, expected, strict=True):
        assert [one.text for one in answer.hypotheses] == ["".join(tokens) for tokens in best.hypotheses]
        assert banned or [one.score for one in answer.hypotheses] == pytest.approx(best.scores, abs=1e-4)
