"""Random models as Marian itself writes them: ``.npz``, ``.bin`` in 32, 16 or 8 bits, vocabularies and lexicons."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import yaml
from numpy.typing import NDArray

from loadtests.service.sentences import BUNDLED, read_lines

SENTENCES = read_lines(BUNDLED)
PIECES = 160
STUDENT = {
    "type": "transformer",
    "dim-emb": 16,
    "enc-depth": 2,
    "dec-depth": 2,
    "transformer-heads": 2,
    "transformer-dim-ffn": 24,
    "transformer-ffn-depth": 2,
    "transformer-ffn-activation": "relu",
    "transformer-preprocess": "",
    "transformer-postprocess": "dan",
    "transformer-postprocess-emb": "d",
    "transformer-postprocess-top": "",
    "transformer-decoder-autoreg": "rnn",
    "dec-cell": "ssru",
    "transformer-guided-alignment-layer": "last",
    "transformer-tied-layers": [],
    "transformer-train-position-embeddings": False,
    "transformer-no-projection": False,
    "layer-normalization": False,
    "right-left": False,
    "lemma-dim-emb": 0,
    "input-types": [],
    "tied-embeddings": False,
    "tied-embeddings-src": False,
    "tied-embeddings-all": True,
    "version": "v1.9.56 a1bb1cb 2021-08-04",
}
Weights = dict[str, NDArray[np.float32]]


def spm(sentences: Sequence[str] = SENTENCES, pieces: int = PIECES, **options: Any) -> bytes:
    """A SentencePiece model with the special ids that Marian trains it with."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=pieces,
        bos_id=-1,
        eos_id=0,
        unk_id=1,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


def random_weights(options: Mapping[str, Any], sizes: tuple[int, int], ends: float = 2.0) -> Weights:
    """Weights of a model; ``ends`` is added to the logit of the end token, so that translations are of all lengths."""
    draw = np.random.default_rng(2)
    dim, ffn = int(options["dim-emb"]), int(options["transformer-dim-ffn"])
    weights: Weights = {}

    def matrix(name: str, rows: int, columns: int, deviation: float = 0.35) -> None:
        peaked = 2 if name == "Wemb" or (name.startswith("decoder_l") and "_W" in name) else 1  # so that beams differ
        weights[name] = draw.normal(size=(rows, columns), scale=deviation * peaked).astype(np.float32)

    def norm(name: str, suffix: str = "") -> None:
        weights[f"{name}_ln_scale{suffix}"] = draw.normal(1, 0.1, (1, dim)).astype(np.float32)
        matrix(f"{name}_ln_bias{suffix}", 1, dim, 0.1)

    def attention(name: str) -> None:
        for part in "qkvo":
            matrix(f"{name}_W{part}", dim, dim)
            matrix(f"{name}_b{part}", 1, dim, 0.1)
        norm(f"{name}_Wo", suffix)

    suffix = "_pre" if options["transformer-preprocess"] == "n" else ""
    for coder, depth in (("encoder", options["enc-depth"]), ("decoder", options["dec-depth"])):
        for number in range(1, int(depth) + 1):
            layer = f"{coder}_l{number}"
            if coder == "decoder" and options["transformer-decoder-autoreg"] == "rnn":
                matrix(f"{layer}_rnn_W", dim, dim, 0.6)
                matrix(f"{layer}_rnn_Wf", dim, dim)
                matrix(f"{layer}_rnn_bf", 1, dim)
                norm(f"{layer}_rnn{'' if suffix else '_ffn'}", suffix)
            else:
                attention(f"{layer}_self")
            if coder == "decoder":
                attention(f"{layer}_context")
            matrix(f"{layer}_ffn_W1", dim, ffn)
            matrix(f"{layer}_ffn_b1", 1, ffn, 0.1)
            matrix(f"{layer}_ffn_W2", ffn, dim)
            matrix(f"{layer}_ffn_b2", 1, dim, 0.1)
            norm(f"{layer}_ffn_ffn", suffix)
        if options["transformer-postprocess-top"] == "n":
            norm(f"{coder}_top")
    if options["tied-embeddings-all"]:
        matrix("Wemb", sizes[0], dim)
    else:
        matrix("encoder_Wemb", sizes[0], dim)
        matrix("decoder_Wemb", sizes[1], dim)
    if not (options["tied-embeddings-all"] or options["tied-embeddings"]):
        matrix("decoder_ff_logit_out_Wt", sizes[1], dim)
    matrix("decoder_ff_logit_out_b", 1, sizes[1], 0.5)
    weights["decoder_ff_logit_out_b"][0, 0] += ends
    return weights


def write_npz(path: Path, weights: Weights, options: Mapping[str, Any]) -> None:
    meta = np.frombuffer(yaml.safe_dump(dict(options)).encode() + b"\0", dtype=np.int8)
    np.savez(path, **{"special:model.yml": meta, **weights})  # type: ignore[arg-type]


def quantized(weights: Weights, bits: int) -> dict[str, tuple[NDArray[Any], float]]:
    """The matrices that marian-conv rounds, and what they were multiplied by: one number a matrix."""
    found = {}
    for name, weight in weights.items():
        if "Wemb" in name or name.endswith("_W") or name[:-1].endswith("_W"):
            factor = np.float32(1024 if bits == 16 else 127 / np.abs(weight).max())
            found[name] = np.rint(weight * factor).astype(f"<i{bits // 8}"), float(factor)
    return found


def dequantized(weights: Weights, bits: int) -> Weights:
    rounded = quantized(weights, bits)
    real = {name: values * (np.float32(1) / np.float32(factor)) for name, (values, factor) in rounded.items()}
    return {**weights, **real}


def bin_of(
    weights: Weights, options: Mapping[str, Any], bits: int = 32, *, alphas: bool = False, padded: bool = True
) -> bytes:
    """A model in Marian's binary format; with alphas, the ranges of 8-bit activations are there too."""
    rounded = quantized(weights, bits) if bits < 32 else {}
    items: list[tuple[str, int, tuple[int, ...], bytes]] = []
    for name, weight in weights.items():
        if name in rounded:
            values, factor = rounded[name]
            stored = values if "Wemb" in name else values.T
            content = stored.tobytes() + struct.pack("<f", factor)
            items.append((name, 0x4101 if bits == 8 else 0x4102, weight.shape, content))
        else:
            items.append((name, 0x0404, weight.shape, weight.tobytes()))
        if alphas and name in rounded:
            items.append((f"{name}_QuantMultA", 0x0404, (1, 1), struct.pack("<f", 9.5)))
    meta = yaml.safe_dump(dict(options)).encode() + b"\0"
    items.append(("special:model.yml", 0x0101, (len(meta),), meta))
    filled = [(name, kind, shape, data + bytes(-len(data) % 256 if padded else 0)) for name, kind, shape, data in items]
    out = struct.pack("<2Q", 1, len(filled))
    out += b"".join(
        struct.pack("<4Q", len(name) + 1, kind, len(shape), len(data)) for name, kind, shape, data in filled
    )
    out += b"".join(name.encode() + b"\0" for name, *_ in filled)
    out += b"".join(struct.pack(f"<{len(shape)}i", *shape) for _, _, shape, _ in filled)
    gap = -(len(out) + 8) % 256
    return out + struct.pack("<Q", gap) + bytes(gap) + b"".join(data for *_, data in filled)


def lexicon_of(lists: Sequence[Sequence[int]], first: int, best: int) -> bytes:
    """A binary lexicon, with its checksum."""
    offsets = np.cumsum([0, *(len(targets) for targets in lists)]).astype("<u8")
    targets = np.array([target for some in lists for target in some], dtype="<u4")
    rest = struct.pack("<4Q", first, best, len(offsets), len(targets)) + offsets.tobytes() + targets.tobytes()
    checksum = 0
    for (word,) in struct.iter_unpack("<Q", rest[: len(rest) // 8 * 8]):
        checksum ^= (word + 0x9E3779B9 + (checksum << 6) + (checksum >> 2)) % (1 << 64)
    return struct.pack("<2Q", 0xF11A48D5013417F5, checksum) + rest
