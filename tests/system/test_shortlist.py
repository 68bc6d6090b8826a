"""A shortlist the whole way by the command: learnt, exported, verified, served; nothing of it where none is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export import cli
from serving.bundle.bundle import load_bundle
from serving.client import Options, TranslationClient
from serving.runtime.onnx_runner import OnnxRunner
from tests.system.served import server
from tests.unit.training.tiny_run import tiny_config
from training.run import run

pytestmark = [  # Lightning's own
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*litlogger.*"),
    pytest.mark.filterwarnings("ignore:.*num_workers.*"),
]
SENTENCES = [f"word{number % 7} so word{number % 5}" for number in range(500)]
LEXICON = "shortlist.npz"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of few steps, exported to plain/tiny/1 and, with a shortlist, to short/tiny/1."""
    folder = tmp_path_factory.mktemp("shortlist")
    run(tiny_config(folder))
    (folder / "test.en").write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    shared = ("--sentences", str(folder / "test.en"), "--max-target-tokens", "8", "--max-bleu-loss", "inf")
    lists = ("--shortlist", "--shortlist-always", "8", "--shortlist-best", "4")
    for root, more in (("plain", ()), ("short", lists)):
        options = ["--name", "tiny", *shared, *more]
        assert cli.main([str(folder / "run" / "last.ckpt"), str(folder / root), *options]) == 0
    return folder


def test_every_precision_of_the_cpu_is_there_with_a_shortlist_and_verified(models: Path) -> None:
    precisions = load_bundle(models / "short" / "tiny" / "1").manifest.precisions
    assert sorted(precisions) == ["fp32", "fp32-shortlist", "int8", "int8-shortlist"]
    assert precisions["fp32-shortlist"].verification.max_abs_log_prob_difference < 1e-4
    assert precisions["int8-shortlist"].verification.agreement_bleu is not None


def test_weights_are_stored_once(models: Path) -> None:
    plain, short = ((models / root / "tiny" / "1" / "weights.bin").stat().st_size for root in ("plain", "short"))
    assert short == plain


def test_a_bundle_without_one_knows_nothing_of_it(models: Path) -> None:
    folder = models / "plain" / "tiny" / "1"
    assert "shortlist" not in (folder / "manifest.json").read_text(encoding="utf-8")
    assert not (folder / LEXICON).exists()
    hashes = [
        json.loads((models / root / "tiny" / "1" / "manifest.json").read_bytes())["files"]
        for root in ("plain", "short")
    ]
    assert all(hashes[1][file] == sha for file, sha in hashes[0].items())


@pytest.mark.parametrize("precision", ["fp32-shortlist", "int8-shortlist"])
def test_it_is_served_by_its_name(models: Path, precision: str) -> None:
    verified = load_bundle(models / "short" / "tiny" / "1").manifest.precisions[precision].verification
    with server(models / "short", "--precision", precision) as at, TranslationClient(at.grpc) as client:
        model = client.get_model()
        assert model.precision == precision
        assert model.verification.max_abs_log_prob_difference == pytest.approx(verified.max_abs_log_prob_difference)
        for beam in (1, 4):
            options = Options(beam_size=beam, target_prefixes=("zz", ""))
            first, second = client.translate(["word1 so", "word2 and word3"], options).translations
            assert first.hypotheses[0].text.startswith("zz")
            assert second.hypotheses[0].score < 0


def test_a_shortlist_is_not_what_auto_takes(models: Path) -> None:
    assert OnnxRunner.open(load_bundle(models / "short" / "tiny" / "1"), device="cpu").precision_name == "int8"


def test_one_side_of_the_text_is_not_enough(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["a.ckpt", "out", "--name", "x", "--shortlist", "--shortlist-source", "a.en"])
    assert "two sides of one text" in capsys.readouterr().err
