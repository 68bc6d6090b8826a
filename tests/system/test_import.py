"""A model of another toolkit the whole way by the command: read, exported, verified, served."""

from __future__ import annotations

from pathlib import Path

import pytest

from export import import_command
from export.readers import huggingface_marian
from export.verify import translate_in_torch
from serving.bundle.bundle import load_bundle
from serving.bundle.manifest import Languages
from serving.client import Options, TranslationClient
from tests.system.served import server
from tests.unit.export.readers.marian_models import SENTENCES, marian


def test_a_directory_becomes_answers_in_two_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marian(tmp_path / "opus", separate=True)
    arguments = ["--name", "en-de", "--max-source-tokens", "100", "--max-target-tokens", "16", "--max-bleu-loss", "inf"]
    assert import_command.main([str(tmp_path / "opus"), str(tmp_path / "models"), *arguments]) == 0
    assert "is a Hugging Face Marian model, en to de" in capsys.readouterr().err
    manifest = load_bundle(tmp_path / "models" / "en-de" / "1").manifest
    assert sorted(manifest.precisions) == ["fp32", "int8"]
    assert manifest.precisions["fp32"].verification.greedy_equal_ratio == 1.0
    assert manifest.tokenizer.target_vocabulary == "target.pieces.json"
    expected = huggingface_marian.read(tmp_path / "opus", Languages.between("en", "de"))
    with server(tmp_path / "models", "--precision", "fp32") as at, TranslationClient(at.grpc) as client:
        for beam in (1, 4):
            answers = client.translate(
                SENTENCES[:8], Options(beam_size=beam, max_length=16, retry_repetition=False)
            ).translations
            rows = translate_in_torch(expected, expected.encode(SENTENCES[:8]), beam, 16)
            assert [answer.hypotheses[0].text for answer in answers] == expected.decode(rows)


def test_what_is_no_model_is_said_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for source, reason in (("none", "there is no"), ("empty", "is not a model that can be read")):
        assert import_command.main([str(tmp_path / source), str(tmp_path / "out"), "--name", "en-de"]) == 1
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--languages", "ar", "en"], "there are no sentences in ar to calibrate and verify on"),
        (["--references", "r"], "give both, or neither"),
        (["--languages", "e n", "de"], "'e n' is not a language tag"),
    ],
)
def test_what_is_missing_is_said_before_the_weights_are_read(
    arguments: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "marian"}')
    (tmp_path / "source.spm").touch()
    assert import_command.main([str(tmp_path), str(tmp_path / "out"), "--name", "x", *arguments]) == 1
    assert reason in capsys.readouterr().err
