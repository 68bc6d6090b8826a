"""``dragoman-train attention``: what a model looks at while it translates a sentence, as a picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from training.checkpoint import load
from training.data.tokenizer import Tokenizer, load_tokenizer
from training.data.words import SPACE
from training.decode import DecodeOptions
from training.errors import ModelError
from training.plots import draw_attention
from training.translation import attention_of, translate_texts

END = "</s>"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("sentence", help="in the source language")
    parser.add_argument("--target", metavar="TEXT", help="a translation to look at, instead of the model's own")
    parser.add_argument("--out", type=Path, default=Path("attention.png"), help="PNG file (default: attention.png)")
    parser.add_argument("--layer", type=int, action="append", metavar="N", help="from 0; repeatable (default: all)")
    parser.add_argument(
        "--head", type=int, action="append", metavar="N", help="from 0; repeatable (default: the mean of all)"
    )
    parser.add_argument("--beam", type=int, default=4, metavar="N", help="beam size of the translation (default: 4)")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    checkpoint = load(options.checkpoint)
    source, target = map(load_tokenizer, (checkpoint.source_tokenizer_bytes, checkpoint.target_tokenizer_bytes))
    text = options.target
    if text is None:
        (text,) = translate_texts(checkpoint, [options.sentence], DecodeOptions(beam_size=options.beam))
    (left,), (right,) = source.encode([options.sentence]), target.encode([text])
    panels = choose_panels(attention_of(checkpoint, left, right), options.layer, options.head)
    draw_attention(panels, _shown(source, left), _shown(target, right), options.out)
    sys.stdout.write(f"{text}\n")


def _shown(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    return [*(tokenizer.pieces[i].removeprefix(SPACE) or SPACE for i in ids), END]


def choose_panels(
    weights: Tensor, layers: Sequence[int] | None, heads: Sequence[int] | None
) -> list[tuple[str, NDArray[np.float32]]]:
    """Take the layers and heads that were asked for, each with a title; without heads, the mean over them.

    Args:
        weights: Shape (layer, head, tgt, src), float32.
        layers: Numbers from 0, or None for all.
        heads: Numbers from 0, or None for their mean.

    Raises:
        ModelError: If the model has no attention, or not that layer or head.
    """
    found = weights.shape[:2]
    if found[0] == 0:
        raise ModelError("this model has no attention to draw: it translates from one vector of fixed length")
    for kind, asked, count in (("layer", layers, found[0]), ("head", heads, found[1])):
        for number in asked or ():
            if not 0 <= number < count:
                raise ModelError(f"there is no {kind} {number}; the model has {kind}s 0 to {count - 1}")
    panels = list[tuple[str, NDArray[np.float32]]]()
    for layer in layers or range(found[0]):
        if heads is None:
            panels.append((f"layer {layer}, mean of {found[1]} heads", weights[layer].mean(dim=0).numpy()))
        else:
            panels += [(f"layer {layer}, head {head}", weights[layer, head].numpy()) for head in heads]
    return panels
