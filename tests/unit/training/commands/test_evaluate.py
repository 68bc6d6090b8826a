"""Scores, comparisons and looks inside, of a model that has learnt to copy words it does not know."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import sacrebleu

from tests.unit.training.copying import sentence, train_copier
from training.checkpoint import load
from training.cli import main
from training.commands.evaluate import System, evaluate
from training.data.parallel_text import Pair
from training.data.tokenizer import load_tokenizer
from training.decode import DecodeOptions
from training.error_analysis import copy_rate, error_sample, length_buckets
from training.translation import aligned, translate_texts

PAIRS = [
    Pair("the cat sat", "le chat assis", "a"),
    Pair("a dog", "un chien", "b"),
    Pair("it is what it is today", "c'est la vie aujourd'hui", "a"),
    Pair("Paris", "Paris", "b"),
]
GOOD = ["le chat assis", "un chien", "c'est la vie", "Paris"]
BAD = ["the cat sat", "dog", "non", "Paris"]


def test_report_has_all_parts() -> None:
    report = evaluate(PAIRS, System("good", GOOD), System("bad", BAD), samples=5)
    references = [[pair.target for pair in PAIRS]]
    expected = {
        "BLEU": sacrebleu.corpus_bleu(GOOD, references).score,
        "chrF": sacrebleu.corpus_chrf(GOOD, references).score,
        "TER": sacrebleu.corpus_ter(GOOD, references).score,
    }
    assert report.whole.scores == pytest.approx(expected)
    assert "nrefs:1|case:mixed|eff:no|tok:13a" in report.signatures["BLEU"]
    assert {name: part.sentences for name, part in report.labels.items()} == {"a": 2, "b": 2}
    assert {name: part.sentences for name, part in report.lengths.items()} == {"1-5 words": 3, "6-10 words": 1}
    assert report.labels["b"].scores["TER"] == 0.0
    assert report.rates["copied words in references"] == pytest.approx(1 / 12)
    assert report.rates["translations equal to their source"] == 0.25
    assert report.against is not None
    name, compared = report.against
    assert name == "bad"
    assert compared["chrF"].score == pytest.approx(expected["chrF"])
    assert compared["chrF"].other == pytest.approx(sacrebleu.corpus_chrf(BAD, references).score)
    assert "bs:1000|seed:12345" in compared["chrF"].signature
    assert 0 < compared["chrF"].p_value < 0.5
    assert [error.number for error in report.errors] == [3]
    text = "\n".join(report.lines())
    assert "good: 4 sentences, BLEU " in text
    assert "  translation: c'est la vie\n" in text + "\n"


def test_equal_systems_do_not_differ() -> None:
    report = evaluate(PAIRS * 5, System("one", GOOD * 5), System("other", GOOD * 5))
    assert report.against is not None
    assert report.against[1]["BLEU"].p_value == 1.0


def test_buckets_and_rates() -> None:
    assert length_buckets(["a " * n for n in (5, 6, 61, 1000)]) == {
        "1-5 words": [0],
        "6-10 words": [1],
        "over 60 words": [2, 3],
    }
    assert copy_rate(["The cat"], ["the dog, CAT"]) == pytest.approx(2 / 3)
    assert copy_rate([""], [""]) == 0.0
    many = [Pair(str(i), "abc def") for i in range(20)]
    texts = ["abc def"] * 5 + ["abc"] * 5 + ["x"] * 10
    drawn = error_sample(many, texts, 4, seed=1)
    assert drawn == error_sample(many, texts, 4, seed=1) != error_sample(many, texts, 4, seed=2)
    assert all(error.number > 10 for error in drawn)


@pytest.fixture(scope="module")
def copier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_copier(tmp_path_factory.mktemp("copier"))


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*litlogger.*")
def test_unknown_words_are_copied_from_where_the_model_looks(copier: Path) -> None:
    checkpoint = load(copier)
    assert load_tokenizer(checkpoint.source_tokenizer_bytes).size == 12
    draw = random.Random(9)
    pairs = [sentence(draw) for _ in range(50)]
    for beam in (1, 3):
        found = translate_texts(checkpoint, [a for a, _ in pairs], DecodeOptions(beam_size=beam, max_length=20))
        right = sum(text == b for text, (_, b) in zip(found, pairs, strict=True))
        assert right >= 45, (beam, found[:3], pairs[:3])
    assert translate_texts(checkpoint, [" ", pairs[0][0]], DecodeOptions(max_length=20)) == ["", found[0]]
    source, target = (load_tokenizer(m) for m in (checkpoint.source_tokenizer_bytes, checkpoint.target_tokenizer_bytes))
    (left,), (right_ids,) = source.encode(["red bobobobo sad"]), target.encode(["rouge bobobobo triste"])
    assert aligned(checkpoint, left, right_ids) == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*litlogger.*")
def test_commands(copier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(5)
    pairs = [sentence(draw) for _ in range(6)]
    for name, column in (("en", 0), ("fr", 1)):
        (tmp_path / name).write_text("".join(pair[column] + "\n" for pair in pairs), encoding="utf-8")
    (tmp_path / "labels").write_text("a\nb\n" * 3, encoding="utf-8")
    files = [str(tmp_path / name) for name in ("en", "fr", "labels")]
    written = str(tmp_path / "out")
    assert main(["evaluate", str(copier), *files, "--beam", "1", "--only", "a", "--write", written, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["whole"]["sentences"] == 3
    assert 0.0 < report["rates"]["unknown tokens in sources"] < 0.5
    # The translations that were written, as a system of their own.
    assert main(["evaluate", written, *files, "--only", "a", "--against", str(copier), "--samples", "1"]) == 0
    again = capsys.readouterr().out
    assert f"BLEU {report['whole']['scores']['BLEU']:.2f}" in again
    assert "p = 1.0000" in again
    assert main(["evaluate", written, *files]) == 1
    assert "has 3 translations, but the test set has 6 sentences" in capsys.readouterr().err
    assert main(["evaluate", written, *files, "--only", "c"]) == 1
    assert "has none of the labels c" in capsys.readouterr().err

    picture = tmp_path / "a.png"
    assert main(["attention", str(copier), pairs[0][0], "--out", str(picture)]) == 0
    assert capsys.readouterr().out.strip()
    assert picture.read_bytes().startswith(b"\x89PNG")
    given = ["attention", str(copier), "big x", "--target", "grand x", "--out", str(picture)]
    assert main([*given, "--layer", "0", "--head", "0"]) == 0
    assert main([*given, "--layer", "3"]) == 1
    assert "there is no layer 3; the model has layers 0 to 0" in capsys.readouterr().err


def test_a_picture_shows_the_weights_where_they_are(tmp_path: Path) -> None:
    import matplotlib.image

    from training.plots import draw_attention

    weights = np.zeros((2, 3), dtype=np.float32)
    weights[1, 0] = 1.0
    for name, values in (("first", weights), ("second", weights[::-1])):
        draw_attention([("layer 0", values)] * 5, ["a", "b", "c"], ["x", "y"], tmp_path / f"{name}.png")
    first, second = (matplotlib.image.imread(tmp_path / f"{name}.png")[..., :3] for name in ("first", "second"))
    assert first.shape == second.shape
    # Black squares of the same area, at other places.
    assert (first.sum(axis=-1) < 0.1).sum() == pytest.approx((second.sum(axis=-1) < 0.1).sum(), rel=0.05)
    assert np.abs(first - second).max() > 0.9
