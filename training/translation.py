"""Translate texts with a checkpoint, in PyTorch: raw sentences in, raw sentences out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.checkpoint import LoadedCheckpoint
from training.data.batches import make_source
from training.data.cleaning import clean_text
from training.data.tokenizer import load_tokenizer
from training.data.words import Words
from training.decode import DecodeOptions, translate
from training.evaluation import greedy_ids
from training.progress_bar import progress


def translate_texts(checkpoint: LoadedCheckpoint, texts: Sequence[str], options: DecodeOptions) -> list[str]:
    """Translate sentences; the best hypothesis of each, greedy ones in batches. Blank texts stay blank."""
    source, target = map(load_tokenizer, (checkpoint.source_tokenizer_bytes, checkpoint.target_tokenizer_bytes))
    reverse = checkpoint.config.data.reverse_source
    present = [i for i, text in enumerate(texts) if text.strip()]
    ids = source.encode([clean_text(texts[i], "none") for i in present])
    if options == DecodeOptions(max_length=options.max_length):
        found = greedy_ids(checkpoint.model, ids, max_length=options.max_length, reverse=reverse)
    else:
        found = []
        for row in progress(ids, "translating"):
            ((best, *_),) = translate(checkpoint.model, [row], options, reverse_source=reverse)
            found.append(list(best.tokens))
    results = [""] * len(texts)
    if isinstance(source, Words) and isinstance(target, Words):
        for place, row, tokens in zip(present, ids, found, strict=True):
            words = source.spellings(clean_text(texts[place], "none"))
            results[place] = target.fill(
                tokens, [words[i] if i is not None else "" for i in aligned(checkpoint, row, tokens)]
            )
        return results
    for place, text in zip(present, target.decode(found), strict=True):
        results[place] = text
    return results


@torch.inference_mode()
def attention_of(checkpoint: LoadedCheckpoint, source: Sequence[int], target: Sequence[int]) -> Tensor:
    """Compute what each target token attends to, with both sides known.

    Args:
        checkpoint: With its model in eval mode.
        source: Token ids without eos, in the order of the text.
        target: Token ids without eos.

    Returns:
        Shape (layer, head, tgt + 1, src + 1), the end tokens last; source positions are in the order of the text also
        for a model that reads backwards. No layers for a model without attention.
    """
    vocabulary, reverse = checkpoint.vocabulary, checkpoint.config.data.reverse_source
    ids, lengths = make_source([source], vocabulary, reverse=reverse)
    weights = checkpoint.model.attention(ids, lengths, torch.tensor([[vocabulary.decoder_start, *target]]))[:, 0]
    if reverse:
        weights = torch.cat([weights[..., :-1].flip(-1), weights[..., -1:]], dim=-1)
    return weights


def aligned(checkpoint: LoadedCheckpoint, source: Sequence[int], target: Sequence[int]) -> list[int | None]:
    """For each target token the source position attended to most, over layers and heads; None is the end, or nothing.

    Args:
        checkpoint: With its model in eval mode.
        source: Token ids without eos.
        target: Token ids without eos.
    """
    weights = attention_of(checkpoint, source, target)
    if weights.shape[0] == 0:
        return [None] * len(target)
    best = weights.mean(dim=(0, 1)).argmax(dim=-1).tolist()
    return [i if i < len(source) else None for i in best[: len(target)]]
