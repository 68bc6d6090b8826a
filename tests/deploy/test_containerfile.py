"""The Containerfile as a file, GPU image included, which needs a base that is not to be had everywhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "deploy" / "docker" / "Containerfile"
TEXT = re.sub(r"^#.*\n", "", CONTAINERFILE.read_text(), flags=re.MULTILINE)
STAGES = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", TEXT, re.MULTILINE | re.DOTALL))
RUNNING = ("serving", "training", "load")  # the stages that become processes; serving-baked builds on serving


def planned(image: str, **environment: str) -> dict[str, str]:
    """What `deploy/docker/build` would tell an engine to do: its options by name, build arguments among them."""
    done = subprocess.run(
        [ROOT / "deploy" / "docker" / "build", image],
        env=os.environ | {"ENGINE": str(Path(__file__).with_name("recording-engine"))} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    words = [line.removeprefix("said: ") for line in done.stderr.splitlines() if line.startswith("said: ")]
    options = list(zip(words[1::2], words[2::2], strict=False))
    arguments = [value.split("=", 1) for option, value in options if option == "--build-arg"]
    return {option: value for option, value in options if option in {"--target", "--tag", "--file"}} | dict(arguments)


def test_hadolint_has_nothing_to_say() -> None:
    lint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([lint, CONTAINERFILE], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("stage", RUNNING)
def test_what_runs_is_nobody_and_gets_its_signals(stage: str) -> None:
    assert re.search(r"^USER 10001:10001$", STAGES[stage], re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["tini", "--", "', STAGES[stage], re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", STAGES[stage], re.MULTILINE)
    assert "org.opencontainers.image.title=" in STAGES[stage]


def test_what_builds_stays_behind() -> None:
    bases = set(re.findall(r"^FROM (\S+) AS", TEXT, re.MULTILINE))
    assert bases == {"${BASE}", "python", "build", "serving", "scratch"}
    for stage in (*RUNNING, "python", "serving-baked", "models"):
        assert not re.search(r"\bpip\b|--mount=type=secret", STAGES[stage]), stage
    assert "FROM serving AS serving-baked" in TEXT


def test_the_gpu_image_is_the_cpu_image_on_another_base() -> None:
    cpu, gpu = planned("serving-cpu"), planned("serving-gpu")
    differing = {key for key in cpu.keys() | gpu.keys() if cpu.get(key) != gpu.get(key)}
    assert differing == {"BASE", "EXTRAS", "DEVICE", "--tag"}
    assert (gpu["BASE"], gpu["EXTRAS"], gpu["DEVICE"]) == ("nvidia/cuda:13.0.2-base-ubuntu24.04", "gpu", "cuda")
    assert (cpu["BASE"], cpu["EXTRAS"], cpu["DEVICE"]) == ("debian:bookworm-slim", "cpu", "auto")
    assert planned("serving-gpu", BASE="mine:1")["BASE"] == "mine:1"


@pytest.mark.parametrize(
    ("image", "target"),
    [
        ("serving-cpu", "serving"),
        ("serving-gpu", "serving"),
        ("serving-cpu-baked", "serving-baked"),
        ("serving-gpu-baked", "serving-baked"),
        ("training", "training"),
        ("load", "load"),
        ("models", "models"),
    ],
)
def test_every_image_has_a_stage_and_a_name_of_its_own(image: str, target: str) -> None:
    plan = planned(image, TAG="7", REGISTRY="registry.example.com")
    assert plan["--target"] == target
    assert target in STAGES
    assert plan["--tag"] == f"registry.example.com/dragoman/{image}:7"
    assert not plan["BASE"].endswith(":latest")


def test_an_unknown_image_is_named() -> None:
    done = subprocess.run(
        [ROOT / "deploy" / "docker" / "build", "serving"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no image is called serving" in done.stderr
