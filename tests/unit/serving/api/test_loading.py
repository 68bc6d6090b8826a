"""From a directory of bundles to models that are served; the runtime is a toy, files and hashes are real."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from serving.api.loading import bundle_directories, load_models
from serving.api.models import ModelRegistry
from serving.bundle.bundle import Bundle
from serving.engine.request import TranslationRequest
from serving.engine.threads import Threads
from serving.errors import StartupError
from serving.observability.metrics import Metrics
from serving.opening import OpenModel, open_tokenizer
from tests.integration.toy_server import toy_config, toy_manifest, toy_runner, toy_sentencepiece

EMPTY_GRAPH = onnx.ModelProto(graph=onnx.GraphProto(name="empty")).SerializeToString()


def write_bundle(models: Path, name: str = "toy", version: int = 1, directory: str = "") -> Path:
    bundle = models / (directory or f"{name}/{version}")
    bundle.mkdir(parents=True)
    manifest = toy_manifest(name, version).model_dump(mode="json")
    for file, content in (("spm.model", toy_sentencepiece()), ("graph.onnx", EMPTY_GRAPH)):
        (bundle / file).write_bytes(content)
        manifest["files"][file] = hashlib.sha256(content).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """How models were asked for."""
    calls: list[dict[str, Any]] = []

    def toy_open(bundle: Bundle, *, set_up: Callable[[], object], **asked: Any) -> OpenModel:
        calls.append(asked)
        workers = Threads(toy_runner(bundle.manifest))
        return OpenModel(bundle.manifest, open_tokenizer(bundle), workers, asked["precision"], "cpu")

    monkeypatch.setattr("serving.api.loading.open_processes", toy_open)
    return calls


@pytest.fixture
def registry() -> Iterator[ModelRegistry]:
    registry = ModelRegistry()
    yield registry
    for model in registry.models():
        model.close()


def test_every_bundle_is_loaded_as_it_was_asked_for(
    tmp_path: Path, opened: list[dict[str, Any]], registry: ModelRegistry
) -> None:
    write_bundle(tmp_path, "toy", 1)
    write_bundle(tmp_path, "toy", 2)
    write_bundle(tmp_path, "other", 1)
    (tmp_path / "README.md").write_text("Not a bundle.")
    metrics = Metrics()
    load_models(toy_config(models=tmp_path, device="cpu", threads=3, max_beam=5), registry, metrics)
    assert [model.label for model in registry.models()] == ["other/1", "toy/2", "toy/1"]
    assert opened == [{"precision": "fp32", "threads": 3}] * 3
    model = registry.resolve("toy", 1)
    assert (model.device, model.limits.max_beam_size) == ("cpu", 5)
    result = asyncio.run(model.translator.translate(TranslationRequest(("abc",))))
    assert result.translations[0].hypotheses[0].text == "abc"
    assert metrics.registry.get_sample_value("dragoman_sentences_total", {"model": "toy/1", "outcome": "ok"}) == 1


def test_exports_in_progress_are_no_bundles(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path)
    write_bundle(tmp_path, directory="toy/.2.partial")
    write_bundle(tmp_path, directory=".cache/1")
    assert bundle_directories(tmp_path) == [bundle]


@pytest.mark.parametrize("missing", ["nothing here", "."])
def test_no_bundle_is_an_error(tmp_path: Path, missing: str) -> None:
    with pytest.raises(StartupError, match="give --models a directory of bundles"):
        bundle_directories(tmp_path / missing)


@pytest.mark.usefixtures("opened")
def test_every_bundle_that_cannot_be_served_is_named(tmp_path: Path, registry: ModelRegistry) -> None:
    write_bundle(tmp_path, "good")
    write_bundle(tmp_path, "toy", 1, directory="toy/7")
    (write_bundle(tmp_path, "broken") / "graph.onnx").write_bytes(b"changed")
    with pytest.raises(StartupError) as caught:
        load_models(toy_config(models=tmp_path), registry, Metrics())
    assert "toy/7 holds toy/1; name the directories like the model" in str(caught.value)
    assert "graph.onnx" in str(caught.value)
    assert "good" not in str(caught.value).replace(str(tmp_path), "")
