"""Bundles made to do harm are refused by what reads them first, before ONNX Runtime is handed a file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from serving.bundle.bundle import load_bundle, sha256
from serving.bundle.onnx_model import model_problems
from serving.errors import StartupError

GOLDEN = Path(__file__).parents[3] / "golden" / "format-2" / "digits" / "1"
GRAPH = "encoder.onnx"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(b"secret" * 100_000)
    return Path(shutil.copytree(GOLDEN, tmp_path / "digits" / "1"))


def edit_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def put(bundle: Path, content: bytes, file: str = GRAPH) -> None:
    """Changes a file, and its hash with it: hashes say that a bundle is whole, not that it is good."""
    (bundle / file).write_bytes(content)
    edit_manifest(bundle, lambda manifest: manifest["files"].update({file: sha256(bundle / file)}))


def refused(bundle: Path) -> str:
    with pytest.raises(StartupError) as caught:
        load_bundle(bundle)
    assert len(str(caught.value)) < 20_000
    return str(caught.value)


# --- names and links -------------------------------------------------------------------------------------------------

NAMES = ["../secret", "/etc/passwd", "a/b.onnx", "..", ".", "", ".hidden", "a\n", "a\0b", "a\\b", "x" * 200, "\ud800"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["files", "graph", "tokenizer", "shortlist"])
def test_a_name_that_is_no_file_beside_the_manifest(bundle: Path, name: str, place: str) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][name] = "0" * 64
        precision = manifest["precisions"]["fp32"]
        if place == "graph":
            precision["encoder"]["file"] = name
        elif place == "shortlist":
            precision["shortlist"] = name
        elif place == "tokenizer":
            manifest["tokenizer"]["source"] = name

    edit_manifest(bundle, change)
    assert "is not a manifest of format version" in refused(bundle)


def test_a_graph_in_another_format_than_onnx(bundle: Path) -> None:
    shutil.copy(bundle / GRAPH, bundle / "encoder.ort")
    put(bundle, (bundle / GRAPH).read_bytes(), "encoder.ort")
    edit_manifest(bundle, lambda manifest: manifest["precisions"]["fp32"]["encoder"].update(file="encoder.ort"))
    assert "precisions.fp32.encoder.file" in refused(bundle)


@pytest.mark.parametrize("file", ["weights.bin", GRAPH, "source.spm", "manifest.json"])
@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_file_that_is_none(bundle: Path, file: str, kind: str) -> None:
    (bundle / file).rename(bundle.parent / "elsewhere")
    if kind == "link":
        (bundle / file).symlink_to(bundle.parent / "elsewhere")
    elif kind == "folder":
        (bundle / file).mkdir()
    else:
        os.mkfifo(bundle / file)
    said = "no such plain file" if file == "manifest.json" else f"{file} is a link or no file"
    assert said in refused(bundle)


# --- manifests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 1_000_000,
        b'{"a":' * 100_000,
        b'{"version": ' + b"9" * 900_000 + b"}",
        b'{"name": "\\ud800"}',
        b"\xff\xfe",
        b"",
    ],
    ids=["arrays", "objects", "digits", "surrogate", "utf-16", "empty"],
)
def test_a_manifest_that_is_hard_to_read(bundle: Path, content: bytes) -> None:
    (bundle / "manifest.json").write_bytes(content)
    assert "is not a manifest of format version" in refused(bundle)


def test_a_manifest_that_never_ends(bundle: Path) -> None:
    with (bundle / "manifest.json").open("r+b") as file:
        file.truncate(1 << 40)
    assert "is larger than 1 MiB" in refused(bundle)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda m: m["precisions"]["fp32"]["memory"][0].update(axes=["slot", "src", 1 << 40]), "memory.0.axes"),
        (lambda m: m["precisions"]["fp32"]["memory"][0].update(axes=["slot", "src", 0]), "memory.0.axes"),
        (lambda m: m["precisions"]["fp32"]["memory"][0].update(axes=["slot", "src", -1]), "memory.0.axes"),
        (lambda m: m["precisions"]["fp32"]["state"][0].update(axes=["slot", 1 << 20, 1 << 20]), "elements"),
        (lambda m: m["precisions"]["fp32"]["state"][0].update(axes=["slot"] * 9), "state.0.axes"),
        (lambda m: m["limits"].update(max_source_tokens=1 << 40), "max_source_tokens"),
        (lambda m: m["limits"].update(max_target_tokens=1 << 40), "max_target_tokens"),
        (lambda m: m.update(vocabulary_size=1 << 40), "vocabulary_size"),
        (lambda m: m["defaults"].update(beam_size=1 << 40), "beam_size"),
        (lambda m: m["special_ids"].update(eos=1 << 40), "special_ids"),
        (lambda m: m["special_ids"].update(eos=-1), "special_ids"),
    ],
)
def test_absurd_sizes(bundle: Path, change: Callable[[dict[str, Any]], object], complaint: str) -> None:
    edit_manifest(bundle, change)
    assert complaint in refused(bundle)


# --- graphs ----------------------------------------------------------------------------------------------------------


def external(tensor: onnx.TensorProto, *entries: tuple[str, str]) -> onnx.TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in entries:
        tensor.external_data.add(key=key, value=value)
    return tensor


def at(location: str, offset: str = "0", length: str = "4") -> tuple[tuple[str, str], ...]:
    return ("location", location), ("offset", offset), ("length", length)


TENSOR = numpy_helper.from_array(np.zeros(1, dtype=np.float32), "more")
ELSEWHERE = "which is not a file of the bundle"
POSITIONS = [
    (at("../../secret"), ELSEWHERE),
    (at("/etc/passwd"), ELSEWHERE),
    (at("./weights.bin"), ELSEWHERE),
    (at("unlisted.bin"), ELSEWHERE),
    (at(""), ELSEWHERE),
    (at("weights.bin\0"), ELSEWHERE),
    (at("*/_ORT_MEM_ADDR_/*", "140000000000000"), ELSEWHERE),  # ONNX Runtime's name for an address in its own memory
    (at("weights.bin", "-8"), "must be whole numbers"),
    (at("weights.bin", "0x10"), "must be whole numbers"),
    (at("weights.bin", "9" * 19), "must be whole numbers"),
    (at("weights.bin", "999999999"), "data ends at 1000000003 of 'weights.bin'"),
    ((*at("weights.bin"), ("location", "../secret")), "not given by one location, offset and length"),
    ((*at("weights.bin"), ("basepath", "/")), "not given by one location, offset and length"),
    ((("location", "weights.bin"),), "not given by one location, offset and length"),
    ((), "not given by one location, offset and length"),
]


@pytest.mark.parametrize(("entries", "complaint"), POSITIONS)
@pytest.mark.parametrize("place", ["initializer", "attribute", "list"])
def test_weights_that_are_elsewhere(
    bundle: Path, entries: tuple[tuple[str, str], ...], complaint: str, place: str
) -> None:
    (bundle / "unlisted.bin").write_bytes(b"1234")
    model = onnx.load(bundle / GRAPH, load_external_data=False)
    tensor = onnx.TensorProto()
    tensor.CopyFrom(TENSOR)
    external(tensor, *entries)
    if place == "initializer":
        model.graph.initializer.append(tensor)
    else:
        model.graph.node.append(helper.make_node("Constant", [], ["c"]))
        model.graph.node[-1].attribute.append(
            helper.make_attribute("value", tensor if place == "attribute" else [tensor])
        )
    put(bundle, model.SerializeToString())
    said = refused(bundle)
    assert complaint in said
    assert GRAPH in said


def changed(model: onnx.ModelProto, kind: str) -> None:
    node = model.graph.node.add(op_type="Identity", input=["x"], output=["y"])
    if kind == "node of another domain":
        node.domain = "evil"
    elif kind == "opset of another domain":
        model.opset_import.add(domain="evil", version=1)
    elif kind == "function":
        model.functions.add(name="f")
    elif kind == "training":
        model.training_info.add()
    elif kind == "loop":
        node.attribute.append(helper.make_attribute("body", onnx.GraphProto(name="forever")))
    elif kind == "loops":
        node.attribute.append(helper.make_attribute("bodies", [onnx.GraphProto(name="forever")]))
    elif kind == "sparse":
        model.graph.sparse_initializer.add()
    elif kind == "sparse attribute":
        node.attribute.add(name="value", type=onnx.AttributeProto.SPARSE_TENSOR).sparse_tensor.dims.append(1)
    elif kind == "vast":
        model.graph.initializer.add(name="vast", data_type=1, dims=[1 << 40, 1 << 40])
    elif kind == "negative":
        model.graph.initializer.add(name="negative", data_type=1, dims=[-1])
    else:
        raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("node of another domain", "operators of the domain 'evil'"),
        ("opset of another domain", "operators of the domain 'evil'"),
        ("function", "has functions"),
        ("training", "has training_info"),
        ("loop", "has g, which no exported graph has"),
        ("loops", "has graphs"),
        ("sparse", "has sparse_initializer"),
        ("sparse attribute", "has sparse_tensor"),
        ("vast", "a tensor of the shape [1099511627776, 1099511627776]"),
        ("negative", "a tensor of the shape [-1]"),
    ],
)
def test_graphs_that_no_export_makes(bundle: Path, kind: str, complaint: str) -> None:
    model = onnx.load(bundle / GRAPH, load_external_data=False)
    changed(model, kind)
    put(bundle, model.SerializeToString())
    assert complaint in refused(bundle)


def test_a_second_graph_does_not_hide_behind_the_first(bundle: Path) -> None:
    hidden = onnx.ModelProto(graph=onnx.GraphProto(initializer=[external(onnx.TensorProto(), *at("/etc/passwd"))]))
    put(bundle, (bundle / GRAPH).read_bytes() + hidden.SerializeToString())
    said = refused(bundle)
    assert "holds 2 graphs instead of one" in said
    assert ELSEWHERE in said


@pytest.mark.parametrize("content", [b"\xff" * 100, b"\x3a\xff\xff\xff\xff\x0f", b"\x0b" * 10_000, bytes(range(256))])
def test_bytes_that_are_no_model(bundle: Path, content: bytes) -> None:
    put(bundle, content)
    assert f"{GRAPH} " in refused(bundle)


def test_a_graph_that_is_too_large_to_read(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    with path.open("wb") as file:
        file.truncate((256 << 20) + 1)
    assert model_problems(path, {}) == ["graph.onnx has more than 256 MiB; keep its weights in a file of their own"]


def test_every_graph_is_looked_at(bundle: Path) -> None:
    for graph in ("encoder.onnx", "decoder.onnx", "encoder.int8.onnx", "decoder.int8.onnx"):
        put(bundle, b"nothing", graph)
    said = refused(bundle)
    assert all(
        f"{graph} " in said for graph in ("encoder.onnx", "decoder.onnx", "encoder.int8.onnx", "decoder.int8.onnx")
    )


def test_what_is_honest_still_loads(bundle: Path) -> None:
    model = onnx.load(bundle / GRAPH, load_external_data=False)
    model.producer_name = "another exporter"
    put(bundle, model.SerializeToString())
    assert load_bundle(bundle).manifest.name == "digits"
