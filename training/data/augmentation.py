"""Augmentation: pairs changed by rule, so that a model learns what clean corpora do not show.

Both sides are changed alike, but for typing errors, which are the source's. What is put into a pair stands at places
that correspond: ends of the text, marks of punctuation that both sides have in the same order, words that both have.
"""

from __future__ import annotations

import re
import string
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any, Self

from training.data.copied import KINDS, latin_name, tag_pair
from training.data.parallel_text import Pair
from training.errors import DataError


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings:
    """The chance that a pair is changed, for each kind of change; several may happen to one pair.

    Attributes:
        variants: Copies of the corpus that are made, each changed in other places.
        fragments: Of a text with punctuation inside it that both sides have in the same order, only one part is left,
            so that single words and headings are seen.
        joined: One to three earlier pairs of the same label come first.
        figures: Digits of a number that both sides have become others.
        names: A word that both sides have and that begins with a capital becomes another.
        placeholders: A placeholder is put in; as for the next ones, more follow with a chance of one in three.
        tags: A tag or a pair of tags is put in.
        urls: A URL.
        addresses: An e-mail address or a handle.
        emoji: One to three emoji.
        foreign: Words of other scripts.
        symbols: A sign of punctuation, money, mathematics.
        numbers: A number, date, time or code.
        quotes: Quotes, apostrophes and dashes become straight, or typographic.
        unpunctuated: The full stop at the end is dropped.
        upper: All letters become capitals.
        title: Every Word Begins with One.
        lower: No letter is a capital.
        typos: Letters of one or two words of the source are swapped, dropped, doubled or mistaken.
    """

    variants: int = 1
    fragments: float = 0.0
    joined: float = 0.0
    figures: float = 0.0
    names: float = 0.0
    placeholders: float = 0.0
    tags: float = 0.0
    urls: float = 0.0
    addresses: float = 0.0
    emoji: float = 0.0
    foreign: float = 0.0
    symbols: float = 0.0
    numbers: float = 0.0
    quotes: float = 0.0
    unpunctuated: float = 0.0
    upper: float = 0.0
    title: float = 0.0
    lower: float = 0.0
    typos: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            DataError: If there is no variant, or a chance is not between 0 and 1.
        """
        if self.variants < 1:
            raise DataError(f"data.augmentation.variants is {self.variants}; it must be 1 or more.")
        for name, chance in self.chances.items():
            if not 0.0 <= chance <= 1.0:
                raise DataError(f"data.augmentation.{name} is {chance}; a chance is between 0 and 1.")

    @property
    def chances(self) -> dict[str, float]:
        """The chance of each kind of change, in the order in which they are made."""
        return {name: chance for name, chance in asdict(self).items() if name != "variants"}

    def without_inventions(self) -> Self:
        """Return the same changes but for those that put in what is made up."""
        none: dict[str, Any] = dict.fromkeys(("names", *KINDS), 0.0)
        return replace(self, **none)


def augment(pairs: Iterable[Pair], settings: AugmentationSettings, max_words: int, seed: str) -> Iterator[Pair]:
    """Stream pairs, changed as the settings say; what is drawn depends on seed and order alone.

    Args:
        pairs: To change.
        settings: How often.
        max_words: Longest side that joining may make, in words.
        seed: Decides everything.
    """
    random = Random(seed)
    earlier: defaultdict[str, deque[Pair]] = defaultdict(lambda: deque(maxlen=3))
    chances = [(name, chance) for name, chance in settings.chances.items() if chance > 0.0]
    for pair in pairs:
        changed = pair
        for name, chance in chances:
            if random.random() >= chance:
                continue
            if name == "joined":
                changed = _join(changed, earlier[pair.label], max_words, random)
            else:
                changed = CHANGES[name](changed, random)
        earlier[pair.label].append(pair)
        yield changed


def _join(pair: Pair, earlier: Iterable[Pair], max_words: int, random: Random) -> Pair:
    for before in list(earlier)[: random.randint(1, 3)]:
        joined = Pair(f"{before.source} {pair.source}", f"{before.target} {pair.target}", pair.label)
        if max(joined.source.count(" "), joined.target.count(" ")) >= max_words:
            break
        pair = joined
    return pair


_WORD = re.compile(r"(?<![^\s'\u2019«“\"(])\w(?:[\w-]*\w)?(?=[\s'\u2019.,;:!?»”\")]|$)")
_MARK = re.compile(r"[,;:)](?=\s)")
_LONGEST_FRAGMENT = 60  # characters
_BREAK = re.compile(r"\s*([,;:.!?…])\s+")
_FINAL = re.compile(r"\s*[.!?…]+\s*[\"”»]?$")
_NUMBER = re.compile(r"(?<![\w-])\d(?:[\d.,:/ -]*\d)+(?![\w-])")


def _shared(pair: Pair) -> list[tuple[re.Match[str], re.Match[str]]]:
    """Capitalised words and numbers that occur once on each side."""
    sides = []
    for text in (pair.source, pair.target):
        found = [m for m in _WORD.finditer(text) if m[0][0].isupper() or m[0][0].isdigit()]
        counts = Counter(m[0] for m in found)
        sides.append({m[0]: m for m in found if counts[m[0]] == 1})
    return [(match, sides[1][word]) for word, match in sides[0].items() if word in sides[1]]


def _spots(pair: Pair) -> list[tuple[int, int]]:
    """Places that correspond: offsets in source and target, each the beginning or the end of a word."""
    spots = [(0, 0), (len(pair.source), len(pair.target))]
    finals = [_FINAL.search(text) for text in (pair.source, pair.target)]
    if finals[0] and finals[1]:
        spots.append((finals[0].start(), finals[1].start()))
    marks = [list(_MARK.finditer(text)) for text in (pair.source, pair.target)]
    if [m[0] for m in marks[0]] == [m[0] for m in marks[1]]:
        spots += [(left.end(), right.end()) for left, right in zip(*marks, strict=True)]
    return spots + [(left.end(), right.end()) for left, right in _shared(pair)]


def _cut_out(pair: Pair, random: Random) -> Pair:
    """Leave one of the parts between marks of punctuation, as a text of its own."""
    sides = [_BREAK.split(_FINAL.sub("", text)) for text in (pair.source, pair.target)]
    if sides[0][1::2] != sides[1][1::2] or len(sides[0]) == 1:
        return pair
    part, end = random.randrange(len(sides[0]) // 2 + 1), random.choice((".", ""))
    source, target = (side[2 * part].rstrip(" ,;:") for side in sides)
    shorter, longer = sorted((len(source), len(target)))
    # Long parts, and parts of unlike lengths, are often no translations of each other: the order was another.
    if shorter == 0 or longer > min(2 * shorter + 4, _LONGEST_FRAGMENT):
        return pair
    return replace(pair, source=source[0].upper() + source[1:] + end, target=target[0].upper() + target[1:] + end)


def _put(text: str, place: int, item: str) -> str:
    return f"{text[:place]} {item}{text[place:]}" if place else f"{item} {text}"


def _inserting(make: Callable[[Random], str]) -> Callable[[Pair, Random], Pair]:
    def insert(pair: Pair, random: Random) -> Pair:
        while True:
            (left, right), item = random.choice(_spots(pair)), make(random)
            pair = replace(pair, source=_put(pair.source, left, item), target=_put(pair.target, right, item))
            if random.random() > 1 / 3:
                return pair

    return insert


def _substitute(pair: Pair, matches: tuple[re.Match[str], re.Match[str]], texts: tuple[str, str]) -> Pair:
    (left, right), (source, target) = matches, (pair.source, pair.target)
    return replace(
        pair,
        source=source[: left.start()] + texts[0] + source[left.end() :],
        target=target[: right.start()] + texts[1] + target[right.end() :],
    )


def _mark_up(pair: Pair, random: Random) -> Pair:
    """Put a tag somewhere, or tags around a word or the whole."""
    shared, kind = _shared(pair), random.random()
    if kind < 0.4:
        return _inserting(KINDS["tags"])(pair, random)
    before, after = tag_pair(random)
    if kind < 0.8 and shared:
        matches = random.choice(shared)
        wrapped = f"{before}{matches[0][0]}{after}"
        return _substitute(pair, matches, (wrapped, wrapped))
    return replace(pair, source=f"{before}{pair.source}{after}", target=f"{before}{pair.target}{after}")


def _rename(pair: Pair, random: Random) -> Pair:
    names = [matches for matches in _shared(pair) if matches[0][0][0].isupper() and matches[0].start() > 0]
    if not names:
        return pair
    name = KINDS["foreign"](random) if random.random() < 0.2 else latin_name(random)
    return _substitute(pair, random.choice(names), (name, name))


def _change_figures(pair: Pair, random: Random) -> Pair:
    """Give a number that both sides have once, however its digits are set apart, other digits after the first."""
    sides = []
    for text in (pair.source, pair.target):
        found = [(re.sub(r"\D", "", m[0]), m) for m in _NUMBER.finditer(text)]
        counts = Counter(digits for digits, _ in found)
        sides.append({digits: m for digits, m in found if counts[digits] == 1})
    both = [digits for digits in sides[0] if digits in sides[1]]
    if not both:
        return pair
    old = random.choice(both)
    new = old[0] + "".join(random.choices(string.digits, k=len(old) - 1))
    matches = (sides[0][old], sides[1][old])
    texts = []
    for match in matches:
        digits = iter(new)
        texts.append(re.sub(r"\d", lambda _, digits=digits: next(digits), match[0]))  # type: ignore[misc]
    return _substitute(pair, matches, (texts[0], texts[1]))


def _each_side(change: Callable[[str], str]) -> Callable[[Pair, Random], Pair]:
    return lambda pair, random: replace(pair, source=change(pair.source), target=change(pair.target))


_STRAIGHT = str.maketrans("\u2019\u2018“”«»\u2013—", '\'\'""""--')


def _curl(text: str) -> str:
    text = re.sub(r"(?<=\w)'", "\u2019", text)
    text = re.sub(r'(?<!\S)"(?=\S)', "“", text).replace('"', "”")
    return re.sub(r"(?<= )-(?= )", "\u2013", text)


def _restyle(pair: Pair, random: Random) -> Pair:
    straight, guillemets = random.random() < 0.5, random.random() < 0.3

    def change(text: str) -> str:
        if straight:
            return re.sub(r"« | »", '"', text).translate(_STRAIGHT)
        return _curl(text).replace("“", "« ").replace("”", " »") if guillemets else _curl(text)

    return _each_side(change)(pair, random)


def _drop_full_stop(pair: Pair, random: Random) -> Pair:
    if not (pair.source.endswith(".") and pair.target.endswith(".")):
        return pair
    return _each_side(lambda text: text.rstrip(". ") or text)(pair, random)


def _misspell(pair: Pair, random: Random) -> Pair:
    words = pair.source.split(" ")
    long = [i for i, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    for i in random.sample(long, min(len(long), random.randint(1, 2))):
        word, place = words[i], random.randrange(1, len(words[i]) - 1)
        letter, after = word[place], word[place + 1]
        middle = random.choice(
            (after + letter, after, letter * 2 + after, random.choice(string.ascii_lowercase) + after)
        )
        words[i] = word[:place] + middle + word[place + 2 :]
    return replace(pair, source=" ".join(words))


def _capitalise(text: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))


CHANGES: dict[str, Callable[[Pair, Random], Pair]] = {
    "fragments": _cut_out,
    "figures": _change_figures,
    "names": _rename,
    **{name: _inserting(make) for name, make in KINDS.items()},
    "tags": _mark_up,
    "quotes": _restyle,
    "unpunctuated": _drop_full_stop,
    "upper": _each_side(str.upper),
    "title": _each_side(_capitalise),
    "lower": _each_side(str.lower),
    "typos": _misspell,
}
