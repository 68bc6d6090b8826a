"""Who may import whom, and what a process that serves or calls really loads."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, modules


def test_the_import_contracts_hold(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=sys.argv[1]))",
            str(tmp_path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "never"),
    [
        (
            "serving.cli",
            {"torch", "onnx", "onnxscript", "pytorch_lightning", "training", "export"}
            | {"uvicorn", "starlette", "py3langid"},
        ),
        (
            "serving.client.cli",
            {"torch", "numpy", "onnxruntime", "pydantic", "prometheus_client", "sentencepiece"}
            | {"serving.engine", "serving.runtime", "serving.decoding", "serving.bundle", "serving.api"},
        ),
        ("serving.messages", {"numpy", "pydantic", "grpc", "google.protobuf"}),
        ("serving.translate", {"torch", "numpy", "onnxruntime", "pydantic", "ray", "serving.bulk", "serving.engine"}),
        ("training.cli", {"onnxruntime", "grpc", "serving", "export"}),
        ("export.cli", {"grpc"}),
        ("export.import_command", {"grpc", "ctranslate2"}),
    ],
)
def test_a_process_loads_only_what_it_may(module: str, never: set[str]) -> None:
    program = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert module in loaded.stdout.split()
    assert not never & set(loaded.stdout.split())


def test_serving_does_not_know_where_a_model_came_from() -> None:
    toolkits = re.compile(r"marian|hugging|opus|ctranslate|argos|opennmt|fairseq", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number} {line.strip()}"
        for path in modules("serving")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if toolkits.search(line)
    ]
    assert not found, "\n".join(found)
