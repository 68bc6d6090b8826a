"""The committed stubs are what the proto generates."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_stubs_are_generated_from_the_proto(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts" / "stubs", tmp_path], check=True, env={**os.environ, "PYTHON": sys.executable})
    generated = sorted((tmp_path / "serving" / "pb").iterdir())
    assert {path.name for path in generated} == {
        path.name for path in (ROOT / "serving" / "pb").iterdir() if "_pb2" in path.name and path.is_file()
    }
    for path in generated:
        assert path.read_text() == (ROOT / "serving" / "pb" / path.name).read_text(), f"{path.name}: run scripts/stubs"
