"""A word-level teacher is exported, served, and asked by `dragoman-train distil` for what its student learns from."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml

from export.cli import main as export
from tests.unit.training.copying import KNOWN, train_copier, write_sentences
from tests.unit.training.tiny_run import tiny_tree
from training.checkpoint import load
from training.cli import main

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*litlogger.*"),
]


def test_student_learns_what_the_engine_translates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folders = teacher, student = tmp_path / "teacher", tmp_path / "student"
    for folder in folders:
        folder.mkdir()
    checkpoint, models = train_copier(teacher), tmp_path / "models"
    evidence = write_sentences(tmp_path / "evidence.tsv", 500, seed=1)
    (tmp_path / "evidence.en").write_text("".join(f"{source}\n" for source, _ in evidence), encoding="utf-8")
    sentences = ["--sentences", str(tmp_path / "evidence.en"), "--max-source-tokens", "20", "--max-target-tokens", "20"]
    assert export([str(checkpoint), str(models), "--name", "copier", *sentences]) == 0

    tree = tiny_tree(student)
    tree["trainer"]["max_steps"] = 2
    tree["tokenizer"] = {"vocab_size": 290}
    # Sources alone matter: the targets are nonsense.
    sources = [source for source, _ in write_sentences(tmp_path / "s.tsv", 120, seed=2)]
    (student / "t.tsv").write_text("".join(f"{source}\tx\tsome\n" for source in sources), encoding="utf-8")
    tree["data"]["filters"] = {"max_ratio": 9.0}
    tree["data"]["valid"] = {"tsv": str(teacher / "t.tsv")}
    config = student / "config.yaml"
    config.write_text(yaml.safe_dump(tree), encoding="utf-8")
    command = ["distil", str(config), "--teacher", str(models), "--beam", "2", "--in-flight", "16"]
    caplog.set_level(logging.INFO)
    assert main(command) == 0
    distilled = student / "run" / "distilled" / "distilled.tsv"
    rows = [line.split("\t") for line in distilled.read_text(encoding="utf-8").splitlines()]
    assert {row[2] for row in rows} == {"some"}
    expected = [" ".join(KNOWN.get(word, word) for word in row[0].split()) for row in rows]
    right = sum(row[1] == text for row, text in zip(rows, expected, strict=True))
    # Names too are right: the engine puts the word attended to in the place of one that the vocabulary lacks.
    assert right >= 0.9 * len(rows) == 0.9 * len(set(sources)), rows[:5]
    assert load(student / "run" / "last.ckpt").config.data.train[0].identity()[0][0] == str(distilled)

    # Ended in the middle of a line, it goes on from there.
    translations = distilled.with_name("translations.txt")
    whole = translations.read_bytes()
    translations.write_bytes(whole[: len(whole) // 2])
    before = distilled.read_bytes()
    distilled.unlink()
    caplog.clear()
    assert main([*command, "trainer.max_steps=3"]) == 0
    assert distilled.read_bytes() == before
    kept = whole[: len(whole) // 2].count(b"\n")
    assert f"the teacher translates {len(rows) - kept} of {len(rows)} sentences" in caplog.text

    capsys.readouterr()
    assert main([*command[:-4], "--beam", "3"]) == 1
    assert "holds translations of another corpus or teacher; delete it" in capsys.readouterr().err
    distilled.with_name("made-of.json").unlink()
    translations.unlink()
    assert main(["distil", str(config), "--server", "127.0.0.1:1"]) == 1
    assert "the teacher stopped after 0 of" in capsys.readouterr().err
