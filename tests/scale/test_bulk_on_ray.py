"""`dragoman-translate --ray` on a local cluster of two workers: nothing is lost, doubled or out of order."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from loadtests.service.sentences import BUNDLED
from serving.bulk.blocks import index
from serving.bulk.job import BulkJob
from serving.bulk.worker import BlockTranslator, WorkerSettings
from serving.messages import LongInput, Options
from tests.scale.isolated import isolated, needs_scale_test
from tests.shipped import BUNDLE

pytestmark = needs_scale_test

ROOT = Path(__file__).parents[2]
LINES_PER_BLOCK = 10
BLOCKS = 40


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Distinct lines, so that one in a wrong place is seen, and some that are trouble."""
    sentences = BUNDLED.read_text(encoding="utf-8").splitlines()
    lines = [f"{number}. {sentences[number % len(sentences)]}".encode() for number in range(BLOCKS * LINES_PER_BLOCK)]
    lines[3], lines[57], lines[101] = b"", b"\xff\xfe", b"A line\r"
    lines[200] = " ".join(sentences[:40]).encode()  # longer than the model takes
    lines[201] = "One line,\u2028not two.".encode()
    path = tmp_path_factory.mktemp("corpus") / "input.txt"
    path.write_bytes(b"\n".join(lines))  # and the last one has no end
    return path


@pytest.fixture(scope="module")
def expected(corpus: Path) -> bytes:
    """What one process makes of it, without Ray."""
    job = BulkJob(corpus, corpus.with_name("expected.txt"))
    options = Options(beam_size=1, long_input=LongInput.SPLIT)
    blocks, _ = index(corpus, 1000)
    job.open({})
    translator = BlockTranslator(job, WorkerSettings(BUNDLE, "auto", "cpu", 1, options))
    try:
        for block in blocks:
            translator(vars(block))
    finally:
        translator.close()
    job.finish(blocks)
    return job.output.read_bytes()


def start(corpus: Path, output: Path) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).parent / "dragoman-translate"), "--ray", "--models", str(ROOT / "models")]
    command += ["--input", str(corpus), "--output", str(output), "--beam", "1"]
    command += ["--workers", "2", "--lines-per-block", str(LINES_PER_BLOCK)]
    return subprocess.Popen(isolated(command), cwd=ROOT, stderr=subprocess.PIPE, text=True)


def parts(output: Path) -> dict[str, int]:
    """When each block that is done was written."""
    folder = output.with_name(output.name + ".parts")
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("[0-9]*.txt")}


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < give_up
        time.sleep(0.02)


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "MapWorker" in " ".join(child.cmdline())]


def end_all(process: subprocess.Popen[str]) -> None:
    """Kills the command and the cluster that it had started."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        member.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    psutil.wait_procs(family, timeout=60)


def test_a_worker_that_is_killed_loses_nothing(corpus: Path, expected: bytes, tmp_path: Path) -> None:
    output = tmp_path / "output.txt"
    process = start(corpus, output)
    try:
        wait_for(process, lambda: len(parts(output)) >= 4)
        before = workers(process)
        assert len(before) == 2
        before[0].kill()
        _, complaints = process.communicate(timeout=240)
    finally:
        if process.poll() is None:
            end_all(process)
    assert output.read_bytes() == expected
    assert process.returncode == 1  # for the line that is not UTF-8
    assert "line 58: not valid UTF-8" in complaints
    assert not output.with_name("output.txt.parts").exists()


def test_a_job_that_is_killed_goes_on_where_it_was(corpus: Path, expected: bytes, tmp_path: Path) -> None:
    output = tmp_path / "output.txt"
    process = start(corpus, output)
    try:
        wait_for(process, lambda: 4 <= len(parts(output)) < BLOCKS)
    finally:
        end_all(process)
    done = parts(output)
    assert 4 <= len(done) < BLOCKS
    assert not output.exists()
    process = start(corpus, output)
    kept: dict[str, int] = {}
    try:
        wait_for(process, lambda: kept.update(parts(output)) or len(kept) > len(done))
        assert {name: kept[name] for name in done} == done  # nothing is translated twice
        process.communicate(timeout=240)
    finally:
        if process.poll() is None:
            end_all(process)
    assert process.returncode == 1
    assert output.read_bytes() == expected
