import pytest
import torch
from torch.nn import functional as F

from training import loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_pytorchs_label_smoothing(smoothing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loss.CHUNK_ELEMENTS, "cpu", 35)  # several chunks, the last one short
    torch.manual_seed(0)
    logits, targets = torch.randn(17, 11, dtype=torch.float64).float(), torch.randint(11, (17,))
    expected_in = logits.clone().requires_grad_()
    expected = F.cross_entropy(expected_in, targets, label_smoothing=smoothing, reduction="sum")
    (3.0 * expected).backward()
    leaf = logits.clone().requires_grad_()
    found, likelihood = loss.smoothed_cross_entropy(leaf * 1.0, targets, smoothing)
    (3.0 * found).backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(leaf.grad, expected_in.grad)
    torch.testing.assert_close(likelihood, F.cross_entropy(logits, targets, reduction="sum"))


def test_leaves_the_logits_alone_without_gradients() -> None:
    logits = torch.randn(3, 5)
    before = logits.clone()
    loss.smoothed_cross_entropy(logits, torch.tensor([0, 1, 2]), 0.1)
    assert torch.equal(logits, before)
