"""Streams of the shipped bundle: told piece by piece, the answers are those of a unary call, to the byte."""

from __future__ import annotations

import asyncio

import pytest

from serving.engine.request import TranslationRequest
from serving.messages import Options, TextDelta
from serving.opening import open_model
from tests.shipped import shipped, tatoeba_test
from tests.system.texts import TEXTS

AT_ONCE = 16
_MARKS = dict.fromkeys(map(ord, "⟦⟧"))


@pytest.mark.parametrize("beam", [1, 4])
async def test_deltas_together_are_the_answers(beam: int) -> None:
    asked = tuple(tatoeba_test()[0][:120]) + tuple(texts[0].translate(_MARKS) for texts in TEXTS.values())
    model = open_model(shipped()).start()
    options, turns = Options(beam_size=beam), asyncio.Semaphore(AT_ONCE)

    async def told(text: str) -> str:
        async with turns:
            events = [event async for event in model.translator.stream(TranslationRequest((text,), options))]
        return "".join(event.text for event in events if isinstance(event, TextDelta))

    try:
        answers = await model.translator.translate(TranslationRequest(asked, options))
        streamed = await asyncio.gather(*map(told, asked))
    finally:
        model.close()
    assert streamed == [translation.text for translation in answers.translations]
