"""The images for a GPU and for training, really built and run; `make image-test` does both. No GPU is needed."""

from __future__ import annotations

import json
from pathlib import Path

from serving.client import Options, TranslationClient
from tests.deploy.containers import STRICT, container, engine, image
from tests.deploy.ports import free_ports

ROOT = Path(__file__).parents[2]
MOUNT = f"--volume={ROOT / 'models'}:/models:ro"

CONFIGURATION = """
run_dir: /mnt/run
languages: [en, fr]
data:
  train: {source: /mnt/text.en, target: /mnt/text.fr}
  valid: {source: /mnt/text.en, target: /mnt/text.fr}
tokenizer: {kind: word, vocab_size: 64, shared: false}
model: {family: transformer, dim: 16, heads: 2, feedforward_dim: 32, encoder_layers: 1, decoder_layers: 1, tie: target}
validation: {every_steps: 2}
trainer: {max_steps: 2, accelerator: cpu, threads: 1, progress_bar: false, tensorboard: false}
"""


def test_the_gpu_image_ends_with_one_sentence_where_there_is_no_gpu() -> None:
    done = engine(
        "run",
        "--rm",
        "--network=host",
        *STRICT,
        MOUNT,
        "--env=DRAGOMAN_INSECURE=true",
        image("serving-gpu"),
        check=False,
    )
    events = [json.loads(line) for line in (done.stdout + done.stderr).splitlines() if line.startswith('{"ts"')]
    assert done.returncode == 1
    assert events[-1]["event"] == "startup_failed"
    assert "device is cuda, but ONNX Runtime fell back to ['CPUExecutionProvider']" in events[-1]["error"]


def test_the_gpu_image_has_the_runtime_for_cuda_and_translates_on_the_cpu_if_it_is_told_to() -> None:
    ports = free_ports(2)
    with container(image("serving-gpu"), MOUNT, "--env=DRAGOMAN_DEVICE=cpu", ports=ports) as started:
        started.wait_for("/readyz", "ok")
        providers = started.run("python", "-c", "import onnxruntime as o; print(o.get_available_providers())").stdout
        assert "CUDAExecutionProvider" in providers
        with TranslationClient(started.grpc) as client:
            (translation,) = client.translate(["I drink milk."], Options(beam_size=4), deadline=60).translations
    assert translation.hypotheses[0].text == "Je bois du lait."


def test_the_training_image_trains(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)  # of another user inside
    (tmp_path / "config.yaml").write_text(CONFIGURATION, encoding="utf-8")
    for language in ("en", "fr"):
        lines = [f"{language}{number % 7} {language}{number % 5} {language}{number % 3}" for number in range(60)]
        (tmp_path / f"text.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = (*STRICT, "--rm", "--network=none", "--tmpfs=/tmp", f"--volume={tmp_path}:/mnt")
    done = engine("run", *options, image("training"), "/mnt/config.yaml", check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "last.ckpt").is_file()
