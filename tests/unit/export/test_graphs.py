"""A graph that is not what was declared is refused, with every difference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from export.errors import ExportError
from export.graphs import _export
from serving.bundle.manifest import Axis, TensorSpec

SOURCE = TensorSpec(name="source", dtype="float32", axes=(Axis.SOURCE, Axis.SRC))


class Frozen(nn.Module):
    """Reads its number of rows at export time: the mistake that a dynamic axis must not hide."""

    def forward(self, source: Tensor) -> tuple[Tensor]:
        return (source.sum(0, keepdim=True).expand(3, -1) + torch.zeros(3, 1),)


class Doubled(nn.Module):
    def forward(self, source: Tensor) -> tuple[Tensor]:
        return (source * 2,)


def test_a_frozen_axis_is_an_error() -> None:
    with pytest.raises(ExportError, match="axis source of out is frozen at 3"):
        _export(Frozen(), (), [SOURCE], [TensorSpec(name="out", dtype="float32", axes=(Axis.SOURCE, Axis.SRC))])


def test_every_wrong_declaration_is_named() -> None:
    with pytest.raises(ExportError, match="out is float32, declared int64"):
        _export(Doubled(), (), [SOURCE], [TensorSpec(name="out", dtype="int64", axes=SOURCE.axes)])
    with pytest.raises(ExportError, match="out has 2 axes, declared 1"):
        _export(Doubled(), (), [SOURCE], [TensorSpec(name="out", dtype="float32", axes=(Axis.SOURCE,))])
    with pytest.raises(ExportError, match="1 inputs or outputs where 2 were declared"):
        _export(Doubled(), (), [SOURCE], [SOURCE, SOURCE])


def test_names_and_axes_are_the_declared_ones() -> None:
    model = _export(Doubled(), (), [SOURCE], [TensorSpec(name="out", dtype="float32", axes=SOURCE.axes)])
    assert [value.name for value in model.graph.inputs] == ["source"]
    assert [value.name for value in model.graph.outputs] == ["out"]
    assert str(model.graph.outputs[0].shape) == "[source,src]"
    assert not any(node.metadata_props for node in model.graph), "stack traces with local paths must not ship"
