"""Random MarianMT models with tokenizers of their own, written as Hugging Face writes them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch

from loadtests.service.sentences import BUNDLED, read_lines

SENTENCES = read_lines(BUNDLED)
PIECES = 160
EOS, UNK = 0, 1
_BASE = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 128,
    "activation_function": "swish",
    "scale_embedding": True,
    "init_std": 0.3,
}


def spm(sentences: list[str], pieces: int = PIECES) -> bytes:
    """A SentencePiece model with ids of its own, which the table beside it does not follow."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, vocab_size=pieces, bos_id=-1, minloglevel=2
    )
    return model.getvalue()


def table(*models: bytes) -> dict[str, int]:
    """Ids of all pieces: end, unknown, the pieces in an order of their own, filler last."""
    pieces = set[str]()
    for model in models:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces |= {processor.id_to_piece(i) for i in range(processor.get_piece_size())}
    names = ["</s>", "<unk>", *sorted(pieces - {"</s>", "<unk>", "<pad>"}, key=lambda piece: piece[::-1]), "<pad>"]
    return {piece: number for number, piece in enumerate(names)}


def marian(
    folder: Path,
    *,
    separate: bool = False,
    padding: int = 0,
    ends: float = 2.5,
    targets: tuple[str, ...] = (),
    **config: Any,
) -> Any:
    """Write a random model to a folder and return it; ``padding`` more ids than there are pieces.

    ``ends`` is added to the logit of the end token, so that translations are of all lengths. ``targets`` have tokens.
    """
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra train-peer)")
    source, target = spm(SENTENCES, PIECES + 7), spm([line[::-1] for line in SENTENCES])
    tables = [table(source), table(target)] if separate else [table(source, target)] * 2
    tables[0] |= {f">>{code}<<": len(tables[0]) + number for number, code in enumerate(targets)}
    pad = tables[1]["<pad>"]
    torch.manual_seed(0)
    settings = transformers.MarianConfig(
        **{
            **_BASE,
            "vocab_size": len(tables[0]) + padding,
            "decoder_vocab_size": len(tables[1]) + padding,
            "share_encoder_decoder_embeddings": not separate,
            "pad_token_id": pad,
            "decoder_start_token_id": pad,
            "eos_token_id": EOS,
            **config,
        }
    )
    model = transformers.MarianMTModel(settings).eval()
    with torch.no_grad():
        model.final_logits_bias.normal_(std=0.5)
        model.final_logits_bias[0, EOS] += ends
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.generation_config.bad_words_ids = [[pad]]
    model.generation_config.max_length = 31
    model.save_pretrained(folder)
    (folder / "source.spm").write_bytes(source)
    (folder / "target.spm").write_bytes(target)
    (folder / "vocab.json").write_text(json.dumps(tables[0]))
    if separate:
        (folder / "target_vocab.json").write_text(json.dumps(tables[1]))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"source_lang": "en", "target_lang": "de", "separate_vocabs": separate})
    )
    return model
