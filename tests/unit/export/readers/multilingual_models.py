"""Random M2M100, NLLB and mBART-50 models with tokenizers of their own, written as Hugging Face writes them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Literal

import pytest
import sentencepiece
import torch

from tests.unit.export.readers.marian_models import SENTENCES

Family = Literal["m2m100", "nllb", "mbart50"]
CODES: dict[Family, list[str]] = {
    "m2m100": ["__af__", "__de__", "__en__", "__fr__", "__zh__"],
    "nllb": ["arb_Arab", "deu_Latn", "eng_Latn", "fra_Latn", "zho_Hans", "zho_Hant"],
    "mbart50": ["ar_AR", "de_DE", "en_XX", "fr_XX", "zh_CN"],
}
TAGS: dict[Family, list[str]] = {
    "m2m100": ["af", "de", "en", "fr", "zh"],
    "nllb": ["ar", "de", "en", "fr", "zh", "zh-Hant"],
    "mbart50": ["ar", "de", "en", "fr", "zh"],
}
PAD, EOS, PIECES = 1, 2, 170
_ENDS: dict[Family, float] = {"m2m100": 4.0, "nllb": 1.0, "mbart50": 2.0}
_BASE = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 128,
    "scale_embedding": True,
    "init_std": 0.3,
    "pad_token_id": PAD,
    "bos_token_id": 0,
    "eos_token_id": EOS,
    "decoder_start_token_id": EOS,
    "forced_eos_token_id": None,
}


def multilingual(folder: Path, family: Family, **config: Any) -> Any:
    """Write a random model to a folder and return it; its translations are of all lengths."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra train-peer)")
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=content, vocab_size=PIECES, model_type="bpe", minloglevel=2
    )
    own = sentencepiece.SentencePieceProcessor(model_proto=content.getvalue())
    names = ["<s>", "<pad>", "</s>", "<unk>", *(own.id_to_piece(number) for number in range(3, PIECES))]
    size = len(names) + len(CODES[family]) + (family != "m2m100") + 3  # and some that nothing spells
    torch.manual_seed(0)
    settings = {**_BASE, "vocab_size": size, "activation_function": "relu", **config}
    if family == "mbart50":
        model = transformers.MBartForConditionalGeneration(
            transformers.MBartConfig(**{**settings, "activation_function": "gelu"})
        ).eval()
    else:
        model = transformers.M2M100ForConditionalGeneration(transformers.M2M100Config(**settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        model.model.shared.weight[EOS] *= _ENDS[family]
    model.generation_config.bad_words_ids = [[PAD]]
    model.save_pretrained(folder)
    (folder / "sentencepiece.bpe.model").write_bytes(content.getvalue())
    if family == "m2m100":
        (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
    (folder / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": CODES[family]}))
    return model
