"""A bundle of the format version of today still loads and answers as it did.

``format-N`` holds a bundle of format version N and ``answers.json``, what it answered when it was made. A change is a
breaking change: see CHANGELOG. That of format 2 turns number words round and into German; that of format 3 has random
weights, a language token before the source and another before the translation.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from serving.bundle.bundle import load_bundle
from serving.bundle.manifest import FORMAT_VERSION
from serving.engine.request import TranslationRequest
from serving.messages import Options
from serving.opening import open_model

FORMATS = sorted(Path(__file__).parent.glob("format-*"))


def test_there_is_one_for_the_format_version_of_today() -> None:
    assert FORMATS[-1].name == f"format-{FORMAT_VERSION}"


@pytest.mark.parametrize("folder", FORMATS, ids=lambda path: path.name)
def test_it_answers_as_it_did(folder: Path) -> None:
    recorded = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    (directory,) = folder.glob("*/1")
    bundle = load_bundle(directory)
    with closing(open_model(bundle, precision="fp32", device="cpu").start()) as model:
        for case in recorded:
            options = Options(
                beam_size=case["beam_size"], n_best=case["n_best"], alignments=True, retry_repetition=False
            )
            languages = {key: case[key] for key in ("source_language", "target_language") if key in case}
            result = model.translator.translate_blocking(TranslationRequest((case["text"],), options, **languages))
            found = result.translations[0].hypotheses
            assert [hypothesis.text for hypothesis in found] == [answer["text"] for answer in case["answers"]]
            for hypothesis, answer in zip(found, case["answers"], strict=True):
                assert hypothesis.score == pytest.approx(answer["score"], abs=1e-4)
                links = [
                    [link.source_start, link.source_end, link.target_start, link.target_end]
                    for link in hypothesis.alignment
                ]
                assert links == answer["alignment"]
