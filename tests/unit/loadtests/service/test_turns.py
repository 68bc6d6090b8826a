"""What something costs, from turns of servers with it and without it."""

import pytest

from loadtests.service.turns import Turn, cost, throughput_lost

WITHOUT = [Turn(2.0, 3.0), Turn(4.0, 6.0), Turn(2.0, 3.0)]


def test_a_cost_is_the_median_of_rounds_and_one_odd_round_does_not_move_it() -> None:
    figures = cost(WITHOUT, [Turn(2.5, 3.3), Turn(5.0, 6.6), Turn(20.0, 30.0)])
    assert figures["throughput"] == pytest.approx(0.2)  # 400 calls in 2.5 s are 160 a second, in 2 s 200
    assert figures["processor"] == pytest.approx(0.1)
    assert figures["throughput_quartiles"] == pytest.approx([0.2, 0.55])


def test_rounds_are_compared_with_themselves() -> None:
    assert throughput_lost(WITHOUT, WITHOUT) == [0.0, 0.0, 0.0]
    assert throughput_lost(WITHOUT, [Turn(1.0, 1.0)] * 3) == [-1.0, -3.0, -1.0]
    with pytest.raises(ValueError, match="zip"):
        throughput_lost(WITHOUT, WITHOUT[:2])
