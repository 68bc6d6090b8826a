"""Files of weights: whole, in shards, damaged and hostile."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from export.errors import ReadingError
from export.readers.weight_files import read_weights

WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16), "c": torch.zeros(2)}


def reasons(folder: Path) -> list[str]:
    with pytest.raises(ReadingError) as caught:
        read_weights(folder)
    return caught.value.reasons


def sharded(folder: Path, places: dict[str, str] | None = None) -> Path:
    save_file({name: WEIGHTS[name] for name in ("a", "b")}, folder / "model-00001-of-00002.safetensors")
    save_file({"c": WEIGHTS["c"]}, folder / "model-00002-of-00002.safetensors")
    own = {"a": "model-00001-of-00002.safetensors", "b": "model-00001-of-00002.safetensors"}
    places = {**own, "c": "model-00002-of-00002.safetensors", **(places or {})}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == WEIGHTS.keys() and all(
        weight.dtype is torch.float32 and torch.equal(weight, WEIGHTS[name].float()) for name, weight in found.items()
    )


def test_weights_in_one_file_and_in_shards(tmp_path: Path) -> None:
    for name in ("safe", "shards", "pickled", "pickled shards"):
        (tmp_path / name).mkdir()
    save_file(WEIGHTS, tmp_path / "safe" / "model.safetensors")
    torch.save(WEIGHTS, tmp_path / "pickled" / "pytorch_model.bin")
    folder = tmp_path / "pickled shards"
    torch.save({"a": WEIGHTS["a"]}, folder / "one.bin")
    torch.save({"b": WEIGHTS["b"], "c": WEIGHTS["c"]}, folder / "two.bin")
    index = {"weight_map": {"a": "one.bin", "b": "two.bin", "c": "two.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    sharded(tmp_path / "shards")
    for name in ("safe", "shards", "pickled", "pickled shards"):
        assert same(read_weights(tmp_path / name)), name


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ({"c": "../model.safetensors"}, "no file beside it"),
        ({"c": "/etc/hostname"}, "no file beside it"),
        ({"c": "model-00003-of-00002.safetensors"}, "no file beside it"),
        ({"d": "model-00002-of-00002.safetensors"}, "differ: d"),
        ({"b": "model-00002-of-00002.safetensors"}, "differ: b"),
        ({"c": 7}, "does not say which file"),
    ],
)
def test_an_index_that_lies_is_refused(places: dict[str, Any], reason: str, tmp_path: Path) -> None:
    assert reason in reasons(sharded(tmp_path, places))[0]


def header(**tensors: dict[str, Any]) -> bytes:
    content = json.dumps(tensors).encode()
    return struct.pack("<Q", len(content)) + content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        save(WEIGHTS)[:-4],
        save(WEIGHTS) + bytes(8),
        struct.pack("<Q", 1 << 62) + b"{}",
        # Two that share bytes, one with more elements than bytes, one outside, one that ends before it begins.
        header(
            a={"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            b={"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        )
        + bytes(12),
        header(a={"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 8]}) + bytes(8),
        header(a={"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}) + bytes(8),
        header(a={"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}) + bytes(8),
        header(a={"dtype": "F32", "shape": [1 << 33, 1 << 33], "data_offsets": [0, 8]}) + bytes(8),
    ],
    ids=["empty", "cut off", "longer", "long header", "overlap", "too large", "outside", "backwards", "overflow"],
)
def test_damaged_and_hostile_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert "model.safetensors is damaged" in reasons(tmp_path)[0]


def test_tensors_that_are_larger_than_their_file_are_refused(tmp_path: Path) -> None:
    weights = {"a": torch.zeros(1, dtype=torch.float16).expand(1 << 20, 1 << 20), "b": torch.arange(3)}
    torch.save(weights, tmp_path / "pytorch_model.bin")
    assert reasons(tmp_path) == [
        "weight b is not of floating-point numbers",
        f"weight a has {1 << 40} elements in 2 bytes",
    ]


def test_what_is_no_table_of_tensors_is_refused(tmp_path: Path) -> None:
    torch.save([torch.ones(2)], tmp_path / "pytorch_model.bin")
    assert "something else than named weights" in reasons(tmp_path)[0]
