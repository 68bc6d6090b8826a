"""Made-up things that a translation copies: placeholders, tags, URLs, addresses, emoji, foreign words, numbers.

All are drawn from ranges of Unicode and from patterns rather than from lists, so that a model learns to copy what it
has never seen, and every byte of the tokenizer gets its examples.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Callable
from random import Random

# One token each if the tokenizer has them as symbols of its own (`tokenizer.symbols`).
SLOTS = tuple(f"｟{number}｠" for number in range(10))

_SCRIPTS = (
    (0x00C0, 0x00FF), (0x0100, 0x017F), (0x0100, 0x017F), (0x0391, 0x03C9), (0x0410, 0x044F), (0x0410, 0x044F),
    (0x0531, 0x0587), (0x05D0, 0x05EA), (0x0621, 0x064A), (0x0905, 0x0939), (0x0E01, 0x0E30), (0x10D0, 0x10F0),
    (0x1EA0, 0x1EF9), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3),
)  # fmt: skip
_EMOJI = ((0x2600, 0x26FF), (0x2700, 0x27BF), (0x1F300, 0x1F64F), (0x1F300, 0x1F64F), (0x1F680, 0x1F6FF),
          (0x1F900, 0x1F9FF), (0x1FA70, 0x1FAFF))  # fmt: skip
_SYMBOLS = ((0x00A1, 0x00BF), (0x2010, 0x203A), (0x2070, 0x2089), (0x20A0, 0x20BF), (0x2100, 0x214F),
            (0x2190, 0x21FF), (0x2200, 0x22FF), (0x2500, 0x25FF))  # fmt: skip


def _blocks(ranges: tuple[tuple[int, int], ...], categories: str) -> list[list[str]]:
    """List the characters of each range whose Unicode category begins with one of these letters."""
    blocks = ([chr(code) for code in range(first, last + 1)] for first, last in ranges)
    return [[c for c in block if unicodedata.category(c)[0] in categories] for block in blocks]


_LETTERS, _PICTURES, _MARKS = _blocks(_SCRIPTS, "L"), _blocks(_EMOJI, "S"), _blocks(_SYMBOLS, "SPN")
_SKIN, _JOINER, _SELECTOR = [chr(code) for code in range(0x1F3FB, 0x1F400)], "\u200d", "\ufe0f"
_CONSONANTS, _VOWELS = "bcdfghjklmnpqrstvwxz", "aeiouyaeiou"


def latin_name(random: Random) -> str:
    """Make up a name that can be pronounced and is in no dictionary; some have a letter with a diacritic."""
    syllables = [random.choice(_CONSONANTS) + random.choice(_VOWELS) for _ in range(random.randint(2, 4))]
    letters = list("".join(syllables) + random.choice(["", "", *_CONSONANTS]))
    if random.random() < 0.3:
        letters[random.randrange(len(letters))] = random.choice(_LETTERS[random.choice((0, 1, 1))]).lower()
    return "".join(letters).capitalize()


def _foreign(random: Random) -> str:
    if random.random() < 0.3:
        return " ".join(latin_name(random) for _ in range(random.randint(1, 2)))
    letters = random.choice(_LETTERS)
    words = ("".join(random.choices(letters, k=random.randint(1, 7))) for _ in range(random.randint(1, 2)))
    return " ".join(words)


def _emoji(random: Random) -> str:
    def one() -> str:
        picture, kind = random.choice(random.choice(_PICTURES)), random.random()
        if kind < 0.15:
            return picture + _SELECTOR
        if kind < 0.25:
            return picture + random.choice(_SKIN)
        return picture + _JOINER + random.choice(random.choice(_PICTURES)) if kind < 0.35 else picture

    return "".join(one() for _ in range(random.choice((1, 1, 1, 2, 3))))


def _symbol(random: Random) -> str:
    mark = random.choice(random.choice(_MARKS) if random.random() < 0.6 else string.punctuation)
    return random.choice((mark, mark, mark * 2, f"{mark}{random.randint(1, 999)}", f"{random.randint(1, 999)}{mark}"))


def _word(random: Random) -> str:
    if random.random() < 0.3:
        return "".join(random.choices(string.ascii_lowercase + string.digits, k=random.randint(2, 8)))
    return latin_name(random).lower()


def _host(random: Random) -> str:
    top = random.choice(("com", "org", "net", "fr", "de", "ca", "io", "co.uk", "info", "eu"))
    return ".".join((*(_word(random) for _ in range(random.choice((1, 1, 2)))), top))


def _url(random: Random) -> str:
    host, path = _host(random), "/".join(_word(random) for _ in range(random.randint(0, 3)))
    start = random.choice(("https://", "https://", "http://", "https://www.", "www.", "ftp://"))
    query = random.choice(("", "", "", f"?{_word(random)}={_number(random)}", f"#{_word(random)}", ".html", "/"))
    return f"{start}{host}/{path}{query}" if path else f"{start}{host}"


def _address(random: Random) -> str:
    if random.random() < 0.2:
        return random.choice("@#") + _word(random)
    names = random.choice("._-").join(_word(random) for _ in range(random.randint(1, 2)))
    return f"{names}@{_host(random)}"


def _digits(random: Random, count: int) -> str:
    return "".join(random.choices(string.digits, k=count))


def _number(random: Random) -> str:
    def digits(*counts: int) -> list[str]:
        return [_digits(random, count) for count in counts]

    head = str(random.randint(1, 999))
    return random.choice(
        (
            lambda: str(random.randint(0, 10 ** random.randint(1, 9))),
            lambda: random.choice("+-") + head,
            lambda: head + random.choice((".", ",")) + _digits(random, random.randint(1, 4)),
            lambda: random.choice("-/.").join((*digits(2, 2), str(random.randint(1900, 2100)))),
            lambda: "-".join((str(random.randint(1900, 2100)), *digits(2, 2))),
            lambda: f"{random.randint(0, 23)}:{random.randint(0, 59):02}",
            lambda: random.choice(("+", "0", "")) + random.choice(" -.").join(digits(2, 2, 2, 2, 2)),
            lambda: f"({_digits(random, 3)}) {_digits(random, 3)}-{_digits(random, 4)}",
            lambda: ".".join(str(random.randint(0, 255)) for _ in range(random.choice((3, 4)))),
            lambda: head + random.choice(("%", " %", "°", " kg", " km", "x", "e")),
            lambda: random.choice(string.ascii_uppercase) + random.choice(("", "-")) + head,
        )
    )()


def _placeholder(random: Random) -> str:
    if random.random() < 0.6:
        return random.choice(SLOTS)
    name = _word(random)
    return random.choice((f"{{{name}}}", f"{{{{{name}}}}}", f"%{random.randint(1, 3)}$s", "%s", "%d", f"%({name})s",
                          f"${name}", f"${{{name}}}", f"__{name}__", f"[{name}]", f"{{{random.randint(0, 9)}}}",
                          name.upper() + "_" + _word(random).upper()))  # fmt: skip


def tag_pair(random: Random) -> tuple[str, str]:
    """Make up an opening tag and its end."""
    name = random.choice(("b", "i", "em", "strong", "a", "span", "code", "g", "x", "p", "h1", _word(random)))
    if random.random() < 0.15:
        return (mark := random.choice(("*", "**", "_", "`", "~~"))), mark
    attribute = random.choice(("", "", f' id="{random.randint(1, 99)}"', f' href="{_url(random)}"', f' class="{name}"'))
    return f"<{name}{attribute}>", f"</{name}>"


def _tag(random: Random) -> str:
    return random.choice((*tag_pair(random), "<br>", "<br/>", f"<x{random.randint(1, 9)}/>"))


KINDS: dict[str, Callable[[Random], str]] = {
    "placeholders": _placeholder,
    "tags": _tag,
    "urls": _url,
    "addresses": _address,
    "emoji": _emoji,
    "foreign": _foreign,
    "symbols": _symbol,
    "numbers": _number,
}
