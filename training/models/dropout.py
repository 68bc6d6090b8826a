"""Dropout whose mask is shared by all time steps of a row."""

from __future__ import annotations

from torch import Tensor, nn


class TimeSharedDropout(nn.Module):
    """Drop the same dimensions at every time step of a row (Gal and Ghahramani 2016, for recurrent networks).

    Tensor2tensor does the same for Transformers ("dropout broadcast dims"). It needs a random number per row and
    dimension rather than per token, and on a CPU drawing them is a large part of a training step.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Scale kept entries by 1/(1 - p) and zero the others, shape (row, time, dim); identity in eval mode."""
        if not self.training or self.probability == 0.0:
            return x
        keep = 1.0 - self.probability
        return x * x.new_empty(x.shape[0], 1, x.shape[-1]).bernoulli_(keep).div_(keep)
