"""What an answer holds, over a real server and the real tokenizer, splitting and search; only the model is a toy."""

import math
from collections.abc import AsyncIterator

import pytest

from serving.pb import translation_service_pb2 as pb
from tests.integration.toy_server import Toy, request, serving


@pytest.fixture
async def toy() -> AsyncIterator[Toy]:
    async with serving() as toy:
        yield toy


async def test_answers_align_with_contents_and_count_their_tokens(toy: Toy) -> None:
    texts = ["one", "", "twenty-two", "3", " "]  # what has no letters is not for the model
    answer = await toy.stub.Translate(request(*texts))
    assert [translation.hypotheses[0].text for translation in answer.translations] == ["one", "", "twenty-two", "3", ""]
    assert (answer.model, answer.version) == ("toy", 1)
    assert answer.source_tokens == answer.target_tokens == len("one") + len("twenty-two")
    assert answer.queue_time.ToNanoseconds() >= 0
    assert answer.compute_time.ToNanoseconds() > 0


@pytest.mark.parametrize("beam_size", [1, 4])
async def test_scores_are_what_the_api_says_they_are(toy: Toy, beam_size: int) -> None:
    asked = request("abcdef", beam_size=beam_size, n_best=beam_size, length_penalty=0.7)
    asked.include_tokens = True
    hypotheses = (await toy.stub.Translate(asked)).translations[0].hypotheses
    assert len(hypotheses) == beam_size
    assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
    assert len({h.text for h in hypotheses}) == beam_size
    best = hypotheses[0]
    assert [token.text for token in best.tokens] == list("abcdef")
    assert best.finish_reason == pb.FINISH_REASON_EOS
    length = len(best.tokens) + 1  # the end token counts
    total = best.mean_log_prob * length
    assert best.score == pytest.approx(total / length**0.7, rel=1e-5)
    end = total - sum(token.log_prob for token in best.tokens)
    assert -1 < end < 0
    assert all(-1 < token.log_prob < 0 for token in best.tokens)


async def test_details_come_only_when_they_are_asked_for(toy: Toy) -> None:
    plain = (await toy.stub.Translate(request("ab cd"))).translations[0].hypotheses[0]
    assert not plain.tokens
    assert not plain.alignment
    asked = pb.TranslateRequest(contents=["ab  cd\n"], include_alignments=True)
    hypothesis = (await toy.stub.Translate(asked)).translations[0].hypotheses[0]
    links = [(a.source_start, a.source_end, a.target_start, a.target_end) for a in hypothesis.alignment]
    words = {("ab  cd\n"[a:b], hypothesis.text[c:d]) for a, b, c, d in links}
    assert words == {("ab", "ab"), ("cd", "cd")}


async def test_a_long_text_is_split_when_that_is_asked_for(toy: Toy) -> None:
    sentence = "This is a sentence of some forty letters."
    text = f"{sentence}  {sentence}\n\n{sentence}"
    answer = await toy.stub.Translate(
        pb.TranslateRequest(contents=[text, "short"], long_input_policy=pb.LONG_INPUT_POLICY_SPLIT)
    )
    long, short = answer.translations
    assert (long.hypotheses[0].text, long.parts, long.source_truncated) == (text, 3, False)
    assert (short.hypotheses[0].text, short.parts) == ("short", 1)


async def test_a_long_text_is_cut_and_flagged_when_that_is_asked_for(toy: Toy) -> None:
    answer = await toy.stub.Translate(
        pb.TranslateRequest(contents=["x" * 61, "x" * 60], long_input_policy=pb.LONG_INPUT_POLICY_TRUNCATE)
    )
    cut, whole = answer.translations
    assert (cut.hypotheses[0].text, cut.source_truncated) == ("x" * 60, True)
    assert (whole.hypotheses[0].text, whole.source_truncated) == ("x" * 60, False)


async def test_length_limits_bite_and_say_so(toy: Toy) -> None:
    hypothesis = (await toy.stub.Translate(request("abcdef", max_length=3))).translations[0].hypotheses[0]
    assert len(hypothesis.text) <= 3
    assert hypothesis.finish_reason == pb.FINISH_REASON_LENGTH
    hypothesis = (await toy.stub.Translate(request("ab", min_length=5, beam_size=1))).translations[0].hypotheses[0]
    assert len(hypothesis.text) >= 5


async def test_prefixes_belong_to_their_texts(toy: Toy) -> None:
    answer = await toy.stub.Translate(request("abc", "def", target_prefixes=["xy", ""]))
    first, second = (translation.hypotheses[0].text for translation in answer.translations)
    assert first.startswith("xy")
    assert second == "def"


async def test_sampling_repeats_with_its_seed_only(toy: Toy) -> None:
    async def sampled(seed: int | None) -> str:
        options = pb.SamplingOptions(temperature=20.0, seed=seed)
        answer = await toy.stub.Translate(request("a rather long text", sampling=options, beam_size=1))
        return answer.translations[0].hypotheses[0].text

    assert await sampled(7) == await sampled(7)
    assert len({await sampled(None) for _ in range(4)}) > 1


async def test_unset_options_take_the_models_defaults(toy: Toy) -> None:
    unset = (await toy.stub.Translate(request("abcdef"))).translations[0].hypotheses[0]
    defaults = request("abcdef", beam_size=2, length_penalty=0.5, n_best=1)
    assert (await toy.stub.Translate(defaults)).translations[0].hypotheses[0] == unset
    zero = request("abcdef", length_penalty=0.0)  # zero is a value, not unset
    score = (await toy.stub.Translate(zero)).translations[0].hypotheses[0].score
    assert score == pytest.approx(unset.score * math.sqrt(7), rel=1e-5)
