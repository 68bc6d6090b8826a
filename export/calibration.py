"""Ranges of the inputs of quantized products: found on real sentences, fixed in the graph.

A range measured at run time would be that of whatever shares the batch, and a sentence's result would change with its
neighbours. A fixed one clips what lies outside; the best one balances the error of clipping against that of rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.data.batches import make_source
from training.models.contract import TranslationModel
from training.progress_bar import progress

_BINS = 4096
_CLIPS = 512  # ranges that are tried


class Histogram:
    """Histogram of a value's magnitudes; its range doubles when it no longer suffices."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS)
        self._width = 0.0  # of a bin

    def add(self, values: Tensor) -> None:
        """Count the magnitudes of values of any shape. Zeros do not count: they have no error."""
        magnitudes = values.detach().abs().flatten()
        magnitudes = magnitudes[magnitudes > 0]
        if not magnitudes.numel():
            return
        largest = float(magnitudes.max())
        if not np.isfinite(largest):
            raise ValueError("an activation is not finite")
        self._width = self._width or largest / _BINS
        while largest > self._width * _BINS:
            self._counts = np.concatenate([self._counts.reshape(-1, 2).sum(1), np.zeros(_BINS // 2)])
            self._width *= 2
        self._counts += torch.histc(magnitudes.float(), _BINS, 0, self._width * _BINS).numpy()

    def step(self, levels: int) -> float:
        """Return the distance between two integers that stand for values with the least mean squared error.

        Args:
            levels: The largest integer; greater values are clipped to it.

        Returns:
            The step; 1 if nothing but zero was seen.
        """
        used = int(np.flatnonzero(self._counts).max(initial=-1)) + 1
        if used == 0:
            return 1.0
        counts, centres = self._counts[:used], (np.arange(used) + 0.5) * self._width
        steps = np.linspace(0, used * self._width, _CLIPS + 1)[1:] / levels
        return float(min(steps, key=lambda step: _squared_error(counts, centres, step, levels)))


def _squared_error(counts: np.ndarray[Any, Any], centres: np.ndarray[Any, Any], step: float, levels: int) -> float:
    # Rounding to a grid has the variance of a uniform error; below half a step the value itself is lost.
    rounding = np.minimum(centres, step / 12**0.5) ** 2
    clipping = np.maximum(centres - levels * step, 0) ** 2
    return float((counts * np.where(centres > levels * step, clipping, rounding)).sum())


Inputs = dict[str, Histogram]


@torch.no_grad()
def calibrate(
    model: TranslationModel[Any], sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], *, reverse: bool
) -> Inputs:
    """Watches what a model's matrices are multiplied with while it reads real pairs, one at a time.

    Args:
        model: In eval mode.
        sources: Token ids of sentences, without the end token.
        targets: Token ids of translations, without the end token.
        reverse: Whether the model reads sources backwards.

    Returns:
        Histograms by the (first) name of the parameter that is multiplied.
    """
    vocabulary = model.vocabulary
    with _watched(model) as inputs:
        pairs = list(zip(sources, targets, strict=True))
        for source, target in progress(pairs, "calibrating"):
            ids, lengths = make_source([source], vocabulary, reverse=reverse)
            model(ids, lengths, torch.tensor([[vocabulary.decoder_start, *target]]))
    return inputs


@contextmanager
def _watched(model: nn.Module) -> Iterator[Inputs]:
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    inputs: Inputs = {}

    def watch(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        for parameter, value in _multiplied(module, arguments):
            inputs.setdefault(names[parameter], Histogram()).add(value)

    kinds = (nn.Linear, nn.RNNCellBase)
    hooks = [m.register_forward_pre_hook(watch) for m in model.modules() if isinstance(m, kinds)]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


def _multiplied(module: nn.Module, arguments: tuple[Any, ...]) -> list[tuple[Tensor, Tensor]]:
    """Return what a module multiplies its matrices with."""
    if isinstance(module, nn.Linear):
        return [(module.weight, arguments[0])]
    assert isinstance(module, nn.RNNCellBase)
    state = arguments[1]
    return [(module.weight_ih, arguments[0]), (module.weight_hh, state[0] if isinstance(state, tuple) else state)]
