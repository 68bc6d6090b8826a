"""The repository's text: true commands, living links, nothing of one machine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

# Spelt in pieces, so that this file does not name them either.
FOREIGN = re.compile(
    "|".join(
        [
            r"(?<![\w.}>)-])/" + folder + r"/[A-Za-z0-9_]"
            for folder in ("work", "root", "home", "Users", "opt/" + "wheels", "opt/" + "pypi")
        ]
        + [re.escape("py" + "pi.org"), re.escape("python" + "hosted.org"), re.escape("download.py" + "torch.org")]
    )
)


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_nothing_names_one_machine() -> None:
    found = []
    for path in tracked():
        if path.stat().st_size > 1 << 20 or path == Path(__file__):
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}:{n} {line}" for n, line in enumerate(lines, 1) if FOREIGN.search(line)]
    assert not found, "\n".join(found)


def test_the_repository_is_small() -> None:
    large = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in tracked()}
    assert not {name: size for name, size in large.items() if size > 1 << 20 and not name.startswith("models/")}
    assert sum(size for name, size in large.items() if name.startswith("models/")) <= 12_000_000


def test_make_targets_that_are_documented_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert {"demo", "serve", "test", "check"} <= targets
    for page in PAGES:
        named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE))
        assert named <= targets, f"{page.name} names targets that do not exist: {named - targets}"


def test_ci_runs_the_check_and_nothing_else() -> None:
    commands = [
        line.strip()
        for line in (ROOT / ".ci" / "run").read_text().splitlines()
        if "make" in line and not line.startswith("#")
    ]
    assert commands == ["exec make check"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
    missing = [target for target in targets if not (page.parent / target).exists()]
    named = re.findall(r"`((?:training|export|serving|tests|docs|models|protos|scripts|deploy)/[\w./-]+\.\w+)`", text)
    missing += [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)#:\s]+\.md)(?:#[^)]*)?\)", page.read_text())
        waiting += [(page.parent / link).resolve() for link in links]
    assert not {str(page.relative_to(ROOT)) for page in PAGES} - {str(page.relative_to(ROOT)) for page in reached}


def test_pages_stay_short_enough_to_be_read() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 200
    assert len((ROOT / "README.md").read_text().splitlines()) <= 140
    records = sorted(set((ROOT / "docs" / "adr").glob("*.md")) - {ROOT / "docs" / "adr" / "README.md"})
    assert records
    for record in records:
        assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", record.name)
        assert len(record.read_text().splitlines()) <= 60, record.name


def test_the_proto_is_clean() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "buf", "lint"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_unit_tests_mirror_the_source() -> None:
    unit = ROOT / "tests" / "unit"
    folders = {path.parent.relative_to(unit) for path in unit.rglob("*.py")}
    assert {folder for folder in folders if not list((ROOT / folder).glob("*.py"))} == set()
    assert list(unit.glob("*.py")) == []


def test_modules_that_the_makefile_runs_do_something() -> None:
    names = re.findall(r"python -m ([\w.]+)", (ROOT / "Makefile").read_text())
    ours = {ROOT / name.replace(".", "/") for name in names if (ROOT / name.split(".")[0]).is_dir()}
    modules = [path.with_suffix(".py") for path in ours if not (path / "__main__.py").is_file()]
    assert modules
    assert [path for path in modules if '__name__ == "__main__"' not in path.read_text()] == []
