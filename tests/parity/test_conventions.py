"""Serving's search against the slow reference, over a model made of hashes: rules of stopping and conventions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from export.precisions import PrecisionName
from serving.bundle.manifest import SearchConventions
from serving.decoding.options import DecodingOptions
from serving.decoding.terms import Terms, WordBorders
from serving.engine.submission import Sentence
from serving.messages import EarlyStopping, FinishReason
from serving.opening import offline_engine
from tests.parity.models import NOT_OF_REFERENCE, build, open_exported
from tests.parity.test_shortlist import WHOLE
from tests.unit.serving.decoding.test_beam import EOS, PAD, START, VOCABULARY, log_probs, run
from tests.unit.serving.decoding.test_term_search import contains, terms
from training import decode
from training.models.contract import TranslationModel, Vocabulary


@dataclass(frozen=True)
class Histories:
    source: int
    tokens: tuple[tuple[int, ...], ...]

    def select(self, rows: Tensor) -> Self:
        return replace(self, tokens=tuple(self.tokens[i] for i in rows.tolist()))


class HashModel(TranslationModel[Histories]):
    """What ``HashGrid`` computes, as a model; its one source token is the number of the source."""

    def __init__(self) -> None:
        super().__init__()
        self.vocabulary = Vocabulary(10**6, VOCABULARY, pad=PAD, eos=EOS, decoder_start=START, banned=(PAD, START))

    def hidden(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def project_vocab(self, hidden: Tensor) -> Tensor:
        raise NotImplementedError

    def attention(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def encode(self, source: Tensor, lengths: Tensor) -> Histories:
        return Histories(int(source[0, 0]), ((),))

    def decode_step(self, tokens: Tensor, state: Histories) -> tuple[Tensor, Histories]:
        grown = tuple((*read, token) for read, token in zip(state.tokens, tokens.tolist(), strict=True))
        rows = np.stack([log_probs(state.source, read[1:]) for read in grown])
        rows[:, PAD] = np.log1p(
            -np.exp(rows).sum(axis=1)
        )  # what is lost to suppressed tokens, so that softmax keeps all
        return torch.from_numpy(rows), replace(state, tokens=grown)


def reference(source: int, options: DecodingOptions) -> list[decode.ReferenceHypothesis]:
    wanted: dict[str, Any] = {k: v for k, v in asdict(options).items() if k not in NOT_OF_REFERENCE}
    return decode.translate(HashModel(), [[source]], decode.DecodeOptions(**wanted, **dict(options.search)))[0]


def check(jobs: list[tuple[int, DecodingOptions]], slots: int, seed: int = 0) -> None:
    answers = run(jobs, slots, seed)
    for number, (source, options) in enumerate(jobs):
        expected, found = reference(source, options), answers[number]
        assert [h.tokens for h in found] == [h.tokens for h in expected], (source, options)
        assert [h.finish_reason is FinishReason.EOS for h in found] == [h.finished for h in expected]
        np.testing.assert_allclose([h.score for h in found], [h.score for h in expected], rtol=1e-4)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours.log_probs, theirs.log_probs, atol=1e-4)


conventions = st.builds(
    SearchConventions,
    ends_at_limit=st.booleans(),
    ranked_at_limit=st.booleans(),
    prefix_scored=st.booleans(),
    prefix_counted=st.booleans(),
    end_after_prefix=st.sampled_from(["any", "best", "costly"]),
    beam_shrinks=st.booleans(),
)
options_of_beam = {
    beam: st.builds(
        DecodingOptions,
        max_length=st.integers(1, 20),
        beam_size=st.just(beam),
        n_best=st.integers(1, beam),
        length_penalty=st.sampled_from([0.0, 0.6, 1.0, 1.4]),
        min_length=st.integers(0, 4),
        no_repeat_ngram_size=st.sampled_from([0, 0, 1, 2]),
        early_stopping=st.sampled_from(EarlyStopping),
        prefix=st.lists(st.integers(4, VOCABULARY - 1), max_size=3).map(tuple),
        start=st.lists(st.integers(4, VOCABULARY - 1), max_size=2).map(tuple),
        search=conventions,
    ).filter(lambda o: len(o.prefix) <= o.max_length)
    for beam in (1, 2, 4)
}


@settings(max_examples=20, deadline=None)
@given(data=st.data(), beam=st.sampled_from([1, 2, 4]), seed=st.integers(0, 99))
def test_every_rule_and_convention_is_per_sentence(data: st.DataObject, beam: int, seed: int) -> None:
    wanted = data.draw(st.lists(options_of_beam[beam], min_size=1, max_size=6))
    first = data.draw(st.integers(0, 10**4))
    check([(first + i, options) for i, options in enumerate(wanted)], slots=3, seed=seed)


PLAIN = DecodingOptions(max_length=12, beam_size=4, n_best=4)
OTHERS: dict[str, dict[str, Any]] = {
    "best": {"early_stopping": EarlyStopping.BEST, "n_best": 1},
    "heuristic": {"early_stopping": EarlyStopping.HEURISTIC},
    "never": {"early_stopping": EarlyStopping.NEVER, "length_penalty": 1.4},
    "end only as the best after a prefix": {"search": SearchConventions(end_after_prefix="best"), "prefix": (5, 7)},
    "end costly after a prefix": {"search": SearchConventions(end_after_prefix="costly"), "prefix": (5, 7)},
    **{
        name: {
            "search": SearchConventions.model_validate({name: not value}),
            "prefix": (5, 7) if "prefix" in name else (),
        }
        for name, value in dict(SearchConventions()).items()
        if isinstance(value, bool) and name != "renormalize"
    },
}


@pytest.mark.parametrize("name", OTHERS)
def test_each_makes_a_difference_and_equals_the_reference(name: str) -> None:
    options = replace(PLAIN, **OTHERS[name])
    jobs = [(source, replace(options, max_length=6 if "limit" in name else 12)) for source in range(25)]
    check(jobs, slots=9)
    plain = [(source, replace(o, early_stopping=EarlyStopping.ON, search=SearchConventions())) for source, o in jobs]
    answers, ordinary = run(jobs, 9), run(plain, 9)
    assert answers != ordinary


def test_what_ends_at_the_limit_is_said_to_be_cut() -> None:
    options = replace(PLAIN, max_length=2, search=SearchConventions(ends_at_limit=True))
    answers = [hypothesis for found in run([(s, options) for s in range(20)], 5).values() for hypothesis in found]
    cut = [hypothesis for hypothesis in answers if hypothesis.finish_reason is FinishReason.LENGTH]
    assert cut
    assert {len(hypothesis.tokens) for hypothesis in cut} == {1}
    assert all(len(hypothesis.log_probs) == len(hypothesis.tokens) for hypothesis in cut)


@pytest.mark.parametrize("precision", ["fp32", "fp32-shortlist"])
def test_ruled_out_tokens_leave_the_others_more_likely(precision: PrecisionName, tmp_path: Path) -> None:
    """Whether or not others in the batch have anything ruled out."""
    model = build("transformer-pre-norm")
    shortlist = WHOLE if "shortlist" in precision else None
    runner = open_exported(model, tmp_path, precision, shortlist=shortlist, renormalize=True)
    rng = np.random.default_rng(3)
    options = [
        DecodingOptions(max_length=14, beam_size=3, n_best=3, no_repeat_ngram_size=n % 3, min_length=n % 5)
        for n in range(24)
    ]
    sources = [rng.integers(4, 40, size=rng.integers(1, 12)).tolist() for _ in options]
    with offline_engine(runner) as engine:
        jobs = [Sentence(np.array([*ids, 3]), wanted) for ids, wanted in zip(sources, options, strict=True)]
        together = engine.submit(jobs).future.result()
        alone = [engine.submit([job]).future.result()[0] for job in jobs]
    for ids, wanted, answer, own in zip(sources, options, together, alone, strict=True):
        kept = {k: v for k, v in asdict(wanted).items() if k not in NOT_OF_REFERENCE}
        expected = decode.translate(model, [ids], decode.DecodeOptions(**kept, renormalize=True))[0]
        assert [h.tokens for h in answer.hypotheses] == [h.tokens for h in expected]
        assert [h.score for h in answer.hypotheses] == pytest.approx([h.score for h in expected], abs=1e-4)
        assert answer.hypotheses == own.hypotheses


def test_terms_are_no_matter_of_conventions() -> None:
    plain = replace(PLAIN, max_length=9, enough=1, terms=terms([(4, 9)]))
    others = SearchConventions(
        ends_at_limit=True, ranked_at_limit=True, end_after_prefix="costly", beam_shrinks=True, renormalize=True
    )
    wanted = replace(plain, early_stopping=EarlyStopping.NEVER, search=others)
    assert run([(s, wanted) for s in range(12)], 5) == run([(s, plain) for s in range(12)], 5)


def test_a_term_is_not_among_the_tokens_that_are_ruled_out(tmp_path: Path) -> None:
    runner = open_exported(build("transformer-pre-norm"), tmp_path, "fp32", renormalize=True)
    nowhere = np.zeros(40, dtype=bool)
    wanted = DecodingOptions(
        max_length=14, beam_size=4, enough=1, terms=Terms.of([[(9, 10)]], [1], WordBorders(nowhere, nowhere))
    )
    with offline_engine(runner) as engine:
        jobs = [Sentence(np.array([number, 12, 3]), wanted) for number in range(4, 10)]
        answers = [decoded.hypotheses[0] for decoded in engine.submit(jobs).future.result()]
    assert all(contains(answer.tokens, (9, 10)) for answer in answers)
    assert all(-64 < log_prob <= 0 for answer in answers for log_prob in answer.log_probs)
