"""A whole comparison, of a model small enough for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from loadtests.offline import compare
from loadtests.offline.compare import Setting, compare_real
from loadtests.offline.corpus import read_corpus
from loadtests.offline.worker import EngineSpec, Worker
from serving.bundle.bundle import load_bundle
from serving.bundle.manifest import Languages

KEYS = {"model", "precision", "sentences", "batch", "beam", "rival", "ratio", "ratio_quartiles", "rounds"}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    lines = [" ".join(f"w{n}" for n in generator.integers(0, 200, size)) for size in generator.integers(1, 11, 40)]
    for language in ("en", "fr"):
        (tmp_path / f"set.{language}").write_text("\n".join(lines) + "\n")
    return tmp_path / "set"


def test_a_comparison_on_real_sentences(bundle: Path, corpus: Path, tmp_path: Path) -> None:
    cases, engines = compare_real(load_bundle(bundle), corpus, Setting(threads=2, rounds=2))
    files = tmp_path / "out" / "compare.json", tmp_path / "out" / "compare.png"
    compare.write(cases, engines, Setting(threads=2, rounds=2), *files)
    written = json.loads(files[0].read_text())
    assert {"machine", "versions", "cases"} <= written.keys()
    assert {"processor", "cores"} <= written["machine"].keys()
    assert {"python", "onnxruntime", "ctranslate2"} <= written["versions"].keys()
    rows = written["cases"]
    expected = {(p, batch, beam) for p in ("int8", "fp32") for batch in (1, 8, 32) for beam in (1, 4)}
    assert {(r["precision"], r["batch"], r["beam"]) for r in rows} == expected | {("int8", 40, 4), ("fp32", 40, 4)}
    assert all(row.keys() >= KEYS and row["ratio"] > 0 and row["model"] == "tiny" for row in rows)
    assert {row["rival"].partition("*")[0] for row in rows if row["precision"] == "fp32"} == {"ctranslate2/float32"}
    assert all(row["equal_ratio"] > 0.9 for row in rows if row["precision"] == "fp32")
    assert all(0 <= row["bleu"] <= 100 for row in rows if row["sentences"] == "all")
    assert all(engine["start_seconds"] > 0 and engine["peak_bytes"] > 1e7 for engine in written["engines"])
    assert {"dragoman/fp32", "ctranslate2/float32"} <= {engine["engine"] for engine in written["engines"]}
    assert files[1].read_bytes().startswith(b"\x89PNG")


def test_a_corpus_that_is_not_there_or_not_parallel(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(read_corpus(corpus, Languages.between("en", "de")).references) == 0
    with pytest.raises(ValueError, match=r"no .*set\.de"):
        read_corpus(corpus, Languages.between("de", "fr"))
    corpus.with_name("set.fr").write_text("eins\n")
    with pytest.raises(ValueError, match="40 sentences, but 1 references"):
        read_corpus(corpus, Languages.between("en", "fr"))
    with pytest.raises(SystemExit):
        compare.main([])
    assert "--bundle and --data are needed, or --quick" in capsys.readouterr().err


def test_a_worker_that_cannot_start_says_why(bundle: Path) -> None:
    with pytest.raises(RuntimeError, match="dragoman/fp64: StartupError: precision is 'fp64'"):
        Worker(EngineSpec("dragoman", "fp64", bundle), threads=1)
