import math

import torch

from training.models.dropout import TimeSharedDropout
from training.models.positions import PositionEmbedding, RotaryEmbedding, sinusoidal_table


def test_sinusoids_follow_the_paper() -> None:
    table = sinusoidal_table(50, 6)
    for p in (0, 1, 49):
        for i in range(3):
            angle = p / 10000 ** (2 * i / 6)
            assert math.isclose(table[p, i].item(), math.sin(angle), abs_tol=1e-6)
            assert math.isclose(table[p, 3 + i].item(), math.cos(angle), abs_tol=1e-6)


def test_sinusoids_of_tensor2tensor_end_at_a_rate_of_a_ten_thousandth() -> None:
    table = sinusoidal_table(50, 6, slowest=True)
    for p in (0, 1, 49):
        for i in range(3):
            angle = p * 10000 ** (-i / 2)
            assert math.isclose(table[p, i].item(), math.sin(angle), abs_tol=1e-6)
            assert math.isclose(table[p, 3 + i].item(), math.cos(angle), abs_tol=1e-6)


def test_offset_skips_rows() -> None:
    plain = PositionEmbedding(10, 4)
    shifted = PositionEmbedding(8, 4, offset=2)
    x = torch.randn(2, 5, 4)
    torch.testing.assert_close(shifted.add(x, torch.arange(5)[None]), plain.add(x, torch.arange(2, 7)[None]))
    assert shifted.rotation(torch.arange(5)[None])(x) is x


def test_rotation_multiplies_by_a_complex_number() -> None:
    """Su et al. 2021, section 3.2.2, with the plane i made of dimensions i and i + 3."""
    positions = torch.tensor([[0, 1, 49], [7, 7, 2]])
    x = torch.randn(2, 3, 12)  # two heads of 6 dimensions
    rotary = RotaryEmbedding(50, 6)
    found = rotary.rotation(positions)(x).unflatten(-1, (2, 6))
    heads = x.unflatten(-1, (2, 6))
    for row in range(2):
        for time in range(3):
            for i in range(3):
                angle = positions[row, time].item() / 10000 ** (2 * i / 6)
                for head in range(2):
                    vector = heads[row, time, head]
                    turned = complex(vector[i], vector[i + 3]) * complex(math.cos(angle), math.sin(angle))
                    assert math.isclose(found[row, time, head, i], turned.real, abs_tol=1e-5)
                    assert math.isclose(found[row, time, head, i + 3], turned.imag, abs_tol=1e-5)
    assert rotary.add(x, positions) is x


def test_rotated_products_depend_on_the_distance_alone() -> None:
    rotary = RotaryEmbedding(100, 8)
    q, k = torch.randn(1, 1, 8).expand(1, 2, 8), torch.randn(1, 1, 8).expand(1, 2, 8)
    one, other = (rotary.rotation(torch.tensor([[p, p + 60]])) for p in (3, 9))
    products = (one(q) * other(k)).sum(-1)
    torch.testing.assert_close(products[0, 0], products[0, 1], atol=1e-4, rtol=1e-4)


def test_dropout_shares_its_mask_over_time_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropout = TimeSharedDropout(0.25).train()
    out = dropout(torch.ones(400, 3, 50))
    assert torch.equal(out[:, 0], out[:, 2])
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs(out.mean().item() - 1.0) < 0.02
    x = torch.randn(2, 3, 4)
    assert dropout.eval()(x) is x
