"""The training image on the base and with the runtime of a CPU, really built and really run by `make image-test`."""

from pathlib import Path

import pytest

from tests.deploy.containers import STRICT, engine, image, inspect
from tests.system.test_resume import CONFIG, MODELS, write_corpus
from training.checkpoint import load


@pytest.fixture(scope="module")
def training() -> str:
    return image("training")


def test_it_trains_as_nobody_and_writes_to_its_mounts_only(training: str, tmp_path: Path) -> None:
    corpora, runs = tmp_path / "corpora", tmp_path / "runs"
    for folder in (corpora, runs):
        folder.mkdir()
    runs.chmod(0o777)
    write_corpus(corpora)
    (corpora / "config.yaml").write_text(
        CONFIG.format(folder="/corpora", model=MODELS["transformer"], accumulate=1), encoding="utf-8"
    )
    mounts = (f"--volume={corpora}:/corpora:ro", f"--volume={runs}:/runs", "--tmpfs=/tmp")
    run = ("/corpora/config.yaml", "run_dir=/runs/first", "cache_dir=/runs/cache", "trainer.max_steps=2")
    engine("run", "--rm", "--network=none", *STRICT, *mounts, training, *run)
    assert load(runs / "first" / "last.ckpt").model is not None
    assert (runs / "first" / "last.ckpt").stat().st_uid == 10001


def test_it_holds_the_configurations_and_the_exporter(training: str) -> None:
    assert inspect(training)["Config"]["User"] == "10001:10001"
    listed = engine("run", "--rm", "--network=none", *STRICT, "--entrypoint=ls", training, "training/configs").stdout
    assert "en-fr.yaml" in listed.split()  # which the Job of deploy/kubernetes/training names
    said = engine("run", "--rm", "--network=none", *STRICT, "--entrypoint=dragoman-export", training, "--help").stdout
    assert "--precisions" in said
