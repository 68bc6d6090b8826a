"""``dragoman-train average``: one checkpoint out of several of a run (Vaswani et al. 2017, section 6.1)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.checkpoint import KEY, AtomicCheckpointIO, read_checkpoint, unpack_bytes
from training.errors import CheckpointError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("checkpoints", type=Path, nargs="+", help="such as runs/x/step-*.ckpt")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    average_checkpoints(options.checkpoints, options.out)


def mean_weights(states: list[dict[str, Tensor | int]]) -> dict[str, Tensor | int]:
    """Average what several ``WeightAverage.state_dict`` gave (Vaswani et al. 2017, section 6.1), in float64."""
    names = states[0].keys() - {"updates"}
    mean: dict[str, Tensor | int] = {"updates": max(int(state["updates"]) for state in states)}
    for name in names:
        total = torch.stack([torch.as_tensor(state[name]).double() for state in states]).mean(dim=0)
        mean[name] = total.to(torch.as_tensor(states[0][name]).dtype)
    return mean


def average_checkpoints(paths: Sequence[Path], out: Path) -> None:
    """Average the translating weights of checkpoints; all else is taken from the last of them, its scores left out.

    Raises:
        CheckpointError: If one cannot be read, or is of another model or vocabulary than the first.
    """
    states = list[dict[str, Any]]()
    for path in paths:
        raw = read_checkpoint(path)
        own = raw[KEY]
        kind = (
            {name: value.shape for name, value in raw["state_dict"].items()},
            [unpack_bytes(own[f"{side}_tokenizer"]) for side in ("source", "target")],
        )
        if not states:
            first = kind
        if kind != first:
            raise CheckpointError(f"{path} is of another model or vocabulary than {paths[0]}; average those of one run")
        states.append(own["average"])
    raw[KEY] = {**own, "average": mean_weights(states), "scores": {}}
    AtomicCheckpointIO().save_checkpoint(raw, out)
