"""What the best hypotheses attend to: each is decoded once more, as a given translation, in a beam of 1.

So no search keeps the weights of hypotheses that lose, and only who asks for attention waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from serving.bundle.manifest import SearchConventions
from serving.decoding.options import DecodingOptions
from serving.engine.submission import Decoded, Sentence

_AT_NO_COST = SearchConventions(prefix_scored=False)  # tokens that a search was made to use may have no probability


def attentive(sentences: Sequence[Sentence], decoded: Sequence[Decoded]) -> dict[int, Sentence]:
    """Return, by their index, sentences that tell what the best hypotheses attend to; none for one without tokens."""
    found = {}
    for index, (sentence, answer) in enumerate(zip(sentences, decoded, strict=True)):
        if tokens := answer.hypotheses[0].tokens:
            start = sentence.options.start
            given = DecodingOptions(max_length=len(tokens), prefix=tokens, start=start, search=_AT_NO_COST)
            found[index] = replace(sentence, options=given, attention=True)
    return found


def with_attention(
    decoded: Sequence[Decoded], again: Mapping[int, Sentence], answers: Sequence[Decoded]
) -> tuple[Decoded, ...]:
    """Return what was decoded, with what it attends to.

    Args:
        decoded: By the search.
        again: Sentences that tell it, by index.
        answers: What has become of them.
    """
    told = list(decoded)
    for index, answer in zip(again, answers, strict=True):
        told[index] = replace(told[index], attention=answer.attention, finished=answer.finished)
    return tuple(told)
