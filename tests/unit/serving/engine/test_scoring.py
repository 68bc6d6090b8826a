"""Scores of given translations, over the toy model: those of the server's own hypotheses are theirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serving.engine.request import ScoringRequest, TranslationRequest
from serving.errors import InvalidRequest
from serving.messages import FinishReason, Options
from serving.score_messages import ScorePair, ScoreResult
from tests.unit.serving.engine.toy_engine import tokenizer
from tests.unit.serving.engine.toy_translator import LONG, TEXT, Served, served

TEXTS = (
    TEXT,
    "See https://a.example/b and {name} now.",
    " - WHERE IS THE TRAIN STATION?\n",
    "Where Is The Train Station Today",
    "The cat sat on the mat",
)


@pytest.fixture(scope="module")
def copy() -> Iterator[Served]:
    with served() as made:
        yield made


async def score(copy: Served, *pairs: ScorePair, **options: object) -> ScoreResult:
    chosen = Options(**{"beam_size": 1} | options)  # type: ignore[arg-type]
    sources = TranslationRequest(tuple(pair.source for pair in pairs), chosen, request_id="test")
    return await copy.translator.score(ScoringRequest(pairs, sources))


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
async def test_own_hypotheses_get_their_scores(copy: Served, length_penalty: float) -> None:
    options = {"length_penalty": length_penalty, "tokens": True}
    for text, translation in zip(TEXTS, copy.translate(*TEXTS, beam_size=4, n_best=4, **options), strict=True):
        assert len(translation.hypotheses) > 1
        pairs = [
            ScorePair(
                text,
                tokens=tuple(token.text for token in hypothesis.tokens),
                unfinished=hypothesis.finish_reason is FinishReason.LENGTH,
            )
            for hypothesis in translation.hypotheses
        ]
        result = await score(copy, *pairs, **options)
        for got, hypothesis in zip(result.scores, translation.hypotheses, strict=True):
            assert got.score == pytest.approx(hypothesis.score, abs=1e-4)
            assert got.mean_log_prob == pytest.approx(hypothesis.mean_log_prob, abs=1e-4)
            assert [token.text for token in got.tokens] == [token.text for token in hypothesis.tokens]
            for token, other in zip(got.tokens, hypothesis.tokens, strict=True):
                assert token.log_prob == pytest.approx(other.log_prob, abs=1e-4)


async def test_a_text_is_scored_as_the_model_would_have_made_it(copy: Served) -> None:
    for text in TEXTS:
        (best,) = copy.translate(text, beam_size=4)[0].hypotheses
        (got,) = (await score(copy, ScorePair(text, best.text), tokens=True)).scores
        assert [token.text for token in got.tokens] == [token.text for token in best.tokens]
        assert got.score == pytest.approx(best.score, abs=1e-4)


async def test_what_is_unfinished_is_scored_without_its_end(copy: Served) -> None:
    options = {"length_penalty": 0.0, "tokens": True}
    whole, beginning = (
        await score(copy, ScorePair(TEXT, TEXT), ScorePair(TEXT, TEXT, unfinished=True), **options)
    ).scores
    assert beginning.tokens == whole.tokens
    assert beginning.score == pytest.approx(sum(token.log_prob for token in beginning.tokens), abs=1e-4)
    assert whole.score < beginning.score


async def test_several_sentences_are_scored_as_one_and_blanks_not_at_all(copy: Served) -> None:
    two = "I drink milk. Where is it?"
    result = await score(copy, ScorePair(two, two), ScorePair(" \n", "x"), ScorePair(TEXT, ""))
    one, nothing, empty = result.scores
    assert one.score < 0
    assert (nothing.score, nothing.mean_log_prob, nothing.tokens) == (0.0, 0.0, ())
    assert empty.score < -3  # its end token alone
    assert result.target_tokens == tokenizer().count(two)


async def test_every_bad_field_is_named_at_once(copy: Served) -> None:
    pairs = (
        ScorePair(LONG, "a"),
        ScorePair(TEXT, "a", ("b",)),
        ScorePair(TEXT, tokens=("no such piece",)),
        ScorePair(TEXT, "a " * 200),
        ScorePair(TEXT, unfinished=True),
    )
    with pytest.raises(InvalidRequest) as refused:
        await score(copy, *pairs, length_penalty=-1.0)
    found = {violation.field: violation.description for violation in refused.value.violations}
    assert found.keys() == {
        "length_penalty",
        "pairs[0].source",
        "pairs[1].target",
        "pairs[2].target_tokens",
        "pairs[3].target",
        "pairs[4].target",
    }
    assert "no such piece" in found["pairs[2].target_tokens"]
    with pytest.raises(InvalidRequest, match="pairs: is empty"):
        await score(copy)
