"""Directories that are there whole or not at all."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from training.data.directories import complete_directory
from training.errors import DataError


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file grow beyond 4096 bytes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    place = tmp_path / "cache" / "clean-1"
    with (
        pytest.raises(DataError, match=rf"{place} cannot be written \(File too large\); make room, or set cache_dir"),
        complete_directory(place) as partial,
    ):
        (partial / "pairs.tsv").write_bytes(b"x" * 10_000)
    assert list(place.parent.iterdir()) == []


def test_errors_of_reading_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), complete_directory(tmp_path / "a"):
        (tmp_path / "none").read_bytes()
