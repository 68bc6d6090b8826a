"""Pictures, drawn by matplotlib into PNG files: training curves, and alignment matrices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.errors import TrainingError


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; a file that was there is replaced only by a whole one.

    Raises:
        TrainingError: If it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        figure.savefig(partial, format="png")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise TrainingError(f"the picture {path} cannot be written: {error.strerror}") from error


def draw_curves(steps: Sequence[dict[str, Any]], validations: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw loss, validation scores, learning rate and speed against steps.

    Args:
        steps: Rows of ``metrics.jsonl``.
        validations: Rows of ``validation.jsonl``.
        path: PNG file to write.
    """
    figure = Figure(figsize=(10, 7), layout="constrained")
    loss, scores, rate, speed = figure.subplots(2, 2).flat
    _line(loss, steps, "loss", "training (smoothed)")
    _line(loss, validations, "loss", "validation")
    loss.set_ylabel("nats a token")
    for name in ("bleu", "chrf"):
        _line(scores, validations, name, {"bleu": "BLEU", "chrf": "chrF"}[name])
    scores.set_ylabel("validation score")
    _line(rate, steps, "learning_rate", "")
    rate.set_ylabel("learning rate")
    _line(speed, steps, "tokens_per_second", "")
    speed.set_ylabel("target tokens a second")
    for axes in (loss, scores, rate, speed):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if len(axes.get_legend_handles_labels()[0]) > 1:
            axes.legend()
    save_figure(figure, path)


def _line(axes: Any, rows: Sequence[dict[str, Any]], name: str, label: str) -> None:
    present = [(row["step"], row[name]) for row in rows if name in row]
    if present:
        axes.plot(*zip(*present, strict=True), label=label, marker="." if len(present) < 50 else None)


def draw_attention(
    panels: Sequence[tuple[str, NDArray[Any]]], source: Sequence[str], target: Sequence[str], path: Path
) -> None:
    """Draw attention weights as grey squares, source across, target down (as Bahdanau et al. 2015, figure 3).

    Args:
        panels: Title and weights of each, shape (tgt, src), 0 to 1.
        source: Source tokens.
        target: Target tokens.
        path: PNG file to write.
    """
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    width, height = 1.5 + 0.32 * len(source), 1.2 + 0.3 * len(target)
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[len(panels) :]:
        axes.axis("off")
    for axes, (title, weights) in zip(grid, panels, strict=False):
        axes.imshow(np.asarray(weights), cmap="Greys", vmin=0.0, vmax=1.0, aspect="auto")
        axes.set_xticks(range(len(source)), source, rotation=90)
        axes.set_yticks(range(len(target)), target)
        axes.xaxis.tick_top()
        axes.set_xlabel(title)
    save_figure(figure, path)
