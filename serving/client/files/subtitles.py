"""Subtitles, SubRip and WebVTT: the text of each cue; numbers, times, settings, notes and styles stay as they are.

``pysubs2`` and its kind read cues into a format of their own, and lose what that has no place for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from textwrap import wrap

from serving.client.files.document import TextDocument
from serving.client.files.encoding import replaced
from serving.messages import MimeType

# A line with the times, and what follows it up to an empty line.
_CUE = re.compile(r"^[^\n]*-->[^\n]*\n(?P<text>(?:[^\n]*\S[^\n]*(?:\n|\Z))+)", re.MULTILINE)
_SPEAKER = re.compile(r"\s*[-\u2013\u2014]")
_BREAK = re.compile(r"\s*<br>\s*")
_REFERENCES = {"&amp;": "&", "&lt;": "<", "&gt;": ">"}


def read(text: str, *, references: bool) -> TextDocument:
    """Read the cues.

    Args:
        text: Of the file.
        references: Whether the format has character references.
    """
    places = [(cue.start("text"), cue.end("text") - cue["text"].endswith("\n")) for cue in _CUE.finditer(text)]
    cues = [text[start:end] for start, end in places]

    def rebuild(translations: Sequence[str]) -> str:
        laid = [_laid(cue, answer, references) for cue, answer in zip(cues, translations, strict=True)]
        return replaced(text, places, laid)

    return TextDocument([_joined(cue) for cue in cues], rebuild, MimeType.HTML)


read_srt, read_vtt = partial(read, references=False), partial(read, references=True)


def _joined(cue: str) -> str:
    """Return a cue as one text; lines of several speakers are kept apart."""
    lines = [line.strip() for line in cue.split("\n")]
    return ("<br>" if any(map(_SPEAKER.match, lines)) else " ").join(lines)


def _laid(cue: str, translation: str, references: bool) -> str:
    """Return a translation in as many lines as its cue has."""
    if not references:
        for reference, character in _REFERENCES.items():
            translation = translation if reference in cue else translation.replace(reference, character)
    lines, count = _BREAK.split(translation), cue.count("\n") + 1
    if len(lines) > 1 or count == 1:
        return "\n".join(lines)
    # The narrowest lines that are no more than before.
    for width in range(len(translation) // count + 1, len(translation) + 1):
        lines = wrap(translation, width, break_long_words=False, break_on_hyphens=False)
        if len(lines) <= count:
            break
    return "\n".join(lines)
