"""Word alignment from token alignment."""

from __future__ import annotations

from collections.abc import Sequence

from serving.bundle.tokenizer import Spans
from serving.messages import AlignmentLink
from serving.text.words import WordIndex


def word_links(
    source: str,
    source_spans: Spans,
    target: str,
    target_spans: Spans,
    alignment: Sequence[int],
    *,
    source_offset: int = 0,
    target_offset: int = 0,
) -> tuple[AlignmentLink, ...]:
    """Link each target word to the source words that its tokens attend to most.

    A token that covers several words stands for all of them together. Tokens that attend to the end token, and those
    made of white space only, link nothing.

    Args:
        source: The source text, or the part of it that was translated.
        source_spans: Of its tokens, the end token included, as the model read them. Shape (src, 2), int64.
        target: Its translation.
        target_spans: Of its tokens. Shape (tgt, 2), int64.
        alignment: The source position each target token attends to most. Length tgt.
        source_offset: Position of ``source`` in the text that the links' offsets refer to.
        target_offset: Position of ``target`` in the text that the links' offsets refer to.

    Returns:
        Distinct links, in target order, then in source order.
    """
    source_words, target_words = WordIndex(source), WordIndex(target)
    links = set()
    for position, (begin, end) in zip(alignment, target_spans.tolist(), strict=True):
        target_word = target_words.covering(begin, end)
        source_word = source_words.covering(*source_spans[position].tolist())
        if source_word and target_word:
            links.add((target_word, source_word))
    return tuple(
        AlignmentLink(
            source_start=source_word[0] + source_offset,
            source_end=source_word[1] + source_offset,
            target_start=target_word[0] + target_offset,
            target_end=target_word[1] + target_offset,
        )
        for target_word, source_word in sorted(links)
    )
