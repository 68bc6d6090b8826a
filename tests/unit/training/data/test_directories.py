"""Directories that are there whole or not at all."""

import subprocess
import sys
from pathlib import Path

import pytest

from training.data.directories import complete_directory

# A process of its own: the limit would also hold for the file that the tests' own output may go to.
FULL_DISK = """
import resource, sys
from pathlib import Path
from training.data.directories import complete_directory
from training.errors import DataError

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with complete_directory(Path(sys.argv[1])) as partial:
        (partial / "pairs.tsv").write_bytes(b"x" * 10_000)
except DataError as error:
    print(error)
"""


def test_a_full_disk_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    place = tmp_path / "cache" / "clean-1"
    command = [sys.executable, "-c", FULL_DISK, str(place)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert f"{place} cannot be written (File too large); make room, or set cache_dir" in said
    assert list(place.parent.iterdir()) == []


def test_errors_of_reading_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), complete_directory(tmp_path / "a"):
        (tmp_path / "none").read_bytes()
