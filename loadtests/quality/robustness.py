"""What real text has and clean test sets lack, made by rule out of test sentences, with a check of each translation.

None of it is drawn as training's augmentation draws it: names, emoji, addresses and numbers are real ones from lists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from loadtests.quality.test_sets import Line

Check = Callable[[str], bool]

COPIED: dict[str, tuple[str, ...]] = {
    "numbers": (
        "1,234", "12,345,678", "3.14", "0.05", "-7", "+12", "2026-11-28", "28/11/2026", "14:35", "9:05",
        "+33 6 12 34 56 78", "555-0199", "(416) 555-0123", "1,499.95", "99.9", "40,000", "192.168.0.1", "007",
        "1984", "18.5",
    ),
    "placeholders": (
        "{name}", "{0}", "%s", "%(count)d", "{{ user.email }}", "$HOME", "${path}", "%1$s", "__VALUE__", "[link]",
        "｟0｠", "｟7｠", "{first_name}", "%d", "<<date>>",
    ),
    "tags": (
        "<b>Rome</b>", "<br/>", '<a href="https://example.org">Anna</a>', "<x1/>", "<i>Titanic</i>",
        '<g id="3">XML</g>', '<img src="a.png"/>', "<strong>Linux</strong>", "<code>main</code>",
        '<span class="x">2026</span>',
    ),
    "URLs": (
        "https://www.example.org/path?id=42", "http://dragoman.dev", "https://docs.python.org/3/library/re.html",
        "www.lemonde.fr", "https://github.com/torvalds/linux", "ftp://ftp.gnu.org/gnu/", "https://t.co/aB3xYz",
        "https://fr.wikipedia.org/wiki/Traduction",
    ),
    "addresses": (
        "anna.smith@example.com", "info@uni-koeln.de", "j_doe99@mail.co.uk", "support@acme.io", "@nasa", "#MeToo",
        "marie-claire@orange.fr", "root@localhost.localdomain",
    ),
    "emoji": (
        "😀", "❤️", "👍🏽", "🎉", "👨‍👩‍👧", "🚀", "☕", "🇫🇷", "😂😂", "🏳️‍🌈", "✅", "🐍", "💡", "🤖", "🥖",
    ),
    "foreign names": (
        "Łukasz Wiśniewski", "Žižek", "Nguyễn Thị Ánh", "Gunnlaugsson", "Søren Kjærgaard", "Владимир", "東京", "김민준",
        "Ελένη", "محمد", "Ngũgĩ", "Ayşe Şahin", "Björk Guðmundsdóttir", "Dvořák", "Szymborska", "דוד",
    ),
}  # fmt: skip

_SIGNS = {"+": r"\+", "-": "[-\u2212\u2013]"}


@dataclass(frozen=True)
class Case:
    """Texts of one kind, each with the check that its translation passes if nothing was lost."""

    kind: str
    texts: list[str]
    checks: list[Check]

    def share(self, translations: Sequence[str]) -> float:
        """Return the share of translations that pass, 0 to 1."""
        passed = sum(check(text) for check, text in zip(self.checks, translations, strict=True))
        return passed / len(self.checks)


def _plain(lines: Sequence[Line]) -> Iterator[Line]:
    """Repeat the general sentences of usual length that end in a full stop, without figures and marks."""
    usual = re.compile(r"[A-Z][^\d()<>{}@/:;]*\.")
    found = [line for line in lines if 5 <= len(line.source.split()) <= 25 and usual.fullmatch(line.source)]
    return cycle(found)


def _with(sentence: str, item: str, way: int) -> str:
    """Put something into a sentence: before it, after it, or at its end."""
    return (f"{item} {sentence}", f"{sentence} {item}", f"{sentence[:-1]} ({item}).", f"{sentence[:-1]}, {item}.")[
        way % 4
    ]


def _copied(item: str) -> Check:
    return lambda translation: item in translation


def _same_number(item: str) -> Check:
    """Look for the same digits and sign, in whatever way thousands, decimals and times are set apart."""
    sign = _SIGNS.get(item[0], "")
    digits = r"\D{0,3}".join(re.findall(r"\d+", item))
    pattern = re.compile(rf"(?<!\d){sign}\(?{digits}(?!\d)")
    return lambda translation: pattern.search(translation) is not None


def copying_cases(lines: Sequence[Line], count: int) -> list[Case]:
    """Make texts with something in them that a translation leaves as it is."""
    cases = []
    for kind, items in COPIED.items():
        chosen = list(islice(cycle(items), count))
        sentences = [line.source for line in islice(_plain(lines), count)]
        placed = enumerate(zip(sentences, chosen, strict=True))
        texts = [_with(text, item, n + n // len(items)) for n, (text, item) in placed]
        cases.append(Case(kind, texts, [(_same_number if kind == "numbers" else _copied)(item) for item in chosen]))
    return cases


def joined_texts(lines: Sequence[Line], count: int) -> list[tuple[str, str, str]]:
    """Choose three sentences each, to be translated apart and in one text."""
    stream = (line.source for line in _plain(lines))
    return [(next(stream), next(stream), next(stream)) for _ in range(count)]


def none_is_lost(together: str, apart: Sequence[str]) -> bool:
    """Whether the translation of sentences in one text is about as long, and of as many sentences, as those of each."""
    length = sum(map(len, apart))
    return 0.7 * length <= len(together) <= 1.4 * length and len(re.findall(r"[.!?…]+(?=\s|$)", together)) >= len(apart)


def cased(lines: Sequence[Line], count: int) -> list[Line]:
    """Choose sentences that are translated as they are, in capitals and in title case."""
    return list(islice(_plain(lines), count))


def title(text: str) -> str:
    """Begin every word with a capital."""
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))
