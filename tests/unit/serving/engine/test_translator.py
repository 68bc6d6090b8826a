"""Text in, text out over the toy model, which copies; every option, every length, every way to fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engine.observer import Outcome
from serving.engine.preprocessing import default_max_length
from serving.engine.request import TranslationRequest
from serving.engine.validation import ServingLimits
from serving.errors import DeadlineExceeded, EngineFailure, Overloaded, Unavailable
from serving.messages import FinishReason, LongInput, Options, Segmentation
from tests.unit.serving.engine.toy_engine import PATIENCE, Gate, tokenizer
from tests.unit.serving.engine.toy_translator import LONG, TEXT, Served, served, violations


@pytest.fixture(scope="module")
def copy() -> Iterator[Served]:
    with served() as made:
        yield made


# Answers.


@pytest.mark.parametrize("beam", [1, 4])
def test_translations_belong_to_their_texts(copy: Served, beam: int) -> None:
    texts = ["I drink milk.", TEXT, "Where is the train station?"]
    translations = copy.translate(*texts, beam_size=beam)
    assert [translation.hypotheses[0].text for translation in translations] == texts
    assert all(translation.parts == 1 and not translation.source_truncated for translation in translations)


def test_an_answer_carries_score_tokens_and_counts(copy: Served) -> None:
    result = copy.ask(TEXT, beam_size=2, length_penalty=0.5)
    (hypothesis,) = result.translations[0].hypotheses
    size = tokenizer().count(TEXT)
    assert "".join(token.text for token in hypothesis.tokens).replace("\u2581", " ").strip() == TEXT
    assert len(hypothesis.tokens) == size
    total = hypothesis.mean_log_prob * (size + 1)
    assert hypothesis.score == pytest.approx(total / (size + 1) ** 0.5)
    assert hypothesis.finish_reason is FinishReason.EOS
    assert result.source_tokens == result.target_tokens == size
    assert result.queue_seconds >= 0
    assert result.compute_seconds >= 0


def test_n_best_hypotheses_best_first(copy: Served) -> None:
    (translation,) = copy.translate(TEXT, beam_size=4, n_best=3)
    scores = [hypothesis.score for hypothesis in translation.hypotheses]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert translation.hypotheses[0].text == TEXT


@pytest.mark.parametrize("blank", ["", " ", "\n\t\u3000", "\u200b"])
def test_a_blank_text_gives_an_empty_one_without_work(copy: Served, blank: str) -> None:
    before = len(copy.toy.steps)
    result = copy.ask(blank)
    (translation,) = result.translations
    assert [hypothesis.text for hypothesis in translation.hypotheses] == [""]
    assert translation.parts == result.source_tokens == result.target_tokens == 0
    assert len(copy.toy.steps) == before


def test_blank_and_other_texts_together(copy: Served) -> None:
    assert [t.hypotheses[0].text for t in copy.translate("", TEXT, " ", "I drink milk.")] == [
        "",
        TEXT,
        "",
        "I drink milk.",
    ]


@pytest.mark.parametrize("reverse", [False, True])
def test_alignments_point_into_the_texts(reverse: bool) -> None:
    with served(reverse=reverse) as copy:
        text = "  The cat  sat."
        (translation,) = copy.translate(text, alignments=True, segmentation=Segmentation.NONE)
        (hypothesis,) = translation.hypotheses
        assert hypothesis.text == "The cat sat."
        found = [
            (
                "  The cat  sat."[link.source_start : link.source_end],
                hypothesis.text[link.target_start : link.target_end],
            )
            for link in hypothesis.alignment
        ]
        assert found == [("The", "The"), ("cat", "cat"), ("sat", "sat"), (".", ".")]
        assert copy.translate(TEXT)[0].hypotheses[0].alignment == ()


# Length.


def test_a_text_too_long_is_refused_with_limit_and_remedy(copy: Served) -> None:
    found = violations(copy, TEXT, LONG, TEXT, LONG, long_input=LongInput.REJECT)
    assert list(found) == ["contents[1]", "contents[3]"]
    assert str(tokenizer().count(LONG)) in found["contents[1]"]
    assert "30" in found["contents[1]"]
    assert "SPLIT or TRUNCATE" in found["contents[1]"]


def test_a_text_too_long_is_truncated_and_flagged(copy: Served) -> None:
    short, cut = copy.translate(TEXT, LONG, long_input=LongInput.TRUNCATE)
    assert not short.source_truncated
    assert cut.source_truncated
    assert cut.parts == 1
    assert LONG.startswith(cut.hypotheses[0].text)
    assert len(cut.hypotheses[0].tokens) == 30


def test_a_text_too_long_is_split_and_joined_with_its_white_space(copy: Served) -> None:
    (translation,) = copy.translate(LONG, long_input=LongInput.SPLIT, beam_size=4, n_best=2, alignments=True)
    (hypothesis,) = translation.hypotheses
    assert hypothesis.text == LONG
    assert translation.parts > 3
    assert not translation.source_truncated
    assert all(
        LONG[link.source_start : link.source_end] == hypothesis.text[link.target_start : link.target_end]
        and link.source_start == link.target_start
        for link in hypothesis.alignment
    )
    assert len({link.source_start for link in hypothesis.alignment}) > 50
    log_probs = [token.log_prob for token in hypothesis.tokens]
    assert hypothesis.mean_log_prob < sum(log_probs) / (len(log_probs) + translation.parts) / 2


def test_a_short_text_is_not_split(copy: Served) -> None:
    text = "A cat. A dog."
    (translation,) = copy.translate(text, long_input=LongInput.SPLIT, beam_size=2, n_best=2)
    assert translation.parts == 1
    assert len(translation.hypotheses) == 2


def test_a_short_text_keeps_its_layout_when_split(copy: Served) -> None:
    text = "\n  Hello Anna.\n\nI will come.  Will you?\t\n"
    (translation,) = copy.translate(text, long_input=LongInput.SPLIT)
    assert translation.hypotheses[0].text == text


SENTENCE = st.sampled_from(
    ["The cat sat on the mat.", "Where?", "I drink milk.", "A man, a dog, a cat. " * 3, "Katze" * 20 + "."]
)
GAP = st.sampled_from([" ", "  ", "\n", " \n\n ", "\t"])


@given(st.lists(st.tuples(SENTENCE, GAP), max_size=8))
@settings(deadline=None, max_examples=20)
def test_texts_of_any_length_work_when_split(sentences: list[tuple[str, str]]) -> None:
    text = "".join(f"{sentence.strip()}{gap}" for sentence, gap in sentences)
    with served() as copy:
        (translation,) = copy.translate(text, long_input=LongInput.SPLIT, beam_size=1)
        (hypothesis,) = translation.hypotheses
        assert hypothesis.text == (text if text.strip() else "")


def test_a_text_of_too_many_parts_is_refused() -> None:
    with served(limits=ServingLimits(max_parts=3)) as copy:
        found = violations(copy, LONG, long_input=LongInput.SPLIT)
        assert "at most 3" in found["contents[0]"]


def test_the_length_limit_is_reported(copy: Served) -> None:
    (translation,) = copy.translate(TEXT, max_length=3)
    assert translation.hypotheses[0].finish_reason is FinishReason.LENGTH
    assert len(translation.hypotheses[0].tokens) == 3
    (translation,) = copy.translate(LONG, max_length=3, long_input=LongInput.SPLIT)
    assert translation.hypotheses[0].finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize(
    ("source", "minimum", "prefix", "expected"), [(10, 0, 0, 36), (10, 0, 4, 40), (10, 50, 0, 50), (90, 0, 0, 100)]
)
def test_the_default_length_limit_follows_the_source(source: int, minimum: int, prefix: int, expected: int) -> None:
    assert default_max_length(source, minimum, prefix, 100) == expected


def test_a_minimum_length_holds(copy: Served) -> None:
    (translation,) = copy.translate("A cat.", min_length=25)
    assert len(translation.hypotheses[0].tokens) >= 25


# The engine's side.


async def test_awaiting_gives_the_same_as_blocking(copy: Served) -> None:
    request = TranslationRequest((TEXT, LONG * 15), Options(long_input=LongInput.SPLIT))
    answers = await asyncio.gather(*(copy.translator.translate(request) for _ in range(3)))
    texts = [[t.hypotheses[0].text for t in answer.translations] for answer in answers]
    assert texts == [[TEXT, LONG * 15]] * 3


async def test_large_requests_are_tokenised_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()
    with served() as copy:
        encode = copy.translator._tokenizer.encode

        def recording(text: str, limit: int | None = None, before: Sequence[int] = ()) -> object:
            threads.add(threading.current_thread().name)
            return encode(text, limit, before)

        monkeypatch.setattr(copy.translator._tokenizer, "encode", recording)
        split = Options(long_input=LongInput.SPLIT)
        await copy.translator.translate(TranslationRequest((LONG * 15,), split))
        assert all(name.startswith("tokenizer") for name in threads)


async def test_cancelling_the_task_frees_the_slots() -> None:
    gate = Gate()
    with served(gate=gate) as copy:
        copy.toy.clock.real = True
        task = asyncio.create_task(copy.translator.translate(TranslationRequest((TEXT, "I drink milk."))))
        await asyncio.to_thread(gate.reached)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.open()
        assert await asyncio.to_thread(copy.toy.engine.join, PATIENCE)
        assert copy.toy.seen.counts[Outcome.CANCELLED] == 2
        assert copy.toy.seen.freed_after == [1, 1]
        assert len(copy.toy.steps) == 1


async def test_a_request_is_accepted_as_a_whole_or_not_at_all() -> None:
    gate = Gate()
    with served(gate=gate, rows=4, queue_sentences=2) as copy:
        running = asyncio.create_task(copy.translator.translate(TranslationRequest((TEXT,))))
        await asyncio.to_thread(gate.reached)
        waiting = asyncio.create_task(copy.translator.translate(TranslationRequest((TEXT,))))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await copy.translator.translate(TranslationRequest((TEXT, TEXT)))
        assert copy.toy.engine.snapshot().queue_depth == 1
        gate.open()
        await asyncio.gather(running, waiting)


async def test_a_failure_reaches_the_caller() -> None:
    def broken() -> None:
        raise RuntimeError("device lost")

    with served() as copy:
        copy.toy.runner.before_step = broken
        with pytest.raises(EngineFailure):
            await copy.translator.translate(TranslationRequest((TEXT, "I drink milk.")))


async def test_a_deadline_and_the_end_reach_the_caller() -> None:
    with served() as copy:
        with pytest.raises(DeadlineExceeded):
            await copy.translator.translate(TranslationRequest((TEXT,), deadline=copy.toy.clock.now - 1))
        copy.toy.engine.drain()
        with pytest.raises(Unavailable):
            await copy.translator.translate(TranslationRequest((TEXT,)))


def test_lengths_and_times_are_observed() -> None:
    with served() as copy:
        copy.translate(TEXT, "", "I drink milk.")
        assert copy.seen.lengths == [tokenizer().count(TEXT), tokenizer().count("I drink milk.")]
        assert copy.seen.counts["detokenized"] == 1
