"""Spans of a text that no model may change: addresses, paths, placeholders, code, emoji, unknown characters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serving.text.characters import visible
from serving.text.edits import Edit
from serving.text.words import UNSPACED, Span

_EMOJI = (
    "(?:[\U0001f1e6-\U0001f1ff]{2}|[#*0-9]\ufe0f?\u20e3|"
    "[\u203c\u2049\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u27bf\u2934-\u2b55\u3030\u303d\u3297\u3299"
    "\U0001f000-\U0001faff](?:[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff\u20e3]|[\U000e0020-\U000e007f]|\u200d(?=\\S))*)+"
)
_CODE = r"```.*?```|(?<!`)(?P<ticks>`{1,2})(?!`)[^\n]+?(?<!`)(?P=ticks)(?!`)"
# ICU messages nest; four levels are more than anybody translates.
_NESTED = r"\{(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*\}"
_ICU = r"(?=\{\s*\w+\s*,\s*(?:plural|select|selectordinal|number|date|time|duration|ordinal|spellout)\b)" + _NESTED
_BRACES = (
    r"\{\{[^{}\n]*\}\}|[$%#]\{[^{}\n]*\}|\{[\w.:$#@!%*/\[\]-]*\}"
    r"|<<(?! )[\w.: -]+(?<! )>>|\uff5f[^\uff5f\uff60\n]*\uff60"
)
_PRINTF = (
    r"%(?:\d+\$)?[-+#0]*(?:\d+|\*)?(?:\.\d+)?(?:hh|h|ll|l|L|z|j|t)?[diouxXeEfFgGaAcspn@](?!\w)"
    r"|%\(\w+\)[diouxXeEfFgGcsra]"
)
_IP = r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5}|/\d{1,2})?(?![\w]|\.\d)"
_VARIABLE = r"(?<![\w$])\$[A-Za-z_]\w{2,}"
_IN_ADDRESS = r"[^\s<>\"`\u201c\u201d\u00ab\u00bb\u3000-\u303f\uff00-\uffef]"
_URL = (
    r"(?:(?:https?|ftp|(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9+.-]{0,30})://"
    r"|(?<![A-Za-z0-9])(?:(?:mailto|tel|urn):(?=\S)|www\.(?=\w)))" + _IN_ADDRESS + "+"
)
_DOMAIN = (
    r"(?<![A-Za-z0-9_.@-])(?:[A-Za-z0-9_-]+\.)+"
    r"(?:com|org|net|edu|gov|int|io|dev|app|info|biz|eu|uk|de|fr|nl|ch|ca|jp|cn|ru|br|au|ai)(?![A-Za-z0-9_@-])"
    r"(?:[:/?#]" + _IN_ADDRESS + "*)?"
)
_MAIL = r"(?<![A-Za-z0-9_.+%-])[A-Za-z0-9_.+%-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
_HANDLE = r"(?<![A-Za-z0-9_@/])@\w(?:[\w.-]*\w)?|(?<![\w&#/])#(?=\w*[^\W\d])\w+"
_WINDOWS_PATH = r"(?<![\w\\])(?:[A-Za-z]:\\|\\\\\w)(?:[^\s\"*<>|?:]|(?<=\w) (?=\w+\\))*[\w$]"
_PATH = (
    r"(?<![\w/.~<])(?:~|\.{1,2})?/(?:[\w.@%+~-]+/)+(?:[\w@%+~-][\w.@%+~-]*)?"
    r"|(?<![\w/.~])(?:~|\.{1,2})/[\w.@%+~-]*\w|(?<![\w/.~<])/(?:etc|tmp|usr|var|home|opt|dev|bin|root)\b"
)
_FILE = (
    r"(?<![\w/.@%+~-])(?:[\w@%+~-][\w.@%+~-]*/)*[\w@%+~-][\w.@%+~-]*\."
    r"(?:txt|md|rst|pdf|docx?|xlsx?|pptx?|odt|csv|tsv|json|ya?ml|toml|xml|html?|css|scss|jsx?|tsx?|py|rb|rs|go|java|kt|cc?|"
    r"cpp|hpp?|cs|php|sh|bat|exe|dll|so|zip|tar|gz|bz2|xz|7z|rar|png|jpe?g|gif|svg|webp|ico|mp3|mp4|wav|avi|mkv|mov|log|"
    r"ini|cfg|conf|env|lock|sql|db|iso|deb|rpm|onnx|proto|po|xliff|srt|vtt|tmp|bak)\b(?![\w@-])"
)
_PROTECTED = re.compile(
    "|".join(
        (
            *(_CODE, _ICU, _BRACES, _PRINTF, f"(?P<address>{_URL}|{_DOMAIN})", _MAIL, _HANDLE, _IP),
            *(_WINDOWS_PATH, _PATH, _FILE, _VARIABLE, f"(?P<emoji>{_EMOJI})"),
        )
    ),
    re.DOTALL,
)
_TAIL = frozenset(".,;:!?'\u2019\u2026\u3002\uff0c\uff1f\uff01*_)]}")
_OPENING = {")": "(", "]": "[", "}": "{"}
# What a text has none of has nothing to protect, and is in normalisation form C if all its characters are known.
_SPECIAL = re.compile(r"[^\w\s.,;:!?'\"()\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u00ab\u00bb-]|_")
_DOTTED = re.compile(r"\.\w")
_WORD = re.compile(r"[^\s\u2010-\u2027\u3000-\u3003!-/:-@\[-`{-~]+|[^\w\s]+")


@dataclass(frozen=True)
class ProtectedSpan:
    """The characters ``start`` .. ``end``, end exclusive.

    Attributes:
        start: Begin.
        end: End, exclusive.
        symbol: They have neither letters nor digits.
        rewritten: What comes back in their place, if not themselves.
    """

    start: int
    end: int
    symbol: bool = False
    rewritten: str | None = None

    def restored(self, text: str) -> str:
        """Return what comes back of the span of a text."""
        return text[self.start : self.end] if self.rewritten is None else self.rewritten

    def joined(self, other: ProtectedSpan, text: str) -> ProtectedSpan:
        """Return one span of this and a later one; what they share comes back as it is."""
        rewritten = None
        if other.start >= self.end and (self.rewritten, other.rewritten) != (None, None):
            rewritten = self.restored(text) + text[self.end : other.start] + other.restored(text)
        return ProtectedSpan(self.start, max(self.end, other.end), self.symbol and other.symbol, rewritten)


def is_plain(text: str) -> bool:
    """Return whether a text surely has nothing to protect but unknown characters; quick, and False when in doubt."""
    return not (_SPECIAL.search(text) or _DOTTED.search(text))


def protected_spans(
    text: str,
    unknown: frozenset[str],
    marked: Sequence[Span] = (),
    *,
    numbers: Sequence[Edit] = (),
    search: bool = True,
) -> list[ProtectedSpan]:
    """Find what the model must not change.

    Args:
        text: Any text.
        unknown: Its characters that the model has no name for.
        marked: What the caller has marked.
        numbers: Those that come back in another form, unless they belong to another span.
        search: Whether to look for more.

    Returns:
        The spans in order, with something to be seen between any two.
    """
    spans = [ProtectedSpan(*span) for span in marked]
    spans += [ProtectedSpan(number.start, number.end, rewritten=number.text) for number in numbers]
    if search:
        found = _PROTECTED.finditer(text)
        spans += [ProtectedSpan(match.start(), _end(match), match.lastgroup == "emoji") for match in found]
        if unknown:
            spans += _unknown_spans(text, unknown)
    spans.sort(key=lambda span: span.start)
    merged: list[ProtectedSpan] = []
    for span in spans:
        if merged and not visible(text[merged[-1].end : span.start]):
            span = merged.pop().joined(span, text)
        merged.append(span)
    return merged


def term_pattern(terms: Sequence[str]) -> re.Pattern[str] | None:
    """Return the pattern of terms that stand by themselves, the longest first; None if there are none."""
    longest_first = sorted(filter(None, terms), key=len, reverse=True)
    if not longest_first:
        return None
    return re.compile(
        "|".join(_border(term[0], "<") + re.escape(term) + _border(term[-1], "") for term in longest_first)
    )


def _border(character: str, side: str) -> str:
    inside = character.isalnum() and not UNSPACED.match(character)
    return rf"(?{side}!\w)" if inside else ""


def _end(match: re.Match[str]) -> int:
    """Return the end of a match; punctuation after an address belongs to the sentence, unless it closes a bracket."""
    if match.lastgroup != "address":
        return match.end()
    found = match.group()
    unopened = {close: found.count(close) - found.count(opening) for close, opening in _OPENING.items()}
    end = len(found)
    while end and (last := found[end - 1]) in _TAIL and unopened.get(last, 1) > 0:
        end -= 1
        if last in unopened:
            unopened[last] -= 1
    return match.start() + end


def _unknown_spans(text: str, unknown: frozenset[str]) -> Iterator[ProtectedSpan]:
    """Yield words with an unknown letter, or, in scripts without spaces, its unknown letters; and unknown symbols."""
    run = re.compile("[" + "".join(map(re.escape, sorted(unknown))) + "]+")
    for word in _WORD.finditer(text):
        found = run.search(text, word.start(), word.end())
        if not found:
            continue
        if not any(character.isalnum() for character in found.group()) or UNSPACED.search(word.group()):
            for match in run.finditer(text, word.start(), word.end()):
                yield ProtectedSpan(*match.span(), symbol=not any(map(str.isalnum, match.group())))
        else:
            yield ProtectedSpan(*word.span())
