"""Activation checkpointing (Chen et al. 2016): layers are computed again in the backward pass instead of remembered."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from training.errors import ModelError
from training.parallel import layers_of


def recompute_layers(model: nn.Module) -> None:
    """Make every layer of a model forget its activations; values and gradients stay the same.

    Raises:
        ModelError: If the model has no layers to recompute.
    """
    layers = layers_of(model)
    if not layers:
        raise ModelError(
            f"trainer.recompute is set, but {type(model).__name__} has no stack of layers to recompute; leave it out"
        )
    for layer in layers:
        forward: Callable[..., Any] = layer.forward
        layer.forward = partial(checkpoint, forward, use_reentrant=False)
