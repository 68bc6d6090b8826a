"""The command of the training Job, run as two nodes of one process each: one run, one checkpoint."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.kubernetes.rendered import ROOT, arguments, containers, environment, render
from tests.scale.isolated import isolated, needs_scale_test
from tests.system.test_resume import CONFIG, MODELS, write_corpus
from training.checkpoint import load

pytestmark = needs_scale_test

INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
# What a cluster has and this machine has not.
HERE = {"--master-addr": "127.0.0.1", "trainer.accelerator": "cpu"}


def command(node: int, config: Path, run_dir: Path) -> list[str]:
    """The Job's own command for a node, with this machine's names."""
    objects = render("training")
    (container,) = containers(objects)
    changed = {**HERE, "run_dir": str(run_dir)}
    given = []
    for argument in arguments(container, environment(container, objects, {INDEX: str(node)})):
        key, _, _ = argument.partition("=")
        given.append(f"{key}={changed[key]}" if key in changed else argument)
    given[given.index("training") + 1] = str(config)
    return [*container["command"], *given, "trainer.max_steps=20", "trainer.checkpoint_every_steps=10"]


def test_two_nodes_are_one_run(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    config, run_dir = tmp_path / "config.yaml", tmp_path / "run"
    text = CONFIG.format(folder=tmp_path, model=MODELS["transformer"], accumulate=1)
    config.write_text(text, encoding="utf-8")
    nodes = [" ".join(command(node, config, run_dir)) for node in range(2)]
    both = isolated(["sh", "-c", f"{nodes[1]} & {nodes[0]} && wait $!"])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path}
    done = subprocess.run(both, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "MEMBER: 2/2" in done.stderr  # both of Lightning's processes, in one group
    steps = [json.loads(line)["step"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 21))  # logged once, by the first of them
    assert load(run_dir / "last.ckpt").model is not None
