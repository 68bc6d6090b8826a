"""A small model as a graph, and graphs run on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.graphs import _export
from serving.bundle.manifest import Axis, TensorSpec
from serving.runtime.session import open_session

DIM, VOCABULARY = 12, 40
TOKENS = TensorSpec(name="tokens", dtype="int64", axes=(Axis.SLOT, Axis.BEAM))
LOGITS = TensorSpec(name="logits", dtype="float32", axes=(Axis.SLOT, Axis.BEAM, VOCABULARY))
KEYS = TensorSpec(name="keys", dtype="float32", axes=(Axis.SLOT, Axis.BEAM, DIM))


class Tied(nn.Module):
    """An embedding, three products of one input, one of a ReLU, and a projection that shares the embedding's matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, DIM)
        self.query, self.key_value, self.gate = nn.Linear(DIM, DIM), nn.Linear(DIM, 2 * DIM), nn.Linear(DIM, DIM)
        self.expand, self.contract = nn.Linear(DIM, 3 * DIM), nn.Linear(3 * DIM, DIM)
        self.projection = nn.Linear(DIM, VOCABULARY, bias=False)
        self.projection.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embedding(tokens)
        keys, values = self.key_value(x).chunk(2, dim=-1)
        mixed = torch.tanh(self.query(x)) * self.gate(x) + values
        return self.projection(torch.tanh(self.contract(torch.relu(self.expand(mixed))))), keys


class Wrapper(nn.Module):
    """As the exporter's modules are: parameters lie one name deeper."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Any:
        return self.model(tokens)


def tied_model() -> Tied:
    torch.manual_seed(0)
    return Tied().eval()


def exported(model: nn.Module) -> ir.Model:
    return _export(Wrapper(model), (), [TOKENS], [LOGITS, KEYS])


def run(graph: ir.Model, path: Path, tokens: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    ir.save(graph, path)
    found: list[NDArray[np.float32]] = open_session(path, device="cpu", threads=1).run(None, {"tokens": tokens})
    return found


def operators(graph: ir.Model) -> list[str]:
    return [node.op_type for node in graph.graph]
