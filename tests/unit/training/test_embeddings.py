"""Vectors of every format reach the tokens they are meant for, and frozen ones never change."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.unit.training.tiny_run import tiny_tree
from training.checkpoint import load
from training.config import parse_config
from training.data.subwords import Subwords, train_subwords
from training.data.tokenizer import load_tokenizer
from training.data.words import Words, train_words
from training.embeddings import EmbeddingSettings, initialise_embeddings, match_vectors, read_vectors
from training.errors import ConfigError, DataError
from training.models.build import build_model
from training.models.contract import LanguageModel, Vocabulary
from training.models.rnn import RnnSettings
from training.run import run

RANDOM = np.random.default_rng(0)
VECTORS = {
    word: RANDOM.normal(size=4).astype(np.float32) for word in ("the", "Cat", "cat", "new york", "'", "\u00e9t\u00e9")
}


def write_vectors(folder: Path, kind: str) -> Path:
    text = [f"{word} {' '.join(f'{v:.6f}' for v in vector)}" for word, vector in VECTORS.items()]
    header = f"{len(VECTORS)} 4"
    path = folder / f"vectors.{kind}"
    if kind == "glove.gz":
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.write("\n".join(text) + "\n")
    elif kind == "word2vec.txt":
        path.write_text("\n".join([header, *text]) + "\n", encoding="utf-8")
    else:
        end = b"\n" if kind == "newlines.bin" else b""
        rows = [w.replace(" ", "_").encode() + b" " + v.astype("<f4").tobytes() + end for w, v in VECTORS.items()]
        path.write_bytes(header.encode() + b"\n" + b"".join(rows))
    return path


@pytest.mark.parametrize("kind", ["glove.gz", "word2vec.txt", "word2vec.bin", "newlines.bin"])
def test_all_formats_read_the_same(tmp_path: Path, kind: str) -> None:
    found = list(read_vectors(write_vectors(tmp_path, kind)))
    assert [word.replace("_", " ") for word, _ in found] == list(VECTORS)
    for (_, vector), expected in zip(found, VECTORS.values(), strict=True):
        np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_words_and_subwords_find_their_vectors(tmp_path: Path) -> None:
    path = write_vectors(tmp_path, "glove.gz")
    words = Words(train_words(["The Cat's cat dog"], 20))
    found = match_vectors(path, words, 4)
    named = {words.pieces[number]: vector for number, vector in found.items()}
    assert named.keys() == {"▁The", "▁Cat", "'", "▁cat"}
    for piece, word in (("▁The", "the"), ("▁Cat", "Cat"), ("▁cat", "cat"), ("'", "'")):
        np.testing.assert_allclose(named[piece], VECTORS[word], atol=1e-5)
    subwords = Subwords(train_subwords(["cat the scatter cat the cats"] * 20, 274, kind="bpe"))
    inside = {subwords.pieces[number] for number in match_vectors(path, subwords, 4)}
    assert inside == {"▁cat", "▁the"}
    of_subwords = tmp_path / "subwords.txt"
    of_subwords.write_text("cat 1 2 3 4\n▁cat 4 3 2 1\n", encoding="utf-8")
    found = match_vectors(of_subwords, subwords, 4)
    assert {subwords.pieces[number]: int(vector[0]) for number, vector in found.items()} == {"cat": 1, "▁cat": 4}
    with pytest.raises(DataError, match="vectors of 4 numbers, but the model's embeddings have 5"):
        match_vectors(path, words, 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a 0.5 0.25\nb 0.5 x\n", "line 2: one of 2 numbers is none"),
        (b"a 0.5 0.25\nb 0.5\n", "line 2: "),
        (b"2 4\na \x00\x01\x02\x03", "the file ends in word 1 of 2"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "v"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_vectors(path))
    with pytest.raises(DataError, match=r"none cannot be read: No such file"):
        list(read_vectors(tmp_path / "none"))


def weight_of(model: LanguageModel, side: str) -> torch.Tensor:
    embedding = getattr(model, f"{side}_embedding")
    assert isinstance(embedding, torch.nn.Embedding)
    return embedding.weight.detach()


def test_coverage_and_scale(tmp_path: Path) -> None:
    words = Words(train_words(["the cat dog"], 20))
    vocabulary = Vocabulary(words.size, words.size, shared=False)
    model = build_model(RnnSettings(embedding_dim=4, hidden_dim=4, attention_dim=4, tie="target"), vocabulary)
    before = weight_of(model, "source").clone()
    counts: NDArray[np.int64] = np.zeros(words.size, dtype=np.int64)
    counts[words.encode(["the the cat dog"])[0]] = 1
    counts[words.pieces.index("▁the")] = 2
    settings = EmbeddingSettings(source=write_vectors(tmp_path, "glove.gz"))
    coverage = initialise_embeddings(model, {"source": words, "target": words}, {"source": counts}, settings)
    assert str(coverage["source"]) == f"2 of {words.size} tokens, which make up 75.0 % of the text"
    after = weight_of(model, "source")
    changed = {words.pieces[i] for i in range(words.size) if not torch.equal(before[i], after[i])}
    assert changed == {"▁the", "▁cat"}
    cosine = torch.cosine_similarity(after[words.pieces.index("▁the")], torch.tensor(VECTORS["the"]), dim=0)
    assert float(cosine) == pytest.approx(1.0, abs=1e-5)
    rows = [words.pieces.index(piece) for piece in changed]
    assert float(after[rows].norm(dim=1).mean()) == pytest.approx(float(before.norm(dim=1).mean()))


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*litlogger.*")
@pytest.mark.parametrize("frozen", [True, False])
def test_a_run_starts_from_vectors_and_tunes_them_or_not(tmp_path: Path, frozen: bool) -> None:
    tree = tiny_tree(tmp_path)
    path = tmp_path / "glove.txt"
    path.write_text("word1 " + "1 " * 15 + "1\nmot2 " + "2 " * 15 + "2\n", encoding="utf-8")
    tree["tokenizer"] = {"kind": "word", "vocab_size": 30}
    tree["embeddings"] = {"target": str(path), "frozen": frozen}
    run(parse_config(tree))
    # And resumed: what is frozen stays so.
    tree["trainer"]["max_steps"] = 6
    run(parse_config(tree))
    loaded = load(tmp_path / "run" / "last.ckpt")
    weight = weight_of(loaded.model, "target")
    pieces = load_tokenizer(loaded.target_tokenizer_bytes).pieces
    one, two = (weight[pieces.index(piece)] for piece in ("▁word1", "▁mot2"))
    assert torch.equal(one, one[:1].expand(16)) == torch.equal(two, 2 * one) == frozen


def test_what_would_change_frozen_rows_is_refused(tmp_path: Path) -> None:
    tree = tiny_tree(tmp_path)
    tree["embeddings"], tree["optimizer"] = {"target": "x", "frozen": True}, {"weight_decay": 0.1}
    with pytest.raises(ConfigError, match=r"embeddings\.frozen is possible neither"):
        parse_config(tree)
