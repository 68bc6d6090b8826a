"""The SSRU against the equations of Kim et al. (2019), one token after the other."""

import pytest
import torch

from training.models.ssru import Ssru, carry_all


class Whole:
    """Carries the state over whole rows."""

    def carry(self, forget: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return carry_all(forget, x)


@pytest.mark.parametrize("time", [1, 2, 7, 16, 33])
def test_whole_rows_equal_the_equations(time: int) -> None:
    torch.manual_seed(time)
    unit = Ssru(6)
    torch.nn.init.normal_(unit.forget.bias)
    x = torch.randn(3, time, 6)
    with torch.no_grad():
        outputs = unit.within(x, lambda tensor: tensor, Whole())
        state = torch.zeros(3, 6)
        for step in range(time):
            gate = 1 / (1 + torch.exp(-(x[:, step] @ unit.forget.weight.T + unit.forget.bias)))
            state = gate * state + (1 - gate) * (x[:, step] @ unit.value.weight.T)
            torch.testing.assert_close(outputs[:, step], state.clamp(min=0), atol=1e-6, rtol=1e-5)


def test_rows_in_sixteen_bits_are_summed_in_float32() -> None:
    forget, x = torch.full((1, 400, 1), 0.996, dtype=torch.bfloat16), torch.ones(1, 400, 1, dtype=torch.bfloat16)
    states = carry_all(forget, x)
    assert states.dtype == torch.bfloat16
    assert float(states[0, -1]) == pytest.approx(1 - float(forget[0, 0]) ** 400, abs=0.01)
