"""Numbers with thousands separators: found as one language writes them, written as another does.

The conventions are those of the Unicode CLDR, for languages that models translate and for all their regions; a test
compares them with it. Babel, which has all of the CLDR, takes 36 MB for what is these few lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from serving.text.edits import Edit


@dataclass(frozen=True)
class Convention:
    """How a language writes large numbers, in European digits.

    Attributes:
        group: What it puts between groups of digits.
        decimal: What it puts before decimals.
        size: Digits of a group, but the last, which has three.
    """

    group: str
    decimal: str
    size: int = 3


_CONVENTIONS = {
    tag: convention
    for convention, tags in (
        (
            Convention(",", "."),
            "am ar az-arab az-cyrl cy en es-419 es-br es-bz es-cu es-do es-gt es-hn es-mx es-ni es-pa es-pe es-pr"
            " es-sv es-us fa fil fr-rw ga gd ha he ig ja km kn ko ku-arab mn ms mt my oc pa-arab sd si so st sw"
            " ta-my ta-sg th tn ug ur yo yue zh zu",
        ),
        (
            Convention(".", ","),
            "ar-dz ar-lb ar-ly ar-ma ar-mr ar-tn ast az bs ca da de el en-at en-be en-de en-dk en-es en-id en-it"
            " en-nl en-pl en-ro en-si es eu fo fr-lu fy hr id is it jv ku lb ln lo mk ms-arab-bn ms-bn ms-id nl ps"
            " pt ro rw sc sl sr su sw-cd tr uz-arab vi wo",
        ),
        (
            Convention("\u00a0", ","),
            "af be bg br cs en-cz en-ee en-fi en-hu en-lt en-lv en-no en-pt en-se en-sk en-ua en-za es-cr et fi"
            " fr-ca gl hu hy ka kk ky lt lv nb nn no pl pt-ao pt-ch pt-cv pt-gq pt-gw pt-lu pt-mo pt-mz pt-pt"
            " pt-st pt-tl ru sk sq sv tg tk tt uk uz",
        ),
        (Convention("\u202f", ","), "en-fr en-ge eo fr"),
        (Convention("\u00a0", "."), "kk-arab xh"),
        (Convention("'", "."), "de-ch de-li en-ch gsw it-ch"),
        (Convention("'", ","), "fr-ch"),
        (Convention(",", ".", size=2), "as bn en-in gu hi ml mr ne or pa ta te"),
    )
    for tag in tags.split()
}
# Different forms of one sign, which texts do not keep apart.
_FORMS = ("'\u2019", "\u00a0\u202f")
_GROUPED = re.compile(r"[0-9][.,'\u2019\u00a0\u202f][0-9]{3}")


def convention_of(language: str) -> Convention | None:
    """Return how a language writes numbers, or None if that is not known; ``language`` is a BCP-47 tag."""
    tag = language.lower()
    while tag and tag not in _CONVENTIONS:
        tag = tag.rpartition("-")[0]
    return _CONVENTIONS.get(tag)


def rewritten_numbers(text: str, source: str, target: str) -> list[Edit]:
    """Return the edits that write each number with thousands separators as the target language does.

    Args:
        text: Any text. Numbers of other forms in it are left alone, and so are those beside which a letter or a
            further separator makes them doubtful: dates, versions, addresses, lists without spaces.
        source: BCP-47 tag of its language.
        target: BCP-47 tag of the other language.

    Returns:
        The edits in order; none if the convention of either language is not known.
    """
    if not _GROUPED.search(text):
        return []
    ours, theirs = convention_of(source), convention_of(target)
    if ours is None or theirs is None:
        return []
    return [
        Edit(*match.span(), match.group() if ours == theirs else _written(match["whole"], match["decimals"], theirs))
        for match in _pattern(ours).finditer(text)
    ]


def _written(whole: str, decimals: str | None, convention: Convention) -> str:
    digits = re.sub(r"\D", "", whole)
    head, groups = digits[:-3], [digits[-3:]]
    while head:
        groups.append(head[-convention.size :])
        head = head[: -convention.size]
    return convention.group.join(reversed(groups)) + (convention.decimal + decimals if decimals else "")


@cache
def _pattern(convention: Convention) -> re.Pattern[str]:
    group = next((forms for forms in _FORMS if convention.group in forms), convention.group)
    return re.compile(
        r"(?<![\w.,])(?<![0-9]['\u2019\u00a0\u202f])"
        rf"(?P<whole>[1-9][0-9]{{0,{convention.size - 1}}}(?=(?P<group>[{group}]))"
        rf"(?:(?P=group)[0-9]{{{convention.size}}})*(?P=group)[0-9]{{3}})"
        rf"(?:{re.escape(convention.decimal)}(?P<decimals>[0-9]++))?+"
        r"(?![.,'\u2019\u00a0\u202f]?[0-9]|\w)"
    )
