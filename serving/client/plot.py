"""A picture of the alignment between source and target words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from serving.messages import Hypothesis

Span = tuple[int, int]


class PlotError(Exception):
    """The picture cannot be drawn; the message gives the reason in one sentence."""


def words(text: str, linked: Sequence[Span]) -> list[Span]:
    """Return begin and end of each word: the linked spans, and between them runs without white space.

    Args:
        text: To cut into words.
        linked: Spans of the links, in any order, perhaps more than once.
    """
    spans, end = list[Span](), 0
    for begin, stop in [*sorted(set(linked)), (len(text), len(text))]:
        if begin < end:  # part of a word that is there already
            continue
        spans += [(end + run.start(), end + run.end()) for run in re.finditer(r"\S+", text[end:begin])]
        spans += [(begin, stop)] if begin < stop else []
        end = stop
    return spans


def draw_alignment(source: str, hypothesis: Hypothesis, path: Path) -> None:
    """Draw source words across and target words down, and a square for each link, into a PNG file.

    Raises:
        PlotError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError("--plot needs matplotlib; install dragoman with the extra 'plot'") from error
    links = hypothesis.alignment
    across = words(source, [(link.source_start, link.source_end) for link in links])
    down = words(hypothesis.text, [(link.target_start, link.target_end) for link in links])
    squares = [[0.0] * len(across) for _ in down]
    for link in links:
        pair = (link.target_start, link.target_end), (link.source_start, link.source_end)
        if pair[0] in down and pair[1] in across:
            squares[down.index(pair[0])][across.index(pair[1])] = 1.0
    figure = Figure(figsize=(1.5 + 0.4 * len(across), 1.2 + 0.35 * len(down)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(squares or [[0.0]], cmap="Greys", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_xticks(range(len(across)), [source[slice(*span)] for span in across], rotation=90)
    axes.set_yticks(range(len(down)), [hypothesis.text[slice(*span)] for span in down])
    axes.xaxis.tick_top()
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise PlotError(f"the picture {path} cannot be written ({error.strerror})") from error
