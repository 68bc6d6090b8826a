"""What reaches site-packages, and what is installed beside it."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import PACKAGES, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [
    Requirement(line)
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in lines
]
PINS: dict[str, str] = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
}


def test_a_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    copy = tmp_path / "source"  # setuptools builds inside the tree it is given
    for folder in (*PACKAGES, "tests", "scripts", "loadtests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, copy)
    program = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=copy, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("dragoman-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        (points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        scripts = archive.read(points).decode()
    assert {name.split("/")[0] for name in inside} == set(PACKAGES)
    source = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py*")
        if path.suffix in {".py", ".pyi"} and "__pycache__" not in path.parts
    }
    assert source - inside == set()
    assert "serving/py.typed" in inside
    graphs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "serving" / "runtime" / "graphs").iterdir()}
    assert graphs
    assert graphs <= inside
    assert set(re.findall(r"^(\S+) =", scripts, re.MULTILINE)) == {
        f"dragoman-{command}" for command in ("train", "export", "import", "serve", "translate")
    }


def test_every_dependency_is_pinned_within_its_range() -> None:
    for requirement in REQUIREMENTS:
        assert PINS.get(canonicalize_name(requirement.name), "none") in requirement.specifier, f"{requirement}"


def test_the_pins_that_others_build_on() -> None:
    expected = {
        "torch": "2.13.0",
        "onnxruntime": "1.31.1",
        "onnxruntime-gpu": "1.31.1",
        "pytorch-lightning": "2.6.6",
    }
    assert {name: PINS[name] for name in expected} == expected
    assert "lightning" not in PINS  # another package, whose 2.6.2 and 2.6.3 carried malware


def test_a_page_says_what_every_dependency_is_for() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    for requirement in REQUIREMENTS:
        row = re.search(rf"^\| `{re.escape(requirement.name)}`[^|]*\| *(\S.*?) *\|", page, re.MULTILINE)
        assert row, f"docs/dependencies.md has no row for {requirement.name}"
