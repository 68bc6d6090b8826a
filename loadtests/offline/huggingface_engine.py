"""Hugging Face ``generate``, offline, on a bundle's own weights; needs ``transformers`` and torch.

A post-norm Transformer is a Marian model there, a pre-norm one an M2M-100.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from loadtests.offline.bundle_weights import Weights, read_weights
from loadtests.offline.searches import Ids, Search
from serving.bundle.bundle import Bundle, load_bundle

# Settings with a counterpart.
_NEEDED = {
    "normalization": "layer", "decoder_kv_heads": 0, "bias": True, "tie": "all", "output_bias": False,
    "embedding_norm": False, "position_offset": 0, "norm_epsilon": 1e-5, "decoder_autoregression": "attention",
}  # fmt: skip
_MARIAN = transformers.MarianMTModel, transformers.MarianConfig
_M2M100 = transformers.M2M100ForConditionalGeneration, transformers.M2M100Config
_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "silu": "silu"}
_TIED = ("source_embedding.weight", "target_embedding.weight", "vocab_projection.weight")
_PARTS = {"self_attention": "self_attn", "cross_attention": "encoder_attn"}
_NORMS = {
    "self_residual": "self_attn_layer_norm",
    "cross_residual": "encoder_attn_layer_norm",
    "feed_forward_residual": "final_layer_norm",
}


class HuggingFaceEngine:
    """A model in float32 built from a bundle."""

    def __init__(self, path: Path, variant: str, threads: int) -> None:
        """Open a bundle; the only ``variant`` is float32."""
        torch.set_num_threads(threads)
        bundle = load_bundle(path)
        self._ids = bundle.manifest.special_ids
        self._model = _build(bundle)

    @torch.inference_mode()
    def translate(self, sources: Sequence[Ids], search: Search, options: Mapping[str, object]) -> list[Ids]:
        """Translate sources as one batch; ``options`` are further ones of ``generate``."""
        padded = nn.utils.rnn.pad_sequence(
            [torch.tensor(source) for source in sources], batch_first=True, padding_value=self._ids.pad
        )
        lengths = torch.tensor([len(source) for source in sources])
        found = self._model.generate(
            input_ids=padded,
            attention_mask=(torch.arange(padded.shape[1]) < lengths[:, None]).long(),
            num_beams=search.beam,
            early_stopping=search.beam > 1,  # when as many hypotheses as beams have ended
            max_new_tokens=search.max_length,
            min_new_tokens=search.min_length,
            suppress_tokens=list(search.suppressed) or None,
            **options,
        )
        return [self._stripped(row.tolist()[1:]) for row in found]

    def _stripped(self, row: Ids) -> Ids:
        """Remove the end token and the padding behind it."""
        return row[: row.index(self._ids.eos)] if self._ids.eos in row else [i for i in row if i != self._ids.pad]


def can_build(bundle: Bundle) -> bool:
    """Return whether ``transformers`` has a model that computes what the bundle's does."""
    architecture = bundle.manifest.architecture
    sizes = architecture.sizes
    alike = all(sizes.get(name, value) == value for name, value in _NEEDED.items())
    return architecture.family == "transformer" and alike and sizes["positions"] != "rotary"


def _build(bundle: Bundle) -> Any:
    sizes, weights = bundle.manifest.architecture.sizes, read_weights(bundle)
    pre_norm = sizes["norm"] == "pre"
    kind, config = _M2M100 if pre_norm else _MARIAN
    settings = config(
        vocab_size=bundle.manifest.vocabulary_size,
        **configuration(sizes, **bundle.manifest.special_ids.model_dump(exclude={"unk"})),
    )
    model = kind(settings).eval()
    for side, coder in (("source", model.model.encoder), ("target", model.model.decoder)):
        table = torch.tensor(weights[f"{side}_positions.weight"])
        if pre_norm:  # its rows begin behind that of padding
            rows = bundle.manifest.special_ids.pad + 1
            coder.embed_positions.weights = torch.cat([torch.zeros(rows, table.shape[1]), table])
        else:
            coder.embed_positions.weight.data.copy_(table)
    missing, unexpected = model.load_state_dict(_state(weights, int(sizes["dim"]), pre_norm), strict=False)
    if unexpected or [name for name in missing if "position" not in name and "final_logits_bias" not in name]:
        raise RuntimeError(f"transformers wants {missing} and knows no {unexpected}: its model has changed")
    model.generation_config.forced_eos_token_id = None
    return model


def configuration(sizes: Mapping[str, Any], *, pad: int, bos: int, eos: int, decoder_start: int) -> dict[str, Any]:
    """Return the arguments of a configuration of ``transformers`` for a Transformer of these sizes."""
    both: dict[str, Any] = {}
    for coder in ("encoder", "decoder"):
        both |= {f"{coder}_layers": int(sizes[f"{coder}_layers"]), f"{coder}_attention_heads": int(sizes["heads"])}
        both[f"{coder}_ffn_dim"] = int(sizes["feedforward_dim"])
    return {
        **both,
        "d_model": int(sizes["dim"]),
        "activation_function": _ACTIVATIONS[str(sizes["activation"])],
        "scale_embedding": bool(sizes["scale_embedding"]),
        "max_position_embeddings": int(sizes["max_positions"]),
        "pad_token_id": pad,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "decoder_start_token_id": decoder_start,
        "forced_eos_token_id": None,
    }


def _state(weights: Weights, dim: int, pre_norm: bool) -> dict[str, Tensor]:
    """Return the parameters by their names in ``transformers``."""
    embedding = next(torch.tensor(w) for name, w in weights.items() if name.startswith(_TIED) and w.ndim == 2)
    shared = ("model.shared", "model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head")
    state = {f"{name}.weight": embedding for name in shared}
    for name, array in weights.items():
        coder, _, rest = name.partition("_layers.")
        if coder in ("encoder", "decoder") and rest:
            number, part, *inner, kind = rest.split(".")
            tensor = torch.tensor(array)
            for target, piece in _pieces(part, inner[0], tensor, dim):
                state[f"model.{coder}.layers.{number}.{target}.{kind}"] = piece
        elif pre_norm and name.startswith(("encoder_norm.", "decoder_norm.")):
            state[f"model.{name.replace('_norm.', '.layer_norm.')}"] = torch.tensor(array)
    return state


def _pieces(part: str, inner: str, tensor: Tensor, dim: int) -> list[tuple[str, Tensor]]:
    if part in _NORMS:
        return [(_NORMS[part], tensor)]
    if part == "feed_forward":
        return [({"expand": "fc1", "contract": "fc2"}[inner], tensor)]
    if inner == "key_value":
        return [(f"{_PARTS[part]}.{one}_proj", half) for one, half in zip("kv", tensor.split(dim), strict=True)]
    return [(f"{_PARTS[part]}.{'q' if inner == 'query' else 'out'}_proj", tensor)]
