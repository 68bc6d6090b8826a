"""Languages of a model under the tags that callers use, and the choice of some of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from langcodes import Language, standardize_tag
from langcodes.tag_parser import LanguageTagError

from export.errors import ExportError, ReadingError
from serving.bundle.manifest import LANGUAGE_TAG, Languages, LanguageTokens

_UNTOLD = LanguageTokens()
_SHORTEST = 2  # letters


def tag(code: str, *, region: bool = True) -> str:
    """Return a model's own code, such as ``eng_Latn``, ``fra`` or ``pt_BR``, as a BCP-47 tag.

    Codes are the shortest there are and scripts only where they are not the usual one: ``en``, ``fr``, ``pt-BR``. A
    code that no registry has stays as it is.

    Args:
        code: The code.
        region: Whether regions say something; else they are left out.

    Raises:
        ReadingError: The code cannot be a tag.
    """
    own = code.replace("_", "-")
    if not region:
        own = own.partition("-")[0]
    try:
        known = _shortest(own)
    except LanguageTagError:
        known = own
    if not re.fullmatch(LANGUAGE_TAG, known):
        raise ReadingError([f"its language {code!r} is not a language tag"])
    return known


def _shortest(code: str) -> str:
    if len(code) == _SHORTEST:  # some of them have a newer name, which callers do not know
        return code
    found = Language.get(standardize_tag(code, macro=True))
    implied = Language.get(str(found.language)).maximize().script
    script = None if found.script == implied else found.script
    return Language.make(found.language, found.extlangs, script, found.territory, found.variants).to_tag()


def by_tag(tokens: Mapping[str, LanguageTokens], *, region: bool = True) -> dict[str, LanguageTokens]:
    """Return the tokens of codes by tags; of codes with the same tag, those of the first."""
    found: dict[str, LanguageTokens] = {}
    for code, own in tokens.items():
        found.setdefault(tag(code, region=region), own)
    return found


def chosen(own: Languages | None, sources: Iterable[str], targets: Iterable[str]) -> Languages:
    """Take some of a model's languages; where it need not be told them, they may have other names.

    Raises:
        ExportError: A tag is none, or the model has no such language.
    """
    return Languages(
        sources=_chosen(own.sources if own else {}, sources), targets=_chosen(own.targets if own else {}, targets)
    )


def _chosen(own: Mapping[str, LanguageTokens], tags: Iterable[str]) -> dict[str, LanguageTokens]:
    told = any(tokens != _UNTOLD for tokens in own.values())
    known = {name.lower(): (name, tokens) for name, tokens in own.items()}
    found = {}
    for one in tags:
        if not re.fullmatch(LANGUAGE_TAG, one):
            raise ExportError(f"{one!r} is not a language tag such as en or pt-BR: give others with --languages")
        if told and one.lower() not in known:
            raise ExportError(f"the model has no language {one!r}: give some of {', '.join(own)} with --languages")
        name, tokens = known[one.lower()] if told else (one, _UNTOLD)
        found[name] = tokens
    return found
