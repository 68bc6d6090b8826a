"""What the engine does with markup, over a model that copies."""

from __future__ import annotations

from collections import Counter

from serving.messages import MimeType
from serving.text.edits import EditedText
from serving.text.markup.document import Markup
from serving.text.markup.html_tokens import html_tokens
from serving.text.markup.mime_types import read_markup
from serving.text.markup.placement import markup_edits
from serving.text.markup.tokens import TokenKind
from serving.text.reading import Reading
from serving.text.restoration import restoring_edits
from serving.text.segmentation import join, sentences
from serving.text.words import Aligned, word_spans


def unknown(text: str) -> frozenset[str]:
    return frozenset(character for character in text if character in "你•@\\")


def html(text: str) -> Markup:
    return Markup(html_tokens(text))


def copied(text: str, mime_type: MimeType = MimeType.HTML, *, backwards: bool = False) -> str:
    """The markup with its sentences copied, or the words of each in the reverse order."""
    markup = read_markup(text, mime_type)
    assert markup
    reading = Reading(markup.text, unknown, marked=markup.signs)
    found = [reading.language(part.start, part.end) for part in sentences(reading.text, "en")]
    read = [reading.part(part.start, part.end) for part in found if part]
    parts, targets = [markup.part(part.start, part.end) for part in read], []
    for part, tagged in zip(read, parts, strict=True):
        edits, appended = restoring_edits(part.text, part.stand_ins, lambda _: None)
        assert not appended
        source = markup.text[part.start : part.end]
        aligned = copy_of(EditedText(part.text, edits).text, source, backwards=backwards)
        targets.append(EditedText(aligned.target, markup_edits(aligned, tagged.tags, markup.kept)).text)
    return join(markup.raw, [(part.start, part.end) for part in parts], targets)[0]


def copy_of(text: str, source: str, *, backwards: bool = False) -> Aligned:
    words = word_spans(text)
    theirs = word_spans(source)
    if len(words) != len(theirs):
        return Aligned(source, text, [])
    if not backwards:
        return Aligned(source, text, list(zip(theirs, words, strict=True)))
    target, links = "", []
    for word, there in zip(reversed(words), reversed(theirs), strict=True):
        target += " " * bool(target)
        links.append((there, (len(target), len(target) + word[1] - word[0])))
        target += text[slice(*word)]
    return Aligned(source, target, links)


def tags(text: str) -> Counter[str]:
    """How often each tag, comment and declaration is written, as it is written; end tags left out."""
    return Counter(token.raw for token in html_tokens(text) if token.kind not in {TokenKind.TEXT, TokenKind.END})
