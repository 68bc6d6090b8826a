"""A Transformer with Marian's names and conventions in NumPy, from the equations of the papers, one token at a time.

Vaswani et al. (2017) for the Transformer, Kim et al. (2019) for the SSRU, Ba et al. (2016) for LayerNorm. Marian's own:
the first decoder input is a vector of zeros, frequencies of positions end at 1/10000, and LayerNorm adds 1e-6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Pasts = dict[str, Array]


@dataclass(frozen=True)
class Reference:
    """A model.

    Attributes:
        weights: By Marian's names.
        options: By Marian's names.
    """

    weights: Mapping[str, Array]
    options: Mapping[str, Any]

    def weight(self, name: str) -> Array:
        return self.weights[name].astype(np.float64)

    def table(self, side: str) -> Array:
        return self.weight("Wemb" if self.options.get("tied-embeddings-all") else f"{side}_Wemb")

    def placed(self, vector: Array, position: int) -> Array:
        """Scale an embedding by the root of its width and add its position; sines first, then cosines."""
        half = len(vector) // 2
        angles = position * np.exp(np.arange(half) * -np.log(10000) / (half - 1))
        found: Array = np.sqrt(len(vector)) * vector + np.concatenate([np.sin(angles), np.cos(angles)])
        return found

    def norm(self, x: Array, name: str, suffix: str = "") -> Array:
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        scale, bias = (self.weight(f"{name}_ln_{part}{suffix}")[0] for part in ("scale", "bias"))
        found: Array = scale * centred / deviation + bias
        return found

    def sublayer(self, x: Array, norm: str, before: str, function: Any) -> Array:
        if self.options["transformer-preprocess"] == "n":
            found: Array = x + function(self.norm(x, before, "_pre"))
            return found
        return self.norm(function(x) + x, norm)

    def attention(self, name: str, x: Array, keys_values: Array) -> Array:
        def linear(y: Array, part: str) -> Array:
            return y @ self.weight(f"{name}_W{part}") + self.weight(f"{name}_b{part}")

        heads = int(self.options["transformer-heads"])
        q, k, v = linear(x, "q"), linear(keys_values, "k"), linear(keys_values, "v")
        contexts = []
        for query, key, value in zip(*(np.split(y, heads, axis=-1) for y in (q, k, v)), strict=True):
            scores = query @ key.T / np.sqrt(key.shape[-1])
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            contexts.append(weights / weights.sum(-1, keepdims=True) @ value)
        return linear(np.concatenate(contexts, axis=-1), "o")

    def feed_forward(self, name: str, x: Array) -> Array:
        hidden = x @ self.weight(f"{name}_W1") + self.weight(f"{name}_b1")
        hidden = (
            np.maximum(hidden, 0) if self.options["transformer-ffn-activation"] == "relu" else hidden * sigmoid(hidden)
        )
        return hidden @ self.weight(f"{name}_W2") + self.weight(f"{name}_b2")

    def encode(self, source: list[int]) -> Array:
        x = np.stack([self.placed(self.table("encoder")[token], place) for place, token in enumerate(source)])
        for number in range(1, int(self.options["enc-depth"]) + 1):
            name = f"encoder_l{number}_self"
            x = self.sublayer(x, f"{name}_Wo", f"{name}_Wo", lambda y, name=name: self.attention(name, y, y))
            name = f"encoder_l{number}_ffn"
            x = self.sublayer(x, f"{name}_ffn", f"{name}_ffn", lambda y, name=name: self.feed_forward(name, y))
        return self.norm(x, "encoder_top") if self.options["transformer-postprocess-top"] == "n" else x

    def step(
        self, states: Array, token: int | None, position: int, pasts: Pasts, allowed: Array | None = None
    ) -> tuple[Array, Pasts]:
        """Return log-probabilities of the next token, among those allowed, and what the layers keep."""
        table, kept = self.table("decoder"), dict[str, Array]()
        x = self.placed(np.zeros(table.shape[1]) if token is None else table[token], position)[None]
        layers = self.options.get("transformer-tied-layers") or range(1, int(self.options["dec-depth"]) + 1)
        for number, shared in enumerate(layers):
            past = pasts.get(str(number))
            name = f"decoder_l{shared}_"
            if self.options["transformer-decoder-autoreg"] == "rnn":
                read, norm, before = self.ssru, f"{name}rnn_ffn", f"{name}rnn"
            else:
                read, norm, before = self.own_attention, f"{name}self_Wo", f"{name}self_Wo"

            def reading(y: Array, past: Any = past, number: int = number, name: str = name, read: Any = read) -> Array:
                output, kept[str(number)] = read(name, y, past)
                found: Array = output
                return found

            x = self.sublayer(x, norm, before, reading)
            full = f"{name}context"
            x = self.sublayer(x, f"{full}_Wo", f"{full}_Wo", lambda y, full=full: self.attention(full, y, states))
            full = f"{name}ffn"
            x = self.sublayer(x, f"{full}_ffn", f"{full}_ffn", lambda y, full=full: self.feed_forward(full, y))
        if self.options["transformer-postprocess-top"] == "n":
            x = self.norm(x, "decoder_top")
        output = table.T if self.options.get("tied-embeddings-all") or self.options.get("tied-embeddings") else None
        output = self.weight("decoder_ff_logit_out_Wt").T if output is None else output
        logits = (x @ output + self.weight("decoder_ff_logit_out_b"))[0]
        if allowed is not None:
            logits[~np.isin(np.arange(len(logits)), allowed)] = -np.inf
        return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max(), kept

    def ssru(self, name: str, x: Array, past: Array | None) -> tuple[Array, Array]:
        forget = sigmoid(x @ self.weight(f"{name}rnn_Wf") + self.weight(f"{name}rnn_bf"))
        cell = forget * (0 if past is None else past) + (1 - forget) * (x @ self.weight(f"{name}rnn_W"))
        return np.maximum(cell, 0), cell

    def own_attention(self, name: str, x: Array, past: Array | None) -> tuple[Array, Array]:
        inputs = x if past is None else np.concatenate([past, x])
        return self.attention(f"{name}self", x, inputs), inputs


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


@dataclass
class Hypothesis:
    """A translation, or its beginning."""

    tokens: list[int] = field(default_factory=list)
    total: float = 0.0
    pasts: Pasts = field(default_factory=dict)


@dataclass(frozen=True)
class Search:
    """Beam search, which each hypothesis that ends makes narrower, as in Marian.

    Attributes:
        model: To search in.
        banned: Tokens that are never generated.
        beam: Width.
        exponent: Of the length that totals are divided by, the end token counted.
        limit: Most tokens, the end token not counted.
    """

    model: Reference
    banned: list[int]
    beam: int
    exponent: float
    limit: int
    end: int = 0

    def translate(self, source: list[int], allowed: Array | None = None) -> list[tuple[list[int], float]]:
        """Return tokens and scores of hypotheses, best first; of what there is at the limit too, if there is room."""
        states = self.model.encode(source)
        live, found = [Hypothesis()], list[tuple[list[int], float]]()
        while live and len(found) < self.beam and len(live[0].tokens) < self.limit:
            candidates = sorted(self.candidates(states, live, allowed), key=lambda one: -one.total)
            width, live = self.beam - len(found), []
            for one in candidates[:width]:
                if one.tokens[-1] != self.end:
                    live.append(one)
                else:
                    found.append((one.tokens[:-1], one.total / len(one.tokens) ** self.exponent))
        rest = [(one.tokens, one.total / max(len(one.tokens), 1) ** self.exponent) for one in live]
        return sorted(found + rest[: max(0, self.beam - len(found))], key=lambda one: -one[1])[: self.beam]

    def candidates(self, states: Array, live: list[Hypothesis], allowed: Array | None) -> list[Hypothesis]:
        grown = []
        for one in live:
            last = one.tokens[-1] if one.tokens else None
            log_probs, pasts = self.model.step(states, last, len(one.tokens), one.pasts, allowed)
            log_probs[self.banned] = -np.inf
            best = np.argsort(-log_probs)[: 2 * self.beam]
            grown += [Hypothesis([*one.tokens, int(t)], one.total + float(log_probs[t]), pasts) for t in best]
        return grown
