"""Running average of weights, which translates better than the last weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


class WeightAverage:
    """Exponential moving average of a model's parameters (Polyak and Juditsky 1992).

    Early on, the decay is lowered to (1 + n) / (10 + n) after n updates, so that the random start is soon forgotten.
    Of parameters that are shared out over processes, so is the average.

    Lightning's ``WeightAveraging`` would not do: it copies the module before FSDP shards it, and warns that it cannot
    average sharded models; it also swaps the two sets of weights in the checkpoint's format.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start from the model's present weights."""
        self.decay, self.updates = decay, 0
        self._names = [name for name, _ in model.named_parameters()]
        self._live: list[Tensor] = [p for _, p in model.named_parameters()]
        self._average = [p.detach().clone() for p in self._live]

    def follow(self, model: nn.Module) -> None:
        """Go to the device that the model has been moved to, with or without new parameters in place of the old."""
        self._live = [p for _, p in model.named_parameters()]
        self._average = [average.to(live.device) for average, live in zip(self._average, self._live, strict=True)]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model's weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._average, self._live, 1.0 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the average and the model's weights; call it again to change them back."""
        for average, live in zip(self._average, self._live, strict=True):
            kept = live.detach().clone()
            live.copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict[str, Tensor | int]:
        """Averaged parameters by name, whole, and the number of updates; all processes must ask at the same time."""
        whole = [average.full_tensor() if isinstance(average, DTensor) else average for average in self._average]
        return {**dict(zip(self._names, whole, strict=True)), "updates": self.updates}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Take over what ``state_dict`` gave."""
        self.updates = int(state["updates"])
        for name, average in zip(self._names, self._average, strict=True):
            value = torch.as_tensor(state[name]).to(average.device)
            if isinstance(average, DTensor):
                value = distribute_tensor(value, average.device_mesh, average.placements)
            average.copy_(value)
