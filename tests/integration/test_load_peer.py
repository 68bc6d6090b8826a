"""The peer answers as this server does, from the same weights, over the same API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.service.sentences import sentences
from loadtests.service.services import ctranslate2, dragoman
from serving.client import CallError, InvalidRequest, LongInput, Options, Result, TranslationClient

MODELS = Path(__file__).parents[2] / "models"
TEXTS = sentences(None, None)[::2]


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TranslationClient]:
    log = tmp_path_factory.mktemp("peer") / "log"
    with (
        ctranslate2(MODELS, log, ["--compute-type", "float32"]) as service,
        TranslationClient(service.address) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TranslationClient]:
    log = tmp_path_factory.mktemp("ours") / "log"
    with dragoman(MODELS, log, ["--precision", "fp32"]) as service, TranslationClient(service.address) as client:
        yield client


def best(result: Result) -> list[str]:
    return [translation.text for translation in result.translations]


@pytest.mark.parametrize("beam", [1, 4])
def test_answers_are_equal(ours: TranslationClient, peer: TranslationClient, beam: int) -> None:
    options = Options(beam_size=beam, n_best=beam, long_input=LongInput.TRUNCATE)
    mine, theirs = ours.translate(TEXTS, options), peer.translate(TEXTS, options)
    assert (theirs.model, theirs.version, theirs.source_tokens) == (mine.model, mine.version, mine.source_tokens)
    assert best(theirs) == best(mine)
    for one, other in zip(mine.translations, theirs.translations, strict=True):
        assert other.score == pytest.approx(one.score, abs=1e-3)
        assert len(other.hypotheses) == beam
    assert theirs.target_tokens == mine.target_tokens
    assert theirs.compute_seconds > 0


def test_length_penalty_means_the_same(ours: TranslationClient, peer: TranslationClient) -> None:
    options = Options(beam_size=4, length_penalty=0.5)
    mine, theirs = ours.translate(TEXTS[:8], options), peer.translate(TEXTS[:8], options)
    assert best(theirs) == best(mine)
    scores = [translation.score for translation in mine.translations]
    assert [translation.score for translation in theirs.translations] == pytest.approx(scores, abs=1e-3)


def test_blank_texts_and_a_request_without_any(peer: TranslationClient) -> None:
    texts = best(peer.translate(["", "Good morning.", " "]))
    assert (texts[0], texts[2]) == ("", "")
    assert texts[1]
    assert peer.translate([]).translations == ()


def test_options_that_the_peer_lacks_are_refused(peer: TranslationClient) -> None:
    with pytest.raises(CallError, match="no_repeat_ngram_size") as failure:
        peer.translate(["Good morning."], Options(no_repeat_ngram_size=3))
    assert isinstance(failure.value, InvalidRequest)
