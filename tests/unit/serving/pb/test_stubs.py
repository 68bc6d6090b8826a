"""The committed stubs are what the proto generates."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_stubs_are_generated_from_the_proto(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts" / "stubs", tmp_path], check=True, env={**os.environ, "PYTHON": sys.executable})
    generated = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*_pb2*"))
    committed = (ROOT / "serving" / "pb").rglob("*_pb2*.py*")
    assert set(generated) == {path.relative_to(ROOT) for path in committed if path.suffix in {".py", ".pyi"}}
    for path in generated:
        assert (tmp_path / path).read_text() == (ROOT / path).read_text(), f"{path}: run scripts/stubs"
