"""Random MarianMT models against ``generate`` of the library that they come from."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from export.errors import ReadingError
from export.readers import huggingface_marian
from export.readers.kinds import kind_of
from export.trained_model import TrainedModel
from serving.bundle.manifest import DecodingDefaults, Languages
from serving.messages import EarlyStopping
from tests.unit.export.readers.marian_models import EOS, SENTENCES, marian
from training import decode

pytest.importorskip("transformers", reason="transformers is not installed (extra train-peer)")

SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "relu, untied": {"activation_function": "relu", "tie_word_embeddings": False},
    "separate vocabularies, unscaled": {"separate": True, "scale_embedding": False, "ends": 6.0},
    "separate and untied, gelu": {
        "separate": True,
        "ends": 6.0,
        "tie_word_embeddings": False,
        "activation_function": "gelu",
    },
    "padded vocabulary, three heads, deep encoder": {
        "padding": 5,
        "encoder_layers": 4,
        "decoder_layers": 1,
        "d_model": 36,
        "encoder_attention_heads": 3,
        "decoder_attention_heads": 3,
    },
}
LIMIT = 30


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Steps of tiny models are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def generated(model: Any, source: list[int], beam: int) -> tuple[list[int], float]:
    """The best hypothesis of ``generate`` and its score; what it is forced to end at the limit with is left out."""
    found = model.generate(
        torch.tensor([source]),
        num_beams=beam,
        early_stopping=True if beam > 1 else None,  # as our search: when as many hypotheses as beams have ended
        forced_eos_token_id=None,
        no_repeat_ngram_size=2,  # else random models repeat one token for ever
        max_length=LIMIT + 1,
        return_dict_in_generate=True,
        output_scores=True,
    )
    tokens = found.sequences[0, 1:].tolist()
    score = float(found.sequences_scores[0]) if beam > 1 else 0.0
    return (tokens[: tokens.index(EOS)] if EOS in tokens else tokens), score


@pytest.mark.parametrize("shape", SHAPES)
def test_a_random_model_translates_as_its_own_library(shape: str, tmp_path: Path) -> None:
    import transformers

    transformers.logging.disable_progress_bar()
    marian(tmp_path, **SHAPES[shape])
    model = transformers.MarianMTModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    tokenizer = transformers.MarianTokenizer.from_pretrained(tmp_path)
    kind = kind_of(tmp_path)
    assert kind.name == "a Hugging Face Marian model"
    assert kind.languages(tmp_path) == Languages.between("en", "de")
    trained = kind.read(tmp_path, Languages.between("en", "de"))
    texts = [*SENTENCES[:5], "Snow \u2603 and gr\u00fcn"]  # with characters that no piece has
    lengths = set()
    for text, ids in zip(texts, trained.encode(texts), strict=True):
        source = tokenizer(text).input_ids
        assert trained.framed(ids).tolist() == source
        for beam in (1, 4):
            tokens, score = generated(model, source, beam)
            options = decode.DecodeOptions(beam_size=beam, max_length=LIMIT, no_repeat_ngram_size=2)
            (best, *_) = decode.translate(trained.model, [ids], options)[0]
            assert list(best.tokens) == tokens
            assert beam == 1 or abs(best.score - score) < 1e-4
            lengths.add(len(tokens))
    assert len(lengths) > 2


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marian")
    marian(folder)
    return folder


def changed(plain: Path, folder: Path, file: str, **keys: object) -> Path:
    """A copy of the plain model with other values in a JSON file."""
    shutil.copytree(plain, folder, dirs_exist_ok=True)
    path = folder / file
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **keys}))
    return folder


def reasons(folder: Path) -> list[str]:
    with pytest.raises(ReadingError) as caught:
        huggingface_marian.read(folder, Languages.between("en", "de"))
    return caught.value.reasons


@pytest.mark.parametrize(
    ("file", "keys", "expected"),
    [
        (
            "config.json",
            {"normalize_before": True, "activation_function": "gelu_new"},
            ["normalize_before", "gelu_new"],
        ),
        ("config.json", {"decoder_attention_heads": 2}, ["must be equal"]),
        ("config.json", {"encoder_attention_heads": 5, "decoder_attention_heads": 5}, ["5 heads do not divide"]),
        ("config.json", {"d_model": "wide", "pad_token_id": None}, ["d_model is wide", "pad_token_id is None"]),
        ("config.json", {"eos_token_id": 3}, ["eos_token_id is 3 in config.json and 0 in generation_config.json"]),
        ("config.json", {"vocab_size": 50}, ["ids that are not from 0 to 49", "a special token id"]),
        ("config.json", {"encoder_layers": 3}, ["no weight encoder_layers.2"]),
        ("config.json", {"decoder_layers": 1}, ["weight model.decoder.layers.1"]),
        ("generation_config.json", {"repetition_penalty": 1.3, "do_sample": True}, ["do_sample", "repetition_penalty"]),
        ("generation_config.json", {"bad_words_ids": [[5, 6]]}, ["a sequence of several tokens"]),
        ("generation_config.json", {"suppress_tokens": [0]}, ["the end token may not be generated"]),
        (
            "generation_config.json",
            {"forced_eos_token_id": 3, "early_stopping": "maybe"},
            ["forced_eos_token_id is 3 and eos_token_id 0", "early_stopping is maybe"],
        ),
        ("generation_config.json", {"length_penalty": -1.0}, ["length_penalty is -1.0"]),
    ],
)
def test_what_cannot_be_represented_is_refused_with_every_reason(
    plain: Path, tmp_path: Path, file: str, keys: dict[str, object], expected: list[str]
) -> None:
    found = reasons(changed(plain, tmp_path, file, **keys))
    for part in expected:
        assert any(part in reason for reason in found), found


def test_damaged_and_hostile_weights_are_refused_and_nothing_runs(plain: Path, tmp_path: Path) -> None:
    weights = (plain / "model.safetensors").read_bytes()
    folder = changed(plain, tmp_path / "copy", "config.json")
    file = folder / "model.safetensors"
    header = json.dumps({"lm_head.weight": {"dtype": "F32", "shape": [9, 9], "data_offsets": [0, 10**9]}}).encode()
    for content in (b"", weights[: len(weights) // 2], weights[:-4], struct.pack("<Q", len(header)) + header):
        file.write_bytes(content)
        assert "model.safetensors is damaged" in reasons(folder)[0]
    file.unlink()
    assert "neither model.safetensors nor pytorch_model.bin" in reasons(folder)[0]
    torch.save({"weights": Explosive(tmp_path / "ran")}, folder / "pytorch_model.bin")
    assert "pytorch_model.bin is damaged or holds something else" in reasons(folder)[0]
    assert not (tmp_path / "ran").exists()


class Explosive:
    """What would run a command if it were unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = str(proof)

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path(self.proof),)


def test_pickled_weights_and_renormalised_scores(plain: Path, tmp_path: Path) -> None:
    folder = changed(plain, tmp_path / "copy", "generation_config.json", renormalize_logits=True)
    state = load_file(folder / "model.safetensors")
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    trained = huggingface_marian.read(folder, Languages.between("en", "de"))
    (pad,) = trained.vocabulary.suppressed
    log_probs = first_step(trained)
    assert log_probs[pad] == -torch.inf
    assert float(log_probs.exp().sum()) == pytest.approx(1.0, abs=1e-5)


def test_the_search_is_the_one_that_the_generation_configuration_asks_for(plain: Path, tmp_path: Path) -> None:
    as_written = huggingface_marian.read(plain, Languages.between("en", "de"))
    assert (as_written.defaults.beam_size, as_written.defaults.early_stopping) == (1, EarlyStopping.HEURISTIC)
    assert (as_written.search.ends_at_limit, as_written.search.renormalize) == (True, False)
    others = {"num_beams": 6, "early_stopping": True, "min_length": 4, "no_repeat_ngram_size": 3, "length_penalty": 0.0}
    folder = changed(plain, tmp_path, "generation_config.json", **others, forced_eos_token_id=None)
    found = huggingface_marian.read(folder, Languages.between("en", "de"))
    # Its minimum counts the start token.
    assert found.defaults == DecodingDefaults(beam_size=6, length_penalty=0.0, min_length=3, no_repeat_ngram_size=3)
    assert not found.search.ends_at_limit
    assert not (found.search.prefix_scored or found.search.prefix_counted)


def first_step(trained: TrainedModel) -> torch.Tensor:
    """The log-probabilities of the first token."""
    source = torch.from_numpy(trained.framed(trained.encode(SENTENCES[:1])[0]))[None]
    with torch.inference_mode():
        state = trained.model.encode(source, torch.tensor([source.shape[1]]))
        logits, _ = trained.model.decode_step(torch.tensor([trained.vocabulary.decoder_start]), state)
    return logits[0].log_softmax(dim=-1)


def test_where_the_filler_may_be_generated_another_token_fills(plain: Path, tmp_path: Path) -> None:
    folder = changed(plain, tmp_path / "copy", "generation_config.json", bad_words_ids=None)
    before, after = (huggingface_marian.read(path, Languages.between("en", "de")) for path in (plain, folder))
    old, new = before.vocabulary, after.vocabulary
    assert new.target_size == old.target_size + 1
    assert new.suppressed == (new.pad,) == (old.target_size,)
    assert new.decoder_start == old.pad
    assert torch.equal(first_step(after)[:-1], first_step(before))
