"""Values of files that change while they are in use."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.api.reloading import Reloaded


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "number"
    path.write_text("1")
    return path


def test_it_reads_again_when_a_file_changes_and_only_then(file: Path) -> None:
    reads = []

    def read() -> int:
        reads.append(1)
        return int(file.read_text())

    value = Reloaded([file], read)
    assert [value.get(), value.get(), len(reads)] == [1, 1, 1]
    file.write_text("22")
    assert [value.get(), value.get(), len(reads)] == [22, 22, 2]


@pytest.mark.parametrize("break_it", [lambda file: file.write_text("no number"), lambda file: file.unlink()])
def test_what_cannot_be_read_changes_nothing_and_is_logged_once(
    file: Path, break_it: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    value = Reloaded([file], lambda: int(file.read_text()))
    break_it(file)
    assert [value.get(), value.get()] == [1, 1]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == ["reload_failed"]
    file.write_text("3")
    assert value.get() == 3


def test_a_first_value_that_cannot_be_read_is_an_error(file: Path) -> None:
    file.write_text("no number")
    with pytest.raises(ValueError, match="no number"):
        Reloaded([file], lambda: int(file.read_text()))


def test_files_that_change_while_they_are_read_are_read_again(file: Path) -> None:
    successors = ["3", ""]

    def read() -> str:
        found = file.read_text()
        if found == "22" and successors[0]:
            file.write_text(successors.pop(0) * 3)  # a pair could now be half old, half new
        return found

    value = Reloaded([file], read)
    file.write_text("22")
    assert [value.get(), value.get()] == ["1", "333"]


def test_a_link_that_moves_is_a_change(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (0, 0))
    link = tmp_path / "link"
    link.symlink_to("old")
    value = Reloaded([link], link.read_text)
    link.unlink()
    link.symlink_to("new")
    assert value.get() == "new"
