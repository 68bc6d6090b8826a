"""Whatever a user gives that cannot work ends the command with one sentence, and no half-written checkpoint."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.training.tiny_run import tiny_tree
from training.checkpoint import load
from training.cli import main

# Lightning's own, about a library it loads and a hint of what else could be bought.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*litlogger.*"),
]


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Any]:
    return tiny_tree(tmp_path)


def run_command(tree: dict[str, Any], *overrides: str) -> int:
    config = Path(tree["run_dir"]).with_name("config.yaml")
    config.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return main([str(config), *overrides])


def said(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dragoman-train: ")]
    assert len(lines) == 1
    return lines[0]


def checkpoints(tree: dict[str, Any]) -> list[str]:
    return sorted(path.name for path in Path(tree["run_dir"]).glob("*ckpt*"))


def two_files(tree: dict[str, Any], source: bytes, target: bytes) -> None:
    folder = Path(tree["run_dir"]).parent
    (folder / "a.en").write_bytes(source)
    (folder / "a.fr").write_bytes(target)
    tree["data"]["train"] = {"source": str(folder / "a.en"), "target": str(folder / "a.fr")}


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (b"one\ntwo\nthree\n", b"un\ndeux\n", r"a.fr, line 3: the file ends after 2 lines, but "),
        (b"one\ntwo\n", b"un\nd\xe9ux\n", "a.fr, line 2, byte 2: this is not UTF-8; convert the file to UTF-8 first."),
        (b"", b"un\n", "a.en is empty; give a file with one sentence per line."),
        (b"one\n" * 3, b"1\n" * 3, "lower tokenizer.vocab_size or give more text."),
    ],
)
def test_bad_corpora(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str], source: bytes, target: bytes, message: str
) -> None:
    two_files(tree, source, target)
    assert run_command(tree) == 1
    assert message in said(capsys)
    assert checkpoints(tree) == []


def test_unknown_key(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    tree["trainer"]["max_stepz"] = 3
    assert run_command(tree) == 1
    assert "config.yaml, line " in (message := said(capsys))
    assert "trainer.max_stepz: this key is unknown" in message
    assert not Path(tree["run_dir"]).exists()


def test_loss_that_is_no_number(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(tree) == 0
    before = load(Path(tree["run_dir"]) / "last.ckpt").model.state_dict()
    # Resumed with a learning rate that no model survives.
    assert run_command(tree, "trainer.max_steps=40", "optimizer.learning_rate=1.0e+38", "trainer.clip_norm=null") == 1
    assert "the loss is nan at step " in said(capsys)
    assert checkpoints(tree) == ["best.ckpt", "last.ckpt"]
    after = load(Path(tree["run_dir"]) / "last.ckpt").model.state_dict()
    assert all(after[name].isfinite().all() for name in before)


def test_vocabulary_of_another_run(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(tree) == 0
    assert run_command(tree, "tokenizer.vocab_size=280") == 1
    assert "last.ckpt was trained with another vocabulary; choose another run_dir" in said(capsys)


def test_a_file_where_a_directory_should_be(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    Path(tree["run_dir"]).write_text("", encoding="utf-8")
    assert run_command(tree) == 1
    assert "run: File exists" in said(capsys)


def test_a_device_that_is_not_there(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(tree, "trainer.accelerator=cuda") == 1
    assert "Lightning refuses trainer's settings: " in said(capsys)
    assert run_command(tree, "trainer.max_time=1h") == 1
    assert "trainer.max_time: String should match pattern" in said(capsys)


@contextmanager
def disk_that_takes(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes, as if the disk were full then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(tree) == 0
    tree["trainer"]["max_steps"] = 6
    last = Path(tree["run_dir"]) / "last.ckpt"
    before = last.read_bytes()
    with disk_that_takes(10_000):
        assert run_command(tree) == 1
    assert "last.ckpt cannot be written (File too large), the one before is kept; make room" in said(capsys)
    assert checkpoints(tree) == ["best.ckpt", "last.ckpt"]
    assert last.read_bytes() == before
    assert run_command(tree) == 0
    assert load(last).step == 6


def test_full_disk_while_the_corpus_is_prepared(
    tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.tsv").write_text("".join(f"word{i} and {i}\tmot{i} et {i}\n" for i in range(2000)), encoding="utf-8")
    with disk_that_takes(10_000):
        assert run_command(tree) == 1
    assert "File too large" in said(capsys)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]


def test_the_command_is_a_process_of_its_own(tree: dict[str, Any], tmp_path: Path) -> None:
    two_files(tree, b"one\n", b"un\ndeux\n")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tree), encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "training", str(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("dragoman-train: ")
    assert done.stderr.count("\n") == 1


def test_results_are_left_for_a_tuner(tree: dict[str, Any]) -> None:
    assert run_command(tree) == 0
    result = json.loads((Path(tree["run_dir"]) / "result.json").read_text(encoding="utf-8"))
    assert (result["metric"], result["step"], result["best_step"]) == ("bleu", 3, 2)
    assert isinstance(result["best"], float)
