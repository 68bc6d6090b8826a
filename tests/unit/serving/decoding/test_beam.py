"""Beam search against a slow, obvious search over a model made of hashes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.bundle.manifest import SpecialIds
from serving.decoding import slot_options
from serving.decoding.beam import BeamSearch
from serving.decoding.hypothesis import FinishedHypothesis
from serving.decoding.options import DecodingOptions
from serving.messages import FinishReason, Sampling
from serving.step import Candidates, StepPlan

VOCABULARY, PAD, START, EOS = 11, 0, 2, 3
IDS = SpecialIds(pad=PAD, unk=1, bos=START, eos=EOS, decoder_start=START)


def log_probs(source: int, history: tuple[int, ...]) -> NDArray[np.float32]:
    """A model: log-probabilities that depend on the whole history. Shape (vocab,)."""
    rng = np.random.default_rng([source, len(history), *history])
    logits = rng.normal(size=VOCABULARY).astype(np.float32) * 2
    logits[EOS] += 0.3 * len(history) - 1
    logits -= np.log(np.exp(logits).sum(dtype=np.float32))
    logits[[PAD, START]] = -np.inf
    return logits


@dataclass
class HashGrid:
    """Keeps what each hypothesis read, and moves these histories by the plan's parents alone."""

    beam: int
    sources: list[int] = field(default_factory=list)
    read: list[list[tuple[int, ...]]] = field(default_factory=list)

    def admit(self, sources: list[int]) -> None:
        self.sources += sources
        self.read += [[()] * self.beam for _ in sources]

    def keep(self, order: NDArray[np.int64]) -> None:
        self.sources = [self.sources[i] for i in order]
        self.read = [self.read[i] for i in order]

    def step(self, plan: StepPlan) -> Candidates:
        slots = len(self.sources)
        assert plan.tokens.shape == (slots, self.beam)
        everything = np.full((slots, self.beam, VOCABULARY), -np.inf, dtype=np.float32)
        targets = np.zeros((slots, self.beam), dtype=np.float32)
        alignment = np.zeros((slots, self.beam), dtype=np.int64)
        for s in range(slots):
            parents, tokens = plan.parents[s].tolist(), plan.tokens[s].tolist()
            self.read[s] = [(*self.read[s][p], token) for p, token in zip(parents, tokens, strict=True)]
            for b in range(self.beam):
                if plan.scores[s, b] == -np.inf:
                    continue
                history = self.read[s][b]
                assert history[0] == START
                assert len(history) == plan.positions[s] + 1
                logp = log_probs(self.sources[s], history[1:])
                targets[s, b] = logp[plan.targets[s, b]]
                alignment[s, b] = sum(history) % 7
                for token, factor, bias in zip(
                    plan.edits.tokens[s, b], plan.edits.factors[s, b], plan.edits.biases[s, b], strict=True
                ):
                    everything[s, b, token] = logp[token] * factor + bias
                edited = set(plan.edits.tokens[s, b].tolist())
                for token in range(VOCABULARY):
                    if token not in edited:
                        everything[s, b, token] = logp[token]
                everything[s, b] += plan.scores[s, b]
        flat = everything.reshape(slots, -1)
        best = np.argsort(-flat, axis=1, kind="stable")[:, : plan.candidates]
        return Candidates(
            np.take_along_axis(flat, best, axis=1), best % VOCABULARY, best // VOCABULARY, targets, alignment
        )


@dataclass
class Live:
    score: np.float32
    tokens: tuple[int, ...]
    gains: tuple[float, ...]


def slow_search(source: int, options: DecodingOptions) -> list[tuple[tuple[int, ...], float, FinishReason]]:
    """The search's specification, one hypothesis at a time."""
    live = [Live(np.float32(0), (), ())]
    done: list[tuple[float, tuple[int, ...], FinishReason]] = []
    for step in range(options.max_length):
        forced = options.prefix[step] if step < len(options.prefix) else None
        ranked: list[tuple[float, int, int]] = []
        for i, hypothesis in enumerate(live):
            logp = log_probs(source, hypothesis.tokens)
            if forced is None:
                for token in set(hypothesis.tokens):
                    logp[token] *= np.float32(options.repetition_penalty)
                n = options.no_repeat_ngram_size
                if n:
                    grams = {hypothesis.tokens[j : j + n] for j in range(len(hypothesis.tokens) - n + 1)}
                    for token in range(VOCABULARY):
                        if (*hypothesis.tokens, token)[-n:] in grams:
                            logp[token] = -np.inf
                if step < options.min_length:
                    logp[EOS] = -np.inf
            ranked += [
                (float(hypothesis.score + logp[token]), i, token)
                for token in range(VOCABULARY)
                if (forced is None or token == forced) and logp[token] > -np.inf
            ]
        ranked.sort(key=lambda c: (-c[0], c[1], c[2]))
        following: list[Live] = []
        for rank, (score, i, token) in enumerate(ranked[: 2 * options.beam_size]):
            if token == EOS:
                if rank < options.beam_size:
                    length = len(live[i].tokens) + 1
                    done.append((score / length**options.length_penalty, live[i].tokens, FinishReason.EOS))
            elif len(following) < options.beam_size:
                following.append(Live(np.float32(score), (*live[i].tokens, token), ()))
        live = following
        if len(done) >= options.beam_size or not live:
            break
    else:
        for hypothesis in live[: options.beam_size - len(done)]:
            length = len(hypothesis.tokens)
            score = float(hypothesis.score) / length**options.length_penalty
            done.append((score, hypothesis.tokens, FinishReason.LENGTH))
    done.sort(key=lambda d: -d[0])
    return [(tokens, score, reason) for score, tokens, reason in done[: options.n_best]]


def run(jobs: list[tuple[int, DecodingOptions]], slots: int, seed: int = 0) -> dict[int, list[FinishedHypothesis]]:
    """Drives a search to the end; sentences join whenever a slot is free, holes are filled from the tail."""
    rng = np.random.default_rng(seed)
    beam = jobs[0][1].beam_size
    search = BeamSearch(beam, slots, special_ids=IDS, vocabulary_size=VOCABULARY)
    grid = HashGrid(beam)
    waiting, running, answers = list(enumerate(jobs)), list[int](), dict[int, list[FinishedHypothesis]]()
    while waiting or running:
        joining = int(rng.integers(0, slots - len(running) + 1)) if running else 1
        for number, (source, options) in waiting[:joining]:
            search.admit([options])
            grid.admit([source])
            running.append(number)
        waiting = waiting[joining:]
        finished = search.advance(grid.step(search.plan()))
        for slot in finished:
            answers[running[slot]] = search.hypotheses(int(slot))
        if finished.size:
            keep = [s for s in range(len(running)) if s not in set(finished.tolist())]
            order = np.array(keep, dtype=np.int64)
            search.keep(order)
            grid.keep(order)
            running = [running[s] for s in keep]
    return answers


def check(jobs: list[tuple[int, DecodingOptions]], slots: int, seed: int = 0) -> None:
    answers = run(jobs, slots, seed)
    for number, (source, options) in enumerate(jobs):
        expected = slow_search(source, options)
        got = answers[number]
        assert [h.tokens for h in got] == [tokens for tokens, _, _ in expected], (source, options)
        assert [h.finish_reason for h in got] == [reason for _, _, reason in expected]
        np.testing.assert_allclose([h.score for h in got], [score for _, score, _ in expected], rtol=1e-5)


@pytest.mark.parametrize("beam", [1, 2, 4])
def test_equals_the_slow_search_in_company(beam: int) -> None:
    options = DecodingOptions(max_length=12, beam_size=beam, n_best=beam)
    check([(source, options) for source in range(40)], slots=7)


options_of_beam = {
    beam: st.builds(
        DecodingOptions,
        max_length=st.integers(1, 40),
        beam_size=st.just(beam),
        n_best=st.integers(1, beam),
        length_penalty=st.sampled_from([0.0, 0.6, 1.0, 2.0]),
        min_length=st.integers(0, 6),
        no_repeat_ngram_size=st.integers(0, 3),
        repetition_penalty=st.sampled_from([1.0, 1.3, 2.0]),
        prefix=st.lists(st.integers(4, VOCABULARY - 1), max_size=3).map(tuple),
    ).filter(lambda o: len(o.prefix) <= o.max_length)
    for beam in (1, 2, 3)
}


@settings(max_examples=60, deadline=None)
@given(data=st.data(), beam=st.sampled_from([1, 2, 3]), seed=st.integers(0, 99))
def test_every_option_is_per_sentence(data: st.DataObject, beam: int, seed: int) -> None:
    wanted = data.draw(st.lists(options_of_beam[beam], min_size=1, max_size=8))
    check([(source, options) for source, options in enumerate(wanted)], slots=3, seed=seed)


def test_options_are_kept_by_name_whatever_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    options = DecodingOptions(
        max_length=9, beam_size=3, n_best=2, length_penalty=0.6, min_length=4, no_repeat_ngram_size=2, prefix=(7, 5)
    )
    expected = run([(5, options)], slots=1)
    monkeypatch.setattr(slot_options, "FIELDS", slot_options.FIELDS[::-1])
    assert run([(5, options)], slots=1) == expected


def test_log_probs_of_a_hypothesis_add_up_to_its_score() -> None:
    options = DecodingOptions(max_length=30, beam_size=3, n_best=3, length_penalty=0.0)
    for hypothesis in run([(5, options)], slots=1)[0]:
        assert hypothesis.score == pytest.approx(sum(hypothesis.log_probs), rel=1e-5)
        assert len(hypothesis.log_probs) == len(hypothesis.tokens) + (hypothesis.finish_reason is FinishReason.EOS)
        prefix = [(START, *hypothesis.tokens[:i]) for i in range(len(hypothesis.tokens))]
        assert list(hypothesis.alignment) == [sum(history) % 7 for history in prefix]


def test_sampling_depends_on_its_own_seed_only() -> None:
    drawn = DecodingOptions(max_length=20, sampling=Sampling(temperature=1.5, top_k=0, seed=7))
    alone = run([(1, drawn)], slots=1)[0]
    rest = [(s, DecodingOptions(max_length=9, sampling=Sampling(top_k=3, seed=s))) for s in range(9)]
    company = run([(1, drawn), *rest, (3, DecodingOptions(max_length=5))], slots=6, seed=3)
    assert company[0][0].tokens == alone[0].tokens
    other = run([(1, replace(drawn, sampling=Sampling(temperature=1.5, seed=8)))], slots=1)[0]
    assert other[0].tokens != alone[0].tokens


def test_sampling_from_the_best_token_is_greedy() -> None:
    greedy = run([(s, DecodingOptions(max_length=15)) for s in range(6)], slots=6)
    one = run([(s, DecodingOptions(max_length=15, sampling=Sampling(top_k=1, seed=s))) for s in range(6)], slots=6)
    assert [one[s][0].tokens for s in range(6)] == [greedy[s][0].tokens for s in range(6)]


def test_sampling_follows_the_distribution() -> None:
    chosen = [
        run([(4, DecodingOptions(max_length=1, sampling=Sampling(top_p=0.8, seed=seed)))], slots=1)[0][0]
        for seed in range(600)
    ]
    logp = log_probs(4, ())
    ranked = np.argsort(-logp)
    cumulative = np.cumsum(np.exp(logp[ranked])) / np.exp(logp).sum()  # of what is not suppressed
    nucleus = ranked[: int(np.searchsorted(cumulative, 0.8)) + 1]
    counts = {int(token): 0 for token in nucleus}
    for hypothesis in chosen:
        counts[hypothesis.tokens[0] if hypothesis.tokens else EOS] += 1  # KeyError: outside the nucleus
    for token, count in counts.items():
        expected = float(np.exp(logp[token]) / np.exp(logp[nucleus]).sum())
        assert count / 600 == pytest.approx(expected, abs=0.08)


def test_a_wrong_beam_size_or_too_many_sentences_are_refused() -> None:
    search = BeamSearch(2, 1, special_ids=IDS, vocabulary_size=VOCABULARY)
    with pytest.raises(ValueError, match="beam size 3 in a grid of beam size 2"):
        search.admit([DecodingOptions(max_length=3, beam_size=3)])
    with pytest.raises(ValueError, match="2 sentences for 1 free slots"):
        search.admit([DecodingOptions(max_length=3, beam_size=2)] * 2)


@pytest.mark.parametrize("beam", [1, 2, 4])
def test_what_is_settled_is_how_the_best_hypothesis_begins(beam: int) -> None:
    jobs = [DecodingOptions(max_length=14, beam_size=beam, length_penalty=1.0) for _ in range(20)]
    search, grid = BeamSearch(beam, 20, special_ids=IDS, vocabulary_size=VOCABULARY), HashGrid(beam)
    search.admit(jobs)
    grid.admit(list(range(20)))
    sources = list(range(20))
    told: dict[int, list[int]] = {source: [] for source in sources}
    early = 0
    for step in range(1, 15):
        finished = set(search.advance(grid.step(search.plan())).tolist())
        for slot in finished:
            (best,) = search.hypotheses(slot)
            assert list(best.tokens[: len(told[sources[slot]])]) == told[sources[slot]]
            early += len(told[sources[slot]])
        order = np.array([slot for slot in range(len(sources)) if slot not in finished], dtype=np.int64)
        search.keep(order)
        grid.keep(order)
        sources = [sources[slot] for slot in order]
        if not sources:
            break
        for slot, count in enumerate(search.settled(np.arange(len(sources))).tolist()):
            known = told[sources[slot]]
            assert count == step if beam == 1 else len(known) <= count <= step
            known += [token for token, _ in search.tokens(slot, len(known), count)]
    assert not sources
    assert early > 20


def steps_of(source: int, options: DecodingOptions) -> tuple[list[FinishedHypothesis], list[list[int]]]:
    """What a search finds, and which parents its steps had."""
    beam = options.beam_size
    search, grid = BeamSearch(beam, 1, special_ids=IDS, vocabulary_size=VOCABULARY), HashGrid(beam)
    search.admit([options])
    grid.admit([source])
    parents = []
    while True:
        plan = search.plan()
        parents.append(plan.parents[0].tolist())
        if search.advance(grid.step(plan)).size:
            return search.hypotheses(0), parents


@pytest.mark.parametrize("beam", [1, 3, 4])
def test_a_given_hypothesis_goes_the_way_on_which_it_was_found(beam: int) -> None:
    for source in range(12):
        found, parents = steps_of(source, DecodingOptions(max_length=14, beam_size=beam, n_best=2 * beam))
        for hypothesis in found:
            ended = (EOS,) * (hypothesis.finish_reason is FinishReason.EOS)
            given = (*hypothesis.tokens, *ended)
            options = DecodingOptions(max_length=len(given), beam_size=beam, prefix=given, beside=True)
            (again,), steps = steps_of(source, options)
            assert steps == parents[: len(steps)]
            assert again == hypothesis


def test_any_hypothesis_may_be_given_in_any_company() -> None:
    given = [(4, 4, 4, 4, EOS), (9, EOS), (5, 6, 7, 8, 9), (EOS,), (4, 5, 4, 5, 4, 5)]
    jobs = [
        (source, DecodingOptions(max_length=len(tokens), beam_size=3, prefix=tokens, beside=True, start=(6,) * start))
        for source, (tokens, start) in enumerate(itertools.product(given, (0, 1)))
    ]
    others = [(source, DecodingOptions(max_length=9, beam_size=3)) for source in range(5)]
    mixed = [job for pair in itertools.zip_longest(jobs, others) for job in pair if job]
    answers = run(mixed, slots=4, seed=2)
    numbers = [number for number, (_, options) in enumerate(mixed) if options.beside]
    for number, (source, options) in zip(numbers, jobs, strict=True):
        (hypothesis,) = answers[number]
        history = (*options.start, *options.prefix)
        expected = [
            float(log_probs(source, history[:place])[history[place]])
            for place in range(len(options.start), len(history))
        ]
        assert hypothesis.tokens == tuple(token for token in options.prefix if token != EOS)
        assert hypothesis.log_probs == pytest.approx(expected, abs=1e-4)


def slow_groups(source: int, options: DecodingOptions) -> list[list[tuple[float, tuple[int, ...]]]]:
    """Diverse beam search as the paper writes it: a list of finished hypotheses for each group."""
    size = options.beam_size // options.groups
    live: list[list[Live]] = [[Live(np.float32(0), (), ())] for _ in range(options.groups)]
    done: list[list[tuple[float, tuple[int, ...]]]] = [[] for _ in range(options.groups)]
    for step in range(options.max_length):
        said: list[int] = []
        for group in range(options.groups):
            ranked = []
            for i, hypothesis in enumerate(live[group]):
                logp = log_probs(source, hypothesis.tokens)
                for token in range(VOCABULARY):
                    if logp[token] > -np.inf:
                        score = np.float32(hypothesis.score + logp[token])
                        ranked.append((options.diversity_penalty * said.count(token) - score, i, token, score))
            ranked.sort(key=lambda c: c[0])
            following: list[Live] = []
            for rank, (_, i, token, score) in enumerate(ranked):
                if token == EOS and rank < size:
                    done[group].append((float(score) / (step + 1) ** options.length_penalty, live[group][i].tokens))
                elif token != EOS and len(following) < size:
                    following.append(Live(score, (*live[group][i].tokens, token), ()))
            live[group] = following if len(done[group]) < size else []
            said += [hypothesis.tokens[-1] for hypothesis in live[group]]
    for group, left in enumerate(live):
        done[group] += [(float(one.score) / len(one.tokens) ** options.length_penalty, one.tokens) for one in left]
    return done


@pytest.mark.parametrize(("beam", "groups"), [(4, 2), (4, 4), (6, 3)])
def test_groups_are_those_of_the_paper(beam: int, groups: int) -> None:
    wanted = DecodingOptions(
        max_length=12, beam_size=beam, n_best=2 * beam, groups=groups, diversity_penalty=0.7, length_penalty=1.0
    )
    plain = [(source, DecodingOptions(max_length=9, beam_size=beam)) for source in range(8)]
    diverse = [(source, replace(wanted, diversity_penalty=0.2 * (source % 5))) for source in range(20)]
    answers = run([job for pair in itertools.zip_longest(diverse, plain) for job in pair if job], slots=6, seed=4)
    found = iter([hypotheses for number, hypotheses in sorted(answers.items()) if number % 2 == 0 or number > 15])
    for source, options in diverse:
        expected = slow_groups(source, options)
        got = next(found)
        best = sorted((max(group) for group in expected), reverse=True)
        assert [h.tokens for h in got[:groups]] == [tokens for _, tokens in best]
        assert [h.score for h in got] == pytest.approx(
            [score for score, _ in best]
            + sorted((score for group in expected for score, _ in sorted(group)[:-1]), reverse=True),
            abs=1e-4,
        )
