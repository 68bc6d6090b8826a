"""Scores of the shipped bundle's own translations: to the bit those that they have, in int8 and in fp32."""

from __future__ import annotations

import pytest

from serving.engine.request import ScoringRequest, TranslationRequest
from serving.messages import FinishReason, Options
from serving.opening import open_model
from serving.score_messages import ScorePair
from tests.shipped import shipped, tatoeba_test


@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize("beam", [1, 4])
async def test_own_hypotheses_have_their_scores(precision: str, beam: int) -> None:
    asked = tuple(tatoeba_test()[0][:80])
    model = open_model(shipped(), precision=precision).start()
    try:
        found = Options(beam_size=beam, n_best=beam, tokens=True, retry_repetition=False)
        result = await model.translator.translate(TranslationRequest(asked, found))
        hypotheses = [
            (text, hypothesis)
            for text, translation in zip(asked, result.translations, strict=True)
            if translation.parts == 1
            for hypothesis in translation.hypotheses
        ]
        pairs = tuple(
            ScorePair(
                text,
                tokens=tuple(token.text for token in hypothesis.tokens),
                unfinished=hypothesis.finish_reason is FinishReason.LENGTH,
            )
            for text, hypothesis in hypotheses
        )
        sources = TranslationRequest(tuple(pair.source for pair in pairs), Options(beam_size=beam, tokens=True))
        answers = await model.translator.score(ScoringRequest(pairs, sources))
    finally:
        model.close()
    assert len(hypotheses) > 60 * beam
    for (_, hypothesis), score in zip(hypotheses, answers.scores, strict=True):
        assert (score.score, score.tokens) == (hypothesis.score, hypothesis.tokens)
