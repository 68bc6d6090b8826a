"""The beginning of a translation as text, as far as no later token can change it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from serving.bundle.tokenizer import EncodedSource, SubwordTokenizer
from serving.engine.postprocessing import attending_words, decoded_text, moved_spans
from serving.text.casing import Case, raised
from serving.text.characters import composing_edits, joins
from serving.text.edits import EditedText
from serving.text.reading import ReadPart
from serving.text.restoration import numbered_edits
from serving.text.words import UNSPACED

_NO_CHARACTER = "\ufffd"  # stands for bytes that are no character yet


def settled_text(
    part: ReadPart,
    source: EncodedSource,
    tokens: Sequence[tuple[int, int]],
    tokenizer: SubwordTokenizer,
    language: str,
) -> str:
    """Return what the first tokens of a part's translation say for sure.

    Held back are the last letter, which a mark may follow, and white space before it. Where words are put in capitals,
    or numbers become protected spans, the last word is held back instead, since it may go on; and, while a span waits
    for its number, all from the first word that attends to it: if the number never comes, the span goes there.

    Args:
        part: What the model read.
        source: The same as tokens.
        tokens: Those that are certain, each with the source position it attends to most.
        tokenizer: Of the bundle.
        language: BCP-47 tag of the translation.
    """
    alignment = [position for _, position in tokens]
    target = decoded_text(part, source, [token for token, _ in tokens], alignment, tokenizer)
    read, titled = target.text.rstrip(_NO_CHARACTER), part.case in (Case.TITLE, Case.WORDS)
    whole = _whole_words(read, spaced=titled) if titled or part.stand_ins else _whole_letters(read)
    composed = EditedText(whole, composing_edits(whole))
    text = raised(composed.text, part.case, language)
    if not part.stand_ins:
        return text
    edits, waiting = numbered_edits(text, part.stand_ins)
    attending = partial(attending_words, text, moved_spans(target.spans, composed), source, alignment)
    places = [place for stand_in in waiting if (place := attending(stand_in))]
    end = min([len(text), *(start for start, _ in places)])
    end = min([end, *(edit.start for edit in edits if edit.end > end)])
    return EditedText(text[:end], [edit for edit in edits if edit.end <= end]).text


def _whole_letters(text: str) -> str:
    """Return a text without its last letter, unless white space follows it, and without white space at its end."""
    stripped = text.rstrip()
    if len(stripped) < len(text):
        return stripped
    end = len(text) - 1
    while end > 0 and joins(text[end]):
        end -= 1
    return text[: max(end, 0)].rstrip()


def _whole_words(text: str, *, spaced: bool) -> str:
    """Return a text without its last word, unless white space follows it, and without white space at its end.

    Args:
        text: The beginning of a longer one.
        spaced: Only white space ends a word; otherwise each letter of a script without spaces is one as well.
    """
    stripped = text.rstrip()
    if len(stripped) < len(text):
        return stripped
    head = text.rsplit(maxsplit=1)
    end = len(head[0]) if len(head) == 2 else 0
    if not spaced:
        for last in range(len(text) - 1, end, -1):
            if UNSPACED.search(text, last - 1, last + 1) and not joins(text[last]):
                return text[:last].rstrip()
    return text[:end]
