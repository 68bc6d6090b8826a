"""Recurrence that stands in for a decoder's self-attention: a state of one vector, whatever the target's length."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.positions import Rotation


class Recurrence(Protocol):
    """Carries a layer's state over the tokens that it reads."""

    def carry(self, forget: Tensor, x: Tensor) -> Tensor:
        """Map gates and inputs of these tokens to the states c_t = f_t c_(t-1) + (1 - f_t) x_t: (row, time, dim)."""
        ...


class Ssru(nn.Module):
    """Simpler simple recurrent unit (Kim et al. 2019, "From Research to Production and Back", section 3.1).

    f_t = sigmoid(W_f x_t + b_f), c_t = f_t c_(t-1) + (1 - f_t) W x_t, and its output is relu(c_t).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.value = nn.Linear(dim, dim, bias=False)
        self.forget = nn.Linear(dim, dim)

    def start(self, like: Tensor) -> tuple[Tensor]:
        """Return the state before the first token, shape (row, 1, dim), for the rows of ``like``."""
        return (like.new_zeros(like.shape[0], 1, self.value.out_features),)

    def within(self, x: Tensor, rotate: Rotation, recurrence: Recurrence) -> Tensor:
        """Read the tokens, shape (row, time, dim) to the same; their order is in the recurrence, so none is rotated."""
        return torch.relu(recurrence.carry(torch.sigmoid(self.forget(x)), self.value(x)))


def carry_all(forget: Tensor, x: Tensor) -> Tensor:
    """Run the recurrence over whole rows from a state of 0, in log2(time) steps (Hillis and Steele 1986).

    Args:
        forget: Shape (row, time, dim).
        x: Shape (row, time, dim).

    Returns:
        Shape (row, time, dim); summed in float32.
    """
    kept = forget.float()
    states = (1 - kept) * x.float()
    span = 1
    while span < x.shape[1]:  # each state covers the last ``span`` tokens, and now as many before them
        states = states + kept * _earlier(states, span)
        kept = kept * _earlier(kept, span)
        span *= 2
    return states.type_as(x)


def carry_one(state: Tensor, forget: Tensor, x: Tensor) -> Tensor:
    """Add one token to a state: all of shape (row, time, dim)."""
    return forget * state + (1 - forget) * x


def _earlier(x: Tensor, span: int) -> Tensor:
    return functional.pad(x[:, :-span], (0, 0, span, 0))
