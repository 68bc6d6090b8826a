"""The toy model keeps the contract that real models keep."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest

from serving.decoding.beam import BeamSearch
from serving.decoding.options import DecodingOptions
from serving.step import Candidates, StepPlan
from tests.toy_runner import ToyGrid, ToyModel, ToyRunner
from tests.unit.serving.engine.toy_engine import EOS, IDS, MODEL, NAN_TOKEN, PAD, VOCABULARY


def start(
    *sources: list[int], beam: int = 2, model: ToyModel = MODEL, runner: ToyRunner | None = None
) -> tuple[ToyGrid, BeamSearch]:
    grid = (runner or ToyRunner(model)).grid(beam, 4)
    grid.admit([np.array([*source, EOS]) for source in sources])
    search = BeamSearch(beam, 4, special_ids=IDS, vocabulary_size=VOCABULARY)
    search.admit([DecodingOptions(max_length=20, beam_size=beam)] * len(sources))
    return grid, search


def advanced(grid: ToyGrid, search: BeamSearch, steps: int) -> tuple[StepPlan, Candidates]:
    for _ in range(steps):
        search.advance(grid.step(search.plan()))
    plan = search.plan()
    return plan, grid.step(plan)


def test_candidates_are_the_best_of_all_beams_and_tokens() -> None:
    grid, search = start([5, 6, 7], [8])
    plan, candidates = advanced(grid, search, 1)
    assert candidates.scores.shape == candidates.tokens.shape == candidates.parents.shape == (2, plan.candidates)
    assert (np.diff(candidates.scores, axis=1) <= 0).all()
    assert candidates.tokens[:, 0].tolist() == [6, EOS]
    assert candidates.target_log_probs.shape == (2, 2)
    assert candidates.alignment.tolist() == [[1, 1], [1, 1]]


def test_log_probabilities_sum_to_one_and_never_propose_special_tokens() -> None:
    grid, search = start([5, 6], beam=1)
    plan = dataclasses.replace(search.plan(), candidates=VOCABULARY)
    candidates = grid.step(plan)
    assert np.isclose(np.exp(candidates.scores).sum(), 1, atol=1e-5)
    impossible = candidates.tokens[candidates.scores == -np.inf].tolist()
    assert sorted(impossible) == sorted({IDS.pad, IDS.bos})


def test_edits_apply_once_and_targets_are_unedited() -> None:
    grid, search = start([5, 6], beam=1)
    plan = search.plan()
    plain = grid.step(dataclasses.replace(plan, candidates=VOCABULARY, targets=np.array([[5]])))
    other_grid, other_search = start([5, 6], beam=1)
    plan = other_search.plan()
    edits = dataclasses.replace(
        plan.edits,
        tokens=np.array([[[5, 5, PAD]]]),
        factors=np.array([[[2.0, 2.0, 1.0]]], dtype=np.float32),
        biases=np.array([[[-1.0, -1.0, 0.0]]], dtype=np.float32),
    )
    edited = other_grid.step(dataclasses.replace(plan, candidates=VOCABULARY, targets=np.array([[5]]), edits=edits))

    def score(candidates: Candidates, token: int) -> float:
        return float(candidates.scores[0, candidates.tokens[0] == token][0])

    assert np.isclose(score(edited, 5), 2 * score(plain, 5) - 1)
    assert score(edited, 6) == score(plain, 6)
    assert edited.target_log_probs == plain.target_log_probs == np.float32(score(plain, 5))


def test_reversing() -> None:
    grid, search = start([5, 6, 7], model=dataclasses.replace(MODEL, reverse=True))
    _, candidates = advanced(grid, search, 0)
    assert candidates.tokens[0, 0] == 7
    assert candidates.alignment.tolist() == [[2, 2]]


def test_a_grid_refuses_misuse() -> None:
    grid, search = start([5], [6], [7], beam=1)
    with pytest.raises(ValueError, match="admit fewer"):
        grid.admit([np.array([5, EOS])] * 2)
    with pytest.raises(ValueError, match="end token"):
        grid.admit([np.array([5])])
    for order in ([1, 0], [0, 0], [3]):
        with pytest.raises(ValueError, match="compaction"):
            grid.keep(np.array(order))
    grid.keep(np.array([2]))
    with pytest.raises(ValueError, match="shape"):
        grid.step(search.plan())


def test_a_grid_is_used_by_one_thread_at_a_time() -> None:
    gate = threading.Barrier(2)
    caught: list[Exception] = []

    def twice() -> None:
        gate.wait()
        gate.wait()

    grid, search = start([5], runner=ToyRunner(MODEL, before_step=twice))

    def elsewhere() -> None:
        gate.wait()  # the other thread is in its step
        try:
            grid.keep(np.array([0]))
        except ValueError as error:
            caught.append(error)
        gate.wait()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    grid.step(search.plan())
    thread.join()
    assert "one thread at a time" in str(caught[0])


def test_nan_and_leak_are_injected() -> None:
    grid, search = start([5], [NAN_TOKEN], model=MODEL)
    candidates = grid.step(search.plan())
    assert np.isnan(candidates.scores).any(axis=1).tolist() == [False, True]
    leaky = dataclasses.replace(MODEL, leak=True)
    _, alone = advanced(*start([5], model=leaky), 0)
    _, together = advanced(*start([5], [6], model=leaky), 0)
    assert not np.array_equal(alone.scores[0], together.scores[0])


def test_what_it_holds_and_was_given_is_counted() -> None:
    runner = ToyRunner(MODEL)
    grid, _ = start([5], runner=runner)
    assert grid.nbytes > 0
    assert runner.counts.sources == [(5, EOS)]
    assert runner.device == "cpu"
