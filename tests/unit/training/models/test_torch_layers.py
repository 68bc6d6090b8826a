"""Our layers against PyTorch's own, given the same weights, and against formulas where PyTorch has none."""

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from training.models.transformer_attention import (
    SHORT_KEYS,
    MaskedAttention,
    MultiHeadAttention,
    TeacherForced,
    attend,
    attention_weights,
)
from training.models.transformer_layers import (
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    Residual,
    StackSettings,
    build_attention,
    build_norm,
)

EVERYTHING = MaskedAttention(4, torch.ones((1, 1), dtype=torch.bool))


def copy_attention(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    weight, bias = theirs.in_proj_weight, theirs.in_proj_bias
    dim = weight.shape[1]
    ours.query.load_state_dict({"weight": weight[:dim], "bias": bias[:dim]})
    ours.key_value.load_state_dict({"weight": weight[dim:], "bias": bias[dim:]})
    ours.output.load_state_dict(theirs.out_proj.state_dict())


def copy_feed_forward(ours: FeedForward, first: nn.Linear, second: nn.Linear) -> None:
    ours.expand.load_state_dict(first.state_dict())
    ours.contract.load_state_dict(second.state_dict())


def copy_norms(pairs: list[tuple[Residual, nn.LayerNorm]]) -> None:
    for ours, theirs in pairs:
        ours.norm.load_state_dict(theirs.state_dict())


def unrotated(x: Tensor) -> Tensor:
    return x


def randomise(module: nn.Module) -> None:
    torch.manual_seed(2)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer(norm: Literal["pre", "post"], activation: Literal["relu", "gelu"]) -> None:
    theirs = nn.TransformerEncoderLayer(16, 4, 24, activation=activation, batch_first=True, norm_first=norm == "pre")
    randomise(theirs)
    settings = StackSettings(dim=16, heads=4, feedforward_dim=24, norm=norm, activation=activation)
    ours = EncoderLayer(settings).eval()
    copy_attention(ours.self_attention, theirs.self_attn)
    copy_feed_forward(ours.feed_forward, theirs.linear1, theirs.linear2)
    copy_norms([(ours.self_residual, theirs.norm1), (ours.feed_forward_residual, theirs.norm2)])
    x = torch.randn(2, 5, 16)
    expected = theirs.train(mode=False)(x)
    torch.testing.assert_close(ours(x, unrotated, EVERYTHING), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_decoder_layer(norm: Literal["pre", "post"]) -> None:
    theirs = nn.TransformerDecoderLayer(16, 4, 24, batch_first=True, norm_first=norm == "pre")
    randomise(theirs)
    ours = DecoderLayer(StackSettings(dim=16, heads=4, feedforward_dim=24, norm=norm)).eval()
    copy_attention(ours.self_attention, theirs.self_attn)
    copy_attention(ours.cross_attention, theirs.multihead_attn)
    copy_feed_forward(ours.feed_forward, theirs.linear1, theirs.linear2)
    residuals = [ours.self_residual, ours.cross_residual, ours.feed_forward_residual]
    copy_norms(list(zip(residuals, (theirs.norm1, theirs.norm2, theirs.norm3), strict=True)))
    x, memory = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    source = ours.cross_attention.project_keys_values(memory)
    found = ours(x, unrotated, TeacherForced(4, EVERYTHING.mask, source=source))
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    expected = theirs.eval()(x, memory, tgt_mask=mask, tgt_is_causal=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_gated_feed_forward() -> None:
    """SwiGLU(x) = (SiLU(x W) * (x V)) U: Shazeer 2020, equation 6."""
    torch.manual_seed(2)
    layer = FeedForward(StackSettings(dim=8, heads=2, feedforward_dim=12, activation="swiglu", bias=False))
    x = torch.randn(2, 3, 8)
    w, v = layer.expand.weight.chunk(2)
    gate = x @ w.T
    expected = (gate * torch.sigmoid(gate) * (x @ v.T)) @ layer.contract.weight.T
    torch.testing.assert_close(layer(x), expected)


def test_rms_norm() -> None:
    """x / sqrt(mean x^2) * g: Zhang and Sennrich 2019, equation 4."""
    norm = build_norm(StackSettings(dim=8, heads=2, normalization="rms"))
    assert [name for name, _ in norm.named_parameters()] == ["weight"]
    torch.manual_seed(2)
    x = torch.randn(2, 3, 8)
    nn.init.normal_(norm.get_parameter("weight"))
    expected = x / x.square().mean(-1, keepdim=True).sqrt() * norm.get_parameter("weight")
    torch.testing.assert_close(norm(x), expected)


def test_grouped_heads_are_repeated_ones() -> None:
    """With the weights of each key and value head written once for each query head, nothing changes."""
    settings = StackSettings(dim=16, heads=4)
    grouped, full = build_attention(settings, kv_heads=2), build_attention(settings)
    randomise(grouped)

    def repeated(x: Tensor) -> Tensor:
        return torch.repeat_interleave(x.reshape(2, 2, 4, -1), 2, dim=1).reshape(-1, *x.shape[1:])

    state = grouped.state_dict()
    full.load_state_dict({name: repeated(x) if name.startswith("key_value") else x for name, x in state.items()})
    x = torch.randn(2, 5, 16)
    found, expected = (a.within(x, unrotated, EVERYTHING) for a in (grouped, full))
    torch.testing.assert_close(found, expected)
    assert grouped.project_keys_values(x)[0].shape == (2, 5, 8)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_weights_are_those_that_attention_uses(kv_heads: int) -> None:
    attention = build_attention(StackSettings(dim=16, heads=4), kv_heads)
    randomise(attention)
    x = torch.randn(2, 5, 16)
    mask = torch.arange(5)[None, None, None, :] < torch.tensor([5, 3])[:, None, None, None]
    q, (k, v) = attention.query(x), attention.project_keys_values(x)
    weights = attention_weights(q, k, 4, mask)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 5))
    by_head = v.unflatten(-1, (kv_heads, -1)).transpose(1, 2).repeat_interleave(4 // kv_heads, dim=1)
    expected = attend(q, k, v, 4, attn_mask=mask)
    torch.testing.assert_close((weights @ by_head).transpose(1, 2).flatten(2), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kv_heads", "keys"), [(4, 7), (1, 7), (4, SHORT_KEYS + 1)])
def test_attention_is_the_same_with_gradients_and_without(kv_heads: int, keys: int) -> None:
    q, k, v = torch.randn(2, 5, 16), torch.randn(2, keys, 4 * kv_heads), torch.randn(2, keys, 4 * kv_heads)
    mask = torch.arange(keys)[None, None, None, :] < torch.tensor([5, 3])[:, None, None, None]
    read = attend(q, k, v, 4, attn_mask=mask)
    torch.testing.assert_close(attend(q.clone().requires_grad_(), k, v, 4, attn_mask=mask).detach(), read)
