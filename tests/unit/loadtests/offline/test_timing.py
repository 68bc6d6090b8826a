"""Turns, medians and ratios."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loadtests.offline.timing import Spread, alternate, best, ratio, spread


def test_quartiles_are_interpolated() -> None:
    assert spread([4.0, 1.0, 3.0, 2.0, 5.0]) == Spread(3.0, 2.0, 4.0)
    assert spread([1.0, 2.0]).median == 1.5


def test_ratios_are_of_rounds_and_not_of_medians() -> None:
    # Rounds 1 and 2 are slow for both, as when the machine is busy.
    rival, ours = [10.0, 20.0, 3.0], [5.0, 4.0, 1.0]
    assert ratio(rival, ours).median == 3.0  # of 2, 5 and 3
    assert spread(rival).median / spread(ours).median == 2.5


def test_rounds_must_be_complete() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0, 2.0, 3.0], [1.0, 2.0])


def test_the_best_has_the_smallest_median() -> None:
    assert best({"steady": [3.0, 3.0, 3.0], "lucky once": [0.1, 4.0, 4.0], "slow": [5.0, 5.0, 5.0]}) == "steady"


def test_engines_take_turns_and_nobody_is_always_first() -> None:
    ran: list[str] = []

    def engine(name: str) -> Callable[[], float]:
        def run() -> float:
            ran.append(name)
            return float(len(ran))

        return run

    times = alternate({name: engine(name) for name in "abc"}, rounds=3)
    assert "".join(ran) == "abc" + "cba" + "abc"
    assert times == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}
