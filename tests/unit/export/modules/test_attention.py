"""Heads that share keys and values give what attention over repeated keys and values gives, and read them once."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.graphs import _export
from export.modules.attention import attend
from serving.bundle.manifest import Axis, TensorSpec

SLOTS, BEAM, ENTRIES, HEADS, SIZE = 3, 2, 5, 4, 8


class Attending(nn.Module):
    def forward(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor]:
        return (attend(q, keys, values, mask, heads=HEADS),)


def specs(kv_heads: int) -> list[TensorSpec]:
    axes = {
        "q": (Axis.SLOT, Axis.BEAM, HEADS * SIZE),
        "keys": (Axis.SLOT, Axis.ENTRY, kv_heads * SIZE),
        "values": (Axis.SLOT, Axis.ENTRY, kv_heads * SIZE),
        "mask": (Axis.SLOT, 1, Axis.BEAM, Axis.ENTRY),
    }
    return [TensorSpec(name=name, dtype="float32", axes=of) for name, of in axes.items()]


def heads(x: Tensor) -> Tensor:
    slots, time, _ = x.shape
    return x.reshape(slots, time, -1, SIZE).transpose(1, 2)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_shared_heads_give_what_repeated_ones_give(kv_heads: int) -> None:
    inputs = specs(kv_heads)
    context = TensorSpec(name="context", dtype="float32", axes=inputs[0].axes)
    graph = _export(Attending(), (), inputs, [context])
    (node,) = [node for node in graph.graph if node.op_type == "Attention"]
    assert node.attributes["q_num_heads"].as_int() == node.attributes["kv_num_heads"].as_int() == kv_heads
    torch.manual_seed(0)
    sizes = {Axis.SLOT: SLOTS, Axis.BEAM: BEAM, Axis.ENTRY: ENTRIES}
    q, keys, values, mask = (torch.randn(spec.shape(sizes)) for spec in inputs)
    k, v = (heads(x).repeat_interleave(HEADS // kv_heads, dim=1) for x in (keys, values))
    expected = F.scaled_dot_product_attention(heads(q), k, v, attn_mask=mask).transpose(1, 2).flatten(2)
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {spec.name: x.numpy() for spec, x in zip(inputs, (q, keys, values, mask), strict=True)}
    np.testing.assert_allclose(session.run(None, feeds)[0], expected.numpy(), atol=1e-6)
