"""Every option does what it says, and every bad one is refused with its limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from serving.engine.request import TranslationRequest
from serving.engine.validation import ServingLimits
from serving.errors import FieldViolation, InvalidRequest
from serving.messages import GlossaryEntry, LongInput, Options, Sampling
from tests.unit.serving.engine.toy_engine import manifest
from tests.unit.serving.engine.toy_translator import LONG, TEXT, Served, served, violations


@pytest.fixture(scope="module")
def copy() -> Iterator[Served]:
    with served() as made:
        yield made


def test_a_prefix_begins_its_own_translation(copy: Served) -> None:
    first, second = copy.translate(TEXT, TEXT, target_prefixes=("Le chat", ""))
    assert first.hypotheses[0].text.startswith("Le chat")
    assert second.hypotheses[0].text == TEXT


def test_a_prefix_belongs_to_the_first_part(copy: Served) -> None:
    (translation,) = copy.translate(LONG, target_prefixes=("Ein Hund",), long_input=LongInput.SPLIT)
    assert translation.hypotheses[0].text.count("Ein Hund") == 1
    assert translation.hypotheses[0].text.startswith("Ein Hund")


def test_sampling_without_a_beam_size_takes_one_row(copy: Served) -> None:
    before = len(copy.toy.steps)
    drawn = [copy.translate(TEXT, sampling=Sampling(temperature=9.0, seed=s))[0].hypotheses[0].text for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert {beam for _, beam in copy.toy.steps[before:]} == {1}


@pytest.mark.parametrize("beam", [None, 2])
def test_alternatives_that_differ_have_a_beam_each(beam: int | None) -> None:
    with served(limits=ServingLimits(max_beam_size=6)) as copy:
        options = {"n_best": 3, "beam_size": beam, "diversity_penalty": 2.0}
        short, long = copy.translate("Where is the cat?", LONG, **options)
        same, *others = (hypothesis.text for hypothesis in short.hypotheses)
        assert same == "Where is the cat?"
        assert len({same, *others}) == 3
        assert len(long.hypotheses) == 1
        assert {beam for _, beam in copy.toy.steps} == {6, 2}


@pytest.mark.parametrize(
    ("options", "searched"),
    [
        ({}, {2}),
        ({"beam_size": 1}, {1}),
        ({"glossary": (GlossaryEntry("cat", "chat"),)}, {2}),
        ({"diversity_penalty": 2.0, "n_best": 2}, {2}),
    ],
)
def test_nothing_wider_is_searched_than_the_caller_may_have(options: dict[str, Any], searched: set[int]) -> None:
    with served() as copy:
        copy.translator.translate_blocking(TranslationRequest(("The cat sat.",), Options(**options), max_beam=2))
        assert {beam for _, beam in copy.toy.steps} == searched


@pytest.mark.parametrize(
    ("options", "field", "limit"),
    [
        ({"beam_size": 3}, "options.beam_size", "from 1 to 2"),
        ({"diversity_penalty": 2.0, "n_best": 3}, "options.n_best", "from 1 to 2"),
        ({"diversity_penalty": 2.0, "n_best": 2, "beam_size": 2}, "options.n_best", "from 1 to 1"),
    ],
)
def test_a_request_for_more_than_the_caller_may_have_is_refused(
    copy: Served, options: dict[str, Any], field: str, limit: str
) -> None:
    request = TranslationRequest((TEXT,), Options(**options), max_beam=2)
    with pytest.raises(InvalidRequest) as refused:
        copy.translator.translate_blocking(request)
    (found,) = refused.value.violations
    assert found.field == field
    assert limit in found.description


def test_unset_options_are_the_models(copy: Served) -> None:
    before = len(copy.toy.steps)
    copy.translate(TEXT)
    assert {beam for _, beam in copy.toy.steps[before:]} == {manifest().defaults.beam_size}


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("options", "field", "limit"),
    [
        ({"beam_size": 0}, "options.beam_size", "from 1 to 16"),
        ({"beam_size": 17}, "options.beam_size", "from 1 to 16"),
        ({"beam_size": 4, "n_best": 5}, "options.n_best", "the beam size"),
        ({"n_best": 0}, "options.n_best", "from 1"),
        ({"n_best": 5, "beam_size": 4, "diversity_penalty": 1.0}, "options.n_best", "to 4, the beams of size 4"),
        ({"diversity_penalty": -1.0}, "options.diversity_penalty", "from 0 to 100"),
        (
            {"diversity_penalty": 1.0, "beam_size": 1, "sampling": Sampling()},
            "options.diversity_penalty",
            "leave one of them out",
        ),
        ({"length_penalty": NAN}, "options.length_penalty", "from 0 to 10"),
        ({"length_penalty": -INF}, "options.length_penalty", "from 0 to 10"),
        ({"length_penalty": -0.1}, "options.length_penalty", "from 0 to 10"),
        ({"min_length": -1}, "options.min_length", "from 0"),
        ({"min_length": 101}, "options.min_length", "100"),
        ({"min_length": 6, "max_length": 5}, "options.min_length", "options.max_length"),
        ({"max_length": 0}, "options.max_length", "from 1 to 100"),
        ({"max_length": 101}, "options.max_length", "from 1 to 100"),
        ({"no_repeat_ngram_size": -1}, "options.no_repeat_ngram_size", "from 0"),
        ({"repetition_penalty": 0.0}, "options.repetition_penalty", "above 0"),
        ({"repetition_penalty": INF}, "options.repetition_penalty", "at most 100"),
        ({"repetition_penalty": NAN}, "options.repetition_penalty", "nan"),
        ({"target_prefixes": ("a", "b")}, "options.target_prefixes", "2 entries for 1 texts"),
        ({"target_prefixes": ("cat " * 9,), "max_length": 3}, "options.target_prefixes[0]", "3 at most"),
        ({"target_prefixes": ("Katze " * 60,)}, "options.target_prefixes[0]", "100 at most"),
        ({"sampling": Sampling(temperature=0.0)}, "options.sampling.temperature", "above 0"),
        ({"sampling": Sampling(temperature=NAN)}, "options.sampling.temperature", "above 0"),
        ({"sampling": Sampling(top_k=-1)}, "options.sampling.top_k", "the vocabulary's size"),
        ({"sampling": Sampling(top_p=0.0)}, "options.sampling.top_p", "at most 1"),
        ({"sampling": Sampling(top_p=1.5)}, "options.sampling.top_p", "at most 1"),
        ({"sampling": Sampling(seed=2**63)}, "options.sampling.seed", "from"),
        ({"sampling": Sampling(), "beam_size": 2}, "options.beam_size", "sampling needs 1"),
    ],
)
def test_a_bad_option_is_named_with_its_limit(copy: Served, options: dict[str, object], field: str, limit: str) -> None:
    found = violations(copy, TEXT, **options)
    assert list(found) == [field]
    assert limit in found[field]


def test_every_bad_field_is_reported_at_once(copy: Served) -> None:
    found = violations(
        copy,
        TEXT,
        LONG,
        long_input=LongInput.REJECT,
        beam_size=99,
        n_best=77,
        length_penalty=NAN,
        max_length=0,
        min_length=-1,
        no_repeat_ngram_size=-1,
        repetition_penalty=-1.0,
        target_prefixes=("a",),
        priority=3,
        sampling=Sampling(temperature=-1, top_k=-1, top_p=2, seed=2**70),
    )
    assert sorted(found) == [
        "contents[1]",
        "options.beam_size",
        "options.length_penalty",
        "options.max_length",
        "options.min_length",
        "options.n_best",
        "options.no_repeat_ngram_size",
        "options.repetition_penalty",
        "options.sampling.seed",
        "options.sampling.temperature",
        "options.sampling.top_k",
        "options.sampling.top_p",
        "options.target_prefixes",
        "priority",
    ]


def test_all_that_is_wrong_with_a_request_is_one_error(copy: Served) -> None:
    request = TranslationRequest(
        (TEXT, LONG),
        Options(n_best=0, target_prefixes=("", "Katze " * 60), long_input=LongInput.REJECT),
        source_language="de",
        target_language="FR",
        served=("en to fr by toy/1", "de to en by other/2"),
        violations=(FieldViolation("long_input_policy", "is 77"),),
    )
    with pytest.raises(InvalidRequest) as refused:
        copy.translator.translate_blocking(request)
    found = {violation.field: violation.description for violation in refused.value.violations}
    assert list(found) == [
        "long_input_policy",
        "source_language",
        "options.n_best",
        "options.target_prefixes[1]",
        "contents[1]",
    ]
    assert found["source_language"] == (
        "is 'de', but toy/1 translates en to fr; served: en to fr by toy/1, de to en by other/2"
    )


@pytest.mark.parametrize(
    ("texts", "problem"),
    [((), "is empty"), ((LONG,) * 4, "has 4 texts, at most 3"), (("a" * 60,) * 2, "has 120 characters, at most 100")],
)
def test_no_texts_and_too_many_are_refused_unread(texts: tuple[str, ...], problem: str) -> None:
    with served(limits=ServingLimits(max_contents=3, max_characters=100)) as copy:
        found = violations(copy, *texts, beam_size=99)
    assert list(found) == ["contents", "options.beam_size"]
    assert problem in found["contents"]
