"""Word alignment from token alignment."""

from __future__ import annotations

from serving.messages import AlignmentLink
from serving.text.words import Aligned, WordIndex


def word_links(aligned: Aligned) -> tuple[AlignmentLink, ...]:
    """Link each target word to the source words that its tokens attend to most.

    A token that covers several words stands for all of them together. Tokens that attend to the end token, and those
    made of white space only, link nothing.

    Returns:
        Distinct links, in target order, then in source order.
    """
    source_words, target_words = WordIndex(aligned.source), WordIndex(aligned.target)
    links = set()
    for source, target in aligned.links:
        target_word = target_words.covering(*target)
        source_word = source_words.covering(*source)
        if source_word and target_word:
            links.add((target_word, source_word))
    return tuple(AlignmentLink(*source_word, *target_word) for target_word, source_word in sorted(links))
