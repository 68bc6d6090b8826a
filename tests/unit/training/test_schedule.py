import pytest

from training.schedule import ScheduleSettings, learning_rate


def test_warm_up_is_linear_and_decay_is_inverse_square_root() -> None:
    s = ScheduleSettings(peak=2e-3, warmup_steps=100)
    assert learning_rate(0, s) == pytest.approx(2e-5)
    assert learning_rate(49, s) == pytest.approx(1e-3)
    assert learning_rate(99, s) == pytest.approx(2e-3)
    assert learning_rate(399, s) == pytest.approx(1e-3)
    assert learning_rate(9_999, s) == pytest.approx(2e-4)


def test_cooldown_falls_linearly_to_zero_at_the_end() -> None:
    plain = ScheduleSettings(peak=1.0, warmup_steps=1)
    s = ScheduleSettings(peak=1.0, warmup_steps=1, cooldown=0.4, total_steps=1000)
    assert learning_rate(599, s) == learning_rate(599, plain)
    assert learning_rate(800, s) == pytest.approx(0.5 * learning_rate(800, plain))
    assert learning_rate(1000, s) == 0.0
    assert learning_rate(1200, s) == 0.0
