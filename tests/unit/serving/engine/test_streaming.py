"""Translations told while they grow, over the toy model."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from serving.engine.observer import Outcome
from serving.engine.preprocessing import prepare
from serving.engine.request import TranslationRequest
from serving.engine.streaming import TranslationStream
from serving.engine.validation import ServingLimits
from serving.errors import DeadlineExceeded, EngineFailure, InvalidRequest
from serving.messages import MimeType, Options, Result, TextDelta
from tests.unit.serving.engine.toy_engine import PATIENCE, Gate, manifest, tokenizer
from tests.unit.serving.engine.toy_translator import LONG, TEXT, Served, served

TEXTS = (
    TEXT,
    LONG,
    " - Where is https://a.example/b?\n\n\t- I drink {x} and {x}. \n",
    "WHERE IS THE STATION? I drink milk.",
    "",
    "12 345",
    "L'eau est froide 👍 é ü.",
)


async def gathered(copy: Served, *texts: str, **options: object) -> tuple[list[TextDelta], Result]:
    request = TranslationRequest(texts, Options(**options))  # type: ignore[arg-type]
    events = [event async for event in copy.translator.stream(request)]
    deltas, results = events[:-1], events[-1:]
    assert all(isinstance(delta, TextDelta) and delta.text for delta in deltas)
    assert isinstance(results[0], Result)
    return [delta for delta in deltas if isinstance(delta, TextDelta)], results[0]


@pytest.mark.parametrize("options", [{"beam_size": 1}, {"beam_size": 4, "n_best": 3}])
async def test_deltas_together_are_the_answer(options: dict[str, object]) -> None:
    with served() as copy:
        deltas, result = await gathered(copy, *TEXTS, **options)
        unary = copy.ask(*TEXTS, tokens=False, **options)
    assert result.translations == unary.translations
    for index, translation in enumerate(unary.translations):
        assert "".join(delta.text for delta in deltas if delta.index == index) == translation.text


async def test_markup_is_told_part_by_part() -> None:
    text = "<p>The cat <b>sat</b>. <i>I drink</i> milk.</p>\n<p>Where is it?</p><hr>"
    with served() as copy:
        deltas, result = await gathered(copy, text, mime_type=MimeType.HTML)
    assert len(deltas) > 1
    assert "".join(delta.text for delta in deltas) == result.translations[0].text == text


async def test_a_token_is_told_before_the_next_is_computed() -> None:
    gate = Gate()
    with served(gate=gate) as copy:
        async with aclosing(copy.translator.stream(TranslationRequest((TEXT,), Options(beam_size=1)))) as events:
            following = asyncio.ensure_future(anext(events))
            for _ in range(3):
                await asyncio.to_thread(gate.reached)
                gate.let()
            first = await asyncio.wait_for(following, PATIENCE)
            assert isinstance(first, TextDelta)
            assert TEXT.startswith(first.text)
            await asyncio.to_thread(gate.reached)
            gate.open()
            rest = [event async for event in events]
    assert first.text + "".join(event.text for event in rest if isinstance(event, TextDelta)) == TEXT


async def test_whoever_stops_reading_frees_the_slots() -> None:
    gate = Gate()
    with served(gate=gate) as copy:
        async with aclosing(copy.translator.stream(TranslationRequest((TEXT,), Options(beam_size=1)))) as events:
            following = asyncio.ensure_future(anext(events))
            for _ in range(3):
                await asyncio.to_thread(gate.reached)
                gate.let()
            await following
            await asyncio.to_thread(gate.reached)  # before the stream is closed, which may spare the step
        gate.open()
        assert await asyncio.to_thread(copy.toy.engine.join, PATIENCE)
        assert copy.toy.seen.counts[Outcome.CANCELLED] == 1


def fault() -> None:
    raise ZeroDivisionError


async def test_errors_are_those_of_translate() -> None:
    with served() as copy:
        for options, deadline, error in (
            (Options(beam_size=0), None, InvalidRequest),
            (Options(), copy.toy.clock.now - 1, DeadlineExceeded),
        ):
            with pytest.raises(error):
                await anext(copy.translator.stream(TranslationRequest((TEXT,), options, deadline)))
        copy.toy.runner.before_step = fault
        with pytest.raises(EngineFailure):
            await anext(copy.translator.stream(TranslationRequest((TEXT,), Options())))


def test_an_answer_that_takes_something_back_is_a_fault() -> None:
    request = TranslationRequest((TEXT,), Options(beam_size=1))
    prepared = prepare(request, manifest(), tokenizer(), ServingLimits())
    stream = TranslationStream(prepared, tokenizer(), retries=True, on_change=lambda: None)
    stream.grew(0, [(token, 0) for token in tokenizer().encode_prefix("Le chat dort")])
    assert [delta.text for delta in stream.deltas()] == ["Le chat dor"]
    with served() as copy:
        result = copy.ask(TEXT)
    with pytest.raises(EngineFailure, match="does not begin"):
        list(stream.rest(result))
