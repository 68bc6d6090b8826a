"""Our layers against PyTorch's own Transformer layers, given the same weights."""

from functools import partial
from typing import Literal

import pytest
import torch
from torch import nn

from training.models.transformer import (
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    MultiHeadAttention,
    Residual,
    TransformerSettings,
)


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


def randomise(module: nn.Module) -> None:
    torch.manual_seed(2)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer(norm: Literal["pre", "post"], activation: Literal["relu", "gelu"]) -> None:
    theirs = nn.TransformerEncoderLayer(16, 4, 24, activation=activation, batch_first=True, norm_first=norm == "pre")
    randomise(theirs)
    settings = TransformerSettings(dim=16, heads=4, feedforward_dim=24, norm=norm, activation=activation)
    ours = EncoderLayer(settings).eval()
    copy_attention(ours.self_attention, theirs.self_attn)
    copy_feed_forward(ours.feed_forward, theirs.linear1, theirs.linear2)
    copy_norms([(ours.self_residual, theirs.norm1), (ours.feed_forward_residual, theirs.norm2)])
    x = torch.randn(2, 5, 16)
    expected = theirs.train(mode=False)(x)
    torch.testing.assert_close(ours(x, ours.self_attention.attend), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_decoder_layer(norm: Literal["pre", "post"]) -> None:
    theirs = nn.TransformerDecoderLayer(16, 4, 24, batch_first=True, norm_first=norm == "pre")
    randomise(theirs)
    ours = DecoderLayer(TransformerSettings(dim=16, heads=4, feedforward_dim=24, norm=norm)).eval()
    copy_attention(ours.self_attention, theirs.self_attn)
    copy_attention(ours.cross_attention, theirs.multihead_attn)
    copy_feed_forward(ours.feed_forward, theirs.linear1, theirs.linear2)
    residuals = [ours.self_residual, ours.cross_residual, ours.feed_forward_residual]
    copy_norms(list(zip(residuals, (theirs.norm1, theirs.norm2, theirs.norm3), strict=True)))
    x, memory = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    keys, values = ours.cross_attention.project_keys_values(memory)

    causal = partial(ours.self_attention.attend, is_causal=True)
    found = ours(x, causal, partial(ours.cross_attention.attend, k=keys, v=values))
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    expected = theirs.eval()(x, memory, tgt_mask=mask, tgt_is_causal=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
