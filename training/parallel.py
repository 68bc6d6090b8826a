"""Distribution of a run over processes: DDP, or FSDP, which also shares out weights, gradients and optimizer state."""

from __future__ import annotations

from pytorch_lightning.strategies import ModelParallelStrategy, Strategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from training.config import TrainerConfig
from training.models.contract import LanguageModel

_ENTRIES = ("hidden", "project_vocab", "encode", "decode_step")


def layers_of(model: nn.Module) -> list[nn.Module]:
    """Return the repeated layers of a model: the members of its module lists whose name ends in ``layers``."""
    lists = [(name, child) for name, child in model.named_children() if isinstance(child, nn.ModuleList)]
    return [layer for name, child in lists if name.endswith("layers") for layer in child]


def strategy_of(settings: TrainerConfig) -> str | Strategy:
    """Return Lightning's strategy; ``fsdp`` is PyTorch's FSDP2, with one whole checkpoint file as for any other."""
    if settings.strategy != "fsdp":
        return settings.strategy
    return ModelParallelStrategy(
        data_parallel_size=settings.devices * settings.nodes, tensor_parallel_size=1, save_distributed_checkpoint=False
    )


def shard(model: LanguageModel, mesh: DeviceMesh) -> None:
    """Share a model's parameters out over the processes of a mesh, in place.

    Layers are gathered one at a time, while they run. Those with cross-attention, whose keys and values are made
    outside them, are gathered with the rest of the model for the whole step.
    """
    for layer in layers_of(model):
        if not hasattr(layer, "cross_attention"):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for name in _ENTRIES:
        register_fsdp_forward_method(model, name)
