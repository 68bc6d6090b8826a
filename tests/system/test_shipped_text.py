"""Real text through the shipped model: structure, protected spans and what is not language come back as they were."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing

import pytest

from serving.engine.request import TranslationRequest
from serving.engine.translator import Translator
from serving.messages import Options, QualityFlag, Translation
from serving.opening import open_model
from tests.system.shipped import shipped
from tests.system.texts import TEXTS

_STRUCTURE = re.compile(r"\s{2,}|[^\S ]|^ | $")  # white space other than a space between words
_SURE = 0.995  # share of protected spans that are there exactly once


@pytest.fixture(scope="module")
def translator() -> Iterator[Translator]:
    with closing(open_model(shipped(), device="cpu").start()) as model:
        yield model.translator


@pytest.fixture(scope="module")
def answers(translator: Translator) -> dict[str, Translation]:
    texts = [text for texts in TEXTS.values() for text in texts]
    result = translator.translate_blocking(TranslationRequest(tuple(map(plain, texts)), Options(alignments=True)))
    return dict(zip(texts, result.translations, strict=True))


def plain(marked: str) -> str:
    return re.sub("[⟦⟧]", "", marked)


def protected(marked: str) -> list[str]:
    return re.findall("⟦(.*?)⟧", marked, re.DOTALL)


@pytest.mark.parametrize("kind", TEXTS)
def test_structure_comes_back(answers: dict[str, Translation], kind: str) -> None:
    for marked in TEXTS[kind]:
        text, answer = plain(marked), answers[marked].text
        assert _STRUCTURE.findall(answer) == _STRUCTURE.findall(text), (text, answer)
        assert not answers[marked].source_truncated


def test_protected_spans_come_back_exactly_once(answers: dict[str, Translation]) -> None:
    right, wrong = 0, []
    for marked, translation in answers.items():
        answer = translation.text
        for span in protected(marked):
            if answer.count(span) == plain(marked).count(span):
                right += 1
            else:
                wrong.append((span, answer))
    assert right >= _SURE * (right + len(wrong)), wrong


def test_few_spans_have_to_be_appended(answers: dict[str, Translation]) -> None:
    appended = [marked for marked, answer in answers.items() if QualityFlag.SPAN_APPENDED in answer.flags]
    assert len(appended) <= 0.02 * len(answers), [answers[marked].text for marked in appended]


def test_what_is_no_language_comes_back_as_it_is(answers: dict[str, Translation]) -> None:
    for kind in ("not language", "lists"):
        for marked in TEXTS[kind]:
            lines = zip(marked.splitlines(), answers[marked].text.splitlines(), strict=True)
            for marked_line, line in lines:
                head, mark, tail = marked_line.rpartition("⟧")
                assert line.startswith(plain(head))
                assert not mark or bool(tail) == (line != plain(head))


def test_capitals_stay_capitals(answers: dict[str, Translation]) -> None:
    for marked in TEXTS["capitals"]:
        answer = answers[marked].text
        for span in protected(marked):
            answer = answer.replace(span, "")
        assert answer.isupper()
        assert answers[marked].text != plain(marked)


def test_alignments_refer_to_the_texts(answers: dict[str, Translation]) -> None:
    for marked, translation in answers.items():
        text, answer = plain(marked), translation.text
        for link in translation.hypotheses[0].alignment:
            source = text[link.source_start : link.source_end]
            target = answer[link.target_start : link.target_end]
            assert source == source.strip() != ""
            assert target == target.strip() != ""
    marked = "Write to ⟦jane.doe@example.com⟧ before Friday."
    pairs = {
        (plain(marked)[one.source_start : one.source_end], answers[marked].text[one.target_start : one.target_end])
        for one in answers[marked].hypotheses[0].alignment
    }
    assert ("jane.doe@example.com", "jane.doe@example.com") in pairs
