"""Search under terms: they are there, neighbours do not notice, and tables read what they should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from serving.decoding.options import DecodingOptions
from serving.decoding.terms import Terms, WordBorders
from serving.messages import FinishReason
from tests.unit.serving.decoding.test_beam import VOCABULARY, run

NOWHERE = np.zeros(VOCABULARY, dtype=bool)
BEAM = 6


def terms(*spellings: list[tuple[int, ...]], joins: tuple[int, ...] = (), ends: tuple[int, ...] = ()) -> Terms:
    inside, borders = NOWHERE.copy(), NOWHERE.copy()
    inside[list(joins)], borders[list(ends)] = True, True
    return Terms.of(spellings, [1] * len(spellings), WordBorders(inside, borders))


def contains(tokens: tuple[int, ...], spelling: tuple[int, ...]) -> bool:
    return any(tokens[i : i + len(spelling)] == spelling for i in range(len(tokens)))


def read(found: Terms, tokens: list[int]) -> list[int]:
    """The nodes that tokens lead to."""
    node, nodes = 0, []
    for token in tokens:
        place = np.flatnonzero(found.symbols == token)
        node = int(found.next[node, 2 + place[0] if place.size else int(found.words.ends[token])])
        nodes.append(node)
    return nodes


def test_the_automaton_falls_back_to_the_longest_beginning() -> None:
    found = terms([(4, 5, 4, 6)], [(5, 7)])
    ends = [int(found.ends[node]) for node in read(found, [4, 5, 4, 5, 4, 6])]
    assert ends == [-1, -1, -1, -1, -1, 0]
    assert [int(found.ends[node]) for node in read(found, [4, 5, 7])] == [-1, -1, 1]
    assert found.progress[read(found, [4, 5])[-1]].tolist() == [2, 1]


def test_a_spelling_without_a_space_begins_behind_a_border_only() -> None:
    found = terms([(5,), (6, 7)], joins=(6,), ends=(8,))
    assert [int(found.ends[node]) for node in read(found, [4, 6, 7])] == [-1, -1, -1]
    assert [int(found.ends[node]) for node in read(found, [8, 6, 7])] == [-1, -1, 0]
    assert [int(found.ends[node]) for node in read(found, [8, 5])] == [-1, 0]


@pytest.mark.parametrize("spellings", [([(4, 9)],), ([(4,), (5, 6)], [(7, 8, 9)]), ([(10, 10)], [(9,)], [(4, 5)])])
def test_every_translation_has_its_terms(spellings: tuple[list[tuple[int, ...]], ...]) -> None:
    wanted = DecodingOptions(max_length=25, beam_size=BEAM, enough=1, terms=terms(*spellings))
    answers = run([(source, wanted) for source in range(12)], slots=5)
    for source in range(12):
        best = answers[source][0]
        assert best.finish_reason is FinishReason.EOS
        assert all(any(contains(best.tokens, way) for way in ways) for ways in spellings)
        assert best.score == pytest.approx(sum(best.log_probs) / (len(best.tokens) + 1), abs=1e-4)


def test_a_term_that_goes_on_as_another_word_does_not_count() -> None:
    wanted = DecodingOptions(max_length=25, beam_size=BEAM, enough=1, terms=terms([(4,)], joins=tuple(range(5, 11))))
    for source in range(8):
        tokens = run([(source, wanted)], slots=1)[0][0].tokens
        assert any(token == 4 and not {*tokens[i + 1 : i + 2]} & {*range(5, 11)} for i, token in enumerate(tokens))


def test_what_cannot_be_reached_is_left_out_at_the_length_limit() -> None:
    wanted = DecodingOptions(max_length=2, beam_size=BEAM, enough=1, terms=terms([(4, 5, 6)]))
    assert run([(1, wanted)], slots=1)[0][0].finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("extra", [{}, {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "min_length": 3}])
def test_neighbours_of_terms_get_the_same_bits(extra: dict[str, float]) -> None:
    plain = replace(DecodingOptions(max_length=20, beam_size=BEAM, n_best=BEAM), **extra)  # type: ignore[arg-type]
    alone = run([(source, plain) for source in range(6)], slots=6, seed=1)
    constrained = replace(plain, enough=1, terms=terms([(4, 9)], [(7,), (8, 10)]))
    jobs = [(source, plain) for source in range(6)] + [(source, constrained) for source in range(6)]
    together = run(jobs, slots=7, seed=2)
    assert [together[number] for number in range(6)] == [alone[number] for number in range(6)]
    backwards = run([(source, constrained) for source in range(6)], slots=2, seed=3)
    assert [together[6 + number] for number in range(6)] == [backwards[number] for number in range(6)]


@pytest.mark.parametrize("beam", [2, 3, 8, 12])
def test_terms_of_neighbours_make_no_difference(beam: int) -> None:
    few = DecodingOptions(max_length=20, beam_size=beam, enough=1, n_best=beam, terms=terms([(4, 9, 5)]))
    many = replace(few, terms=terms([(5,)], [(6,)], [(7,)], [(8, 10)], [(9, 9)], [(10, 4)]))
    alone = run([(source, few) for source in range(30)], slots=6, seed=1)
    together = run([(source, options) for source in range(30) for options in (few, many)], slots=7, seed=2)
    assert [together[2 * number] for number in range(30)] == [alone[number] for number in range(30)]
