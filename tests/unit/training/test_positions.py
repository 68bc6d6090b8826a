import math

import torch

from training.models.dropout import TimeSharedDropout
from training.models.positions import PositionEmbedding, sinusoidal_table


def test_sinusoids_follow_the_paper() -> None:
    table = sinusoidal_table(50, 6)
    for p in (0, 1, 49):
        for i in range(3):
            angle = p / 10000 ** (2 * i / 6)
            assert math.isclose(table[p, i].item(), math.sin(angle), abs_tol=1e-6)
            assert math.isclose(table[p, 3 + i].item(), math.cos(angle), abs_tol=1e-6)


def test_offset_skips_rows() -> None:
    plain = PositionEmbedding(10, 4, learned=False)
    shifted = PositionEmbedding(8, 4, learned=False, offset=2)
    torch.testing.assert_close(shifted(torch.arange(5)), plain(torch.arange(2, 7)))


def test_dropout_shares_its_mask_over_time_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropout = TimeSharedDropout(0.25).train()
    out = dropout(torch.ones(400, 3, 50))
    assert torch.equal(out[:, 0], out[:, 2])
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs(out.mean().item() - 1.0) < 0.02
    x = torch.randn(2, 3, 4)
    assert dropout.eval()(x) is x
