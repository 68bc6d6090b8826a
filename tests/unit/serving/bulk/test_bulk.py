"""Bulk translation without Ray: blocks, what is on disk, one worker, and what the command says."""

import hashlib
import itertools
import json
import shutil
import string
import sys
from pathlib import Path

import pytest

from serving import translate
from serving.bulk.blocks import Block, index, read
from serving.bulk.job import BulkJob
from serving.bulk.worker import BlockTranslator, WorkerSettings
from serving.errors import StartupError
from serving.messages import LongInput, Options
from tests.shipped import BUNDLE
from training.data.words import train_words

MODELS = Path(__file__).parents[4] / "models"
GOLDEN = Path(__file__).parents[3] / "golden" / "format-2" / "digits" / "1"


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\n", ["a", ""]),
        (b"a\r\nb\n", ["a", "b"]),
        ("é\u2028ü\x0b\x85\n漢".encode(), ["é\u2028ü\x0b\x85", "漢"]),
        (b"a\n\xff\nb", ["a", None, "b"]),
        (b"a\nb\nc\nd\ne", ["a", "b", "c", "d", "e"]),
    ],
)
@pytest.mark.parametrize("length", [1, 2, 100])
def test_blocks_hold_every_line_once(tmp_path: Path, content: bytes, lines: list[str | None], length: int) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    blocks, _ = index(path, length)
    assert [line for block in blocks for line in read(path, block)] == lines
    assert [block.number for block in blocks] == list(range(len(blocks)))
    assert [block.first_line for block in blocks] == [1 + block.number * length for block in blocks]
    assert sum(block.size for block in blocks) == len(content)


def job(tmp_path: Path, text: str) -> BulkJob:
    (tmp_path / "in").write_text(text, encoding="utf-8")
    return BulkJob(tmp_path / "in", tmp_path / "out")


def test_parts_become_one_file_in_order(tmp_path: Path) -> None:
    work = job(tmp_path, "a\nb\nc\n")
    blocks, _ = index(work.source, 2)
    work.open({"options": 1})
    work.write(blocks[1], ["C"], {})
    assert [work.is_done(block) for block in blocks] == [False, True]
    work.write(blocks[0], ["A\nA", ""], {2: "why"})
    assert work.failures(blocks) == {2: "why"}
    work.finish(blocks)
    assert work.output.read_text() == "A A\n\nC\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_a_block_has_as_many_translations_as_lines(tmp_path: Path) -> None:
    work = job(tmp_path, "a\nb\n")
    work.open({})
    with pytest.raises(ValueError, match="2 lines and got 1"):
        work.write(Block(0, 1, 2, 0, 4), ["A"], {})


def test_another_job_is_not_mixed_in(tmp_path: Path) -> None:
    work = job(tmp_path, "a\n")
    work.open({"model": "one", "input": 1})
    work.open({"model": "one", "input": 1})
    with pytest.raises(StartupError, match="another input, model"):
        work.open({"model": "two", "input": 2})
    work.output.touch()
    with pytest.raises(StartupError, match="is there already"):
        work.open({"model": "one", "input": 1})


def test_a_worker_translates_each_line_by_itself(tmp_path: Path) -> None:
    work = job(tmp_path, "")
    long = "I drink milk. " * 100
    work.source.write_bytes(f"I drink milk.\n\n{long}\n".encode() + b"\xff\nI drink milk.")
    (block,), _ = index(work.source, 10)
    work.open({})
    options = Options(beam_size=2, long_input=LongInput.REJECT)
    worker = BlockTranslator(work, WorkerSettings(BUNDLE, "fp32", "cpu", 1, options))
    try:
        assert worker(vars(block)) == vars(block)
        written = work.parts.joinpath("00000000.txt").stat().st_mtime_ns
        worker(vars(block))
        assert work.parts.joinpath("00000000.txt").stat().st_mtime_ns == written  # done is done
    finally:
        worker.close()
    failures = work.failures([block])
    assert set(failures) == {3, 4}
    assert "tokens" in failures[3]
    assert "UTF-8" in failures[4]
    work.finish([block])
    assert work.output.read_text() == "Je bois du lait.\n\n\n\nJe bois du lait.\n"


def test_a_worker_opens_a_bundle_with_word_vocabularies(tmp_path: Path) -> None:
    bundle = tmp_path / "words"
    shutil.copytree(GOLDEN, bundle)
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    words = map("".join, itertools.product(string.ascii_lowercase, repeat=2))
    vocabulary = train_words([" ".join(words)], manifest["vocabulary_size"])
    (bundle / "source.words.json").write_bytes(vocabulary)
    manifest["tokenizer"] = {"kind": "words", "source": "source.words.json", "target": "source.words.json"}
    manifest["files"]["source.words.json"] = hashlib.sha256(vocabulary).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    work = job(tmp_path, "aa ab ac\n")
    (block,) = index(work.source, 10)[0]
    work.open({})
    worker = BlockTranslator(work, WorkerSettings(bundle, "fp32", "cpu", 1, Options(max_length=3)))
    try:
        worker(vars(block))
    finally:
        worker.close()
    assert work.failures([block]) == {}


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    return translate.main(["--ray", *map(str, arguments)]), capsys.readouterr().err


def test_a_command_without_ray_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "serving.bulk.cluster", raising=False)
    status, said = complaint(capsys, "--input", tmp_path, "--output", tmp_path / "out", "--models", MODELS)
    assert status == 1
    assert "pip install '.[cpu,ray]'" in said


def test_without_ray_first_it_is_the_client(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        translate.main(["--help"])
    assert "--ray before all else" in capsys.readouterr().out.replace("\n", " ")
    with pytest.raises(SystemExit):
        translate.main(["--ray", "--help"])
    assert "--lines-per-block" in capsys.readouterr().out


def test_a_file_that_is_not_utf_8_is_refused_before_anything_is_translated(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes("eins\nzwei\n".encode("utf-16"))
    with pytest.raises(StartupError, match=r"in\.txt, line 1 contains NUL, .* convert it first"):
        index(path, 10)
    path.write_bytes("eins\nzwei\n".encode("utf-8-sig"))
    assert read(path, index(path, 10)[0][0]) == ["eins", "zwei"]
