"""A translation that repeats itself is tried once more, under constraints."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serving.engine.request import TranslationRequest
from serving.engine.translator import Translator
from serving.messages import Options, QualityFlag, Result, TextDelta, Translation
from serving.text.quality import loop_start
from tests.toy_runner import ToyModel
from tests.unit.serving.engine.toy_engine import IDS, Toy, manifest, tokenizer, toy_engine

LOOPS, FINE = "Where is the mat?", "Where is the station?"


@pytest.fixture(scope="module")
def toy() -> Iterator[Toy]:
    loop_token = (set(tokenizer().encode_prefix(LOOPS)) - set(tokenizer().encode_prefix(FINE))).pop()
    with toy_engine(ToyModel(manifest().vocabulary_size, IDS, peak=12.0, loop_token=loop_token)) as made:
        yield made


def ask(toy: Toy, *texts: str, **options: object) -> tuple[Translation, ...]:
    translator = Translator(manifest(), tokenizer(), toy.engine)
    try:
        chosen = Options(**options)  # type: ignore[arg-type]
        return translator.translate_blocking(TranslationRequest(texts, chosen)).translations
    finally:
        translator.close()


@pytest.mark.parametrize("beam", [1, 4])
def test_what_repeats_itself_is_tried_again(toy: Toy, beam: int) -> None:
    first, fine = ask(toy, LOOPS, FINE, beam_size=beam, retry_repetition=False)
    assert QualityFlag.REPETITION in first.flags
    again, same = ask(toy, LOOPS, FINE, beam_size=beam)
    assert QualityFlag.RETRIED in again.flags
    assert QualityFlag.REPETITION not in again.flags
    assert again.text != first.text
    assert fine == same


def test_a_text_that_repeats_itself_is_left_alone(toy: Toy) -> None:
    (translation,) = ask(toy, "mat " * 6)
    assert QualityFlag.REPETITION in translation.flags
    assert QualityFlag.RETRIED not in translation.flags


async def test_it_works_on_an_event_loop(toy: Toy) -> None:
    translator = Translator(manifest(), tokenizer(), toy.engine)
    try:
        result = await translator.translate(TranslationRequest((LOOPS,)))
    finally:
        translator.close()
    assert QualityFlag.RETRIED in result.translations[0].flags


@pytest.mark.parametrize("beam", [1, 4])
async def test_a_stream_goes_on_with_the_second_try(toy: Toy, beam: int) -> None:
    options = Options(beam_size=beam, n_best=beam)
    translator = Translator(manifest(), tokenizer(), toy.engine)
    try:
        request = TranslationRequest((f"{FINE} {LOOPS} {FINE}", LOOPS), options)
        unary = await translator.translate(request)
        events = [event async for event in translator.stream(request)]
    finally:
        translator.close()
    deltas, (result,) = events[:-1], events[-1:]
    assert isinstance(result, Result)
    assert result.translations == unary.translations
    for index, translation in enumerate(unary.translations):
        assert QualityFlag.RETRIED in translation.flags
        told = [delta.text for delta in deltas if isinstance(delta, TextDelta) and delta.index == index]
        assert "".join(told) == translation.text


def test_what_comes_before_the_repetition_is_kept(toy: Toy) -> None:
    (first,) = ask(toy, LOOPS, retry_repetition=False, tokens=True)
    (again,) = ask(toy, LOOPS, tokens=True)
    spelt = [[token.text for token in one.hypotheses[0].tokens] for one in (first, again)]
    start = loop_start([hash(token) for token in spelt[0]])
    assert start
    assert spelt[1][:start] == spelt[0][:start]
    assert spelt[1] != spelt[0]
