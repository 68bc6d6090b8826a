"""A model of several languages: which pair a request gets, and that pairs share batches without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from serving.bundle.bundle import load_bundle
from serving.bundle.manifest import Languages, LanguageTokens, Manifest
from serving.engine.request import TranslationRequest
from serving.engine.translator import Translator
from serving.errors import InvalidRequest
from serving.messages import Options, Result, TextDelta
from serving.opening import OpenModel, open_model
from tests.unit.serving.engine.toy_engine import manifest

BUNDLE = Path(__file__).parents[3] / "golden" / "format-3" / "several" / "1"
PAIRS = [(source, target) for source in ("en", "de", "fr") for target in ("en", "de", "fr")]
TEXTS = ("The cat sat on the mat.", "I drink milk.", "Where is it?")


@pytest.fixture(scope="module")
def opened() -> OpenModel:
    return open_model(load_bundle(BUNDLE), precision="fp32", device="cpu", threads=1)


@pytest.fixture(scope="module")
def several(opened: OpenModel) -> Iterator[Translator]:
    with closing(opened.start()) as model:
        yield model.translator


def ask(translator: Translator, source: str, target: str, text: str, **options: object) -> Result:
    chosen = Options(**{"tokens": True, "max_length": 12, "retry_repetition": False} | options)  # type: ignore[arg-type]
    asked = TranslationRequest((text,), chosen, source_language=source, target_language=target)
    return translator.translate_blocking(asked)


@pytest.mark.parametrize("beam", [1, 3])
def test_pairs_share_a_batch_and_no_answer_changes(several: Translator, beam: int) -> None:
    cases = [(*pair, text) for text in TEXTS for pair in PAIRS]
    alone = [ask(several, *case, beam_size=beam).translations for case in cases]
    with ThreadPoolExecutor(len(cases)) as pool:
        together = list(pool.map(lambda case: ask(several, *case, beam_size=beam).translations, cases))
    assert together == alone  # to the bit
    best = {case: answer[0].hypotheses[0] for case, answer in zip(cases, alone, strict=True)}
    for text in TEXTS:
        assert len({best[source, "de", text].score for source in ("en", "de", "fr")}) == 3
        assert len({best["en", target, text].score for target in ("en", "de", "fr")}) == 3


def test_the_language_s_token_is_no_part_of_an_answer(several: Translator) -> None:
    plain, limited = (ask(several, "en", "de", TEXTS[0], max_length=most, beam_size=1) for most in (12, 3))
    best = plain.translations[0].hypotheses[0]
    assert not any("__" in token.text for token in best.tokens)
    assert limited.translations[0].hypotheses[0].tokens == best.tokens[:3]
    assert limited.translations[0].hypotheses[0].text == best.text[: len(limited.translations[0].text)]
    begun = ask(several, "en", "de", TEXTS[0], target_prefixes=("milk",), beam_size=1).translations[0]
    assert begun.text.startswith("milk")
    assert begun.hypotheses[0].tokens[0].log_prob < 0.0  # what a caller forces is scored, what the language does is not


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("", "de", {"source_language": "is missing, and several/1 translates en, de, fr to en, de, fr; name one"}),
        ("en", "", {"target_language": "is missing"}),
        ("en", "it", {"target_language": "is 'it', but several/1 translates"}),
        ("", "it", {"source_language": "is missing", "target_language": "is 'it'"}),
    ],
)
def test_missing_and_unknown_languages(several: Translator, source: str, target: str, expected: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ask(several, source, target, "x")
    found = {violation.field: violation.description for violation in refused.value.violations}
    assert found.keys() == expected.keys()
    assert all(expected[field] in found[field] for field in found)


def test_tags_are_found_in_any_case_and_the_only_one_may_be_left_out() -> None:
    told = LanguageTokens(before_source=(7,), before_target=(8,))
    languages = Languages(sources={"en": LanguageTokens(before_source=(5,))}, targets={"pt-BR": told})
    pair = languages.pair("", "PT-br")
    assert pair is not None
    assert (pair.source, pair.target, pair.before_source, pair.before_target) == ("en", "pt-BR", (5, 7), (8,))
    assert languages.pair("pt", "") is None
    assert languages.longest == (2, 1)


def test_a_manifest_of_format_2_names_one_pair_and_tokens_lie_in_the_vocabulary() -> None:
    old = manifest()
    assert old.languages == Languages.between("en", "fr")
    content = old.model_dump() | {"format_version": 3}
    assert Manifest.model_validate(content).languages == old.languages
    content["languages"]["targets"]["fr"] = {"before_target": [old.vocabulary_size]}
    with pytest.raises(ValueError, match="a target language has the token"):
        Manifest.model_validate(content)
    many = Languages.model_validate({"sources": {f"aa-{n}": {} for n in range(80)}, "targets": {"en": {}}})
    assert many.in_words.endswith("aa-59 and 20 more to en")


@pytest.mark.parametrize("beam", [1, 3])
async def test_a_stream_s_deltas_are_the_answer(several: Translator, beam: int) -> None:
    options = Options(beam_size=beam, max_length=12, retry_repetition=False)
    asked = TranslationRequest((TEXTS[0],), options, source_language="fr", target_language="de")
    events = [event async for event in several.stream(asked)]
    text = several.translate_blocking(asked).translations[0].text
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == text
