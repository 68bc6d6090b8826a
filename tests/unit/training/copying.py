"""A word-level model that translates a few words and copies the names among them, which it cannot know."""

import random
from pathlib import Path

from tests.unit.training.tiny_run import tiny_tree
from training.config import parse_config
from training.run import run

KNOWN = {"red": "rouge", "big": "grand", "old": "vieux", "new": "neuf", "sad": "triste", "wet": "humide"}


def sentence(draw: random.Random) -> tuple[str, str]:
    """Known words in any order, and among them names, drawn from very many."""
    words = [draw.choice([*KNOWN, "?"]) for _ in range(draw.randint(2, 4))]
    names = ["".join(draw.choice("bdkmprt") + draw.choice("aeiou") for _ in range(4)) for _ in words]
    source = [name if word == "?" else word for word, name in zip(words, names, strict=True)]
    return " ".join(source), " ".join(KNOWN.get(word, word) for word in source)


def write_sentences(path: Path, count: int, seed: int) -> list[tuple[str, str]]:
    """A TSV of them; names apart, no two are alike."""
    draw = random.Random(seed)
    pairs = [sentence(draw) for _ in range(count)]
    path.write_text("".join(f"{source}\t{target}\n" for source, target in pairs), encoding="utf-8")
    return pairs


def train_copier(folder: Path) -> Path:
    """Train it in a few seconds; returns its checkpoint."""
    tree = tiny_tree(folder)
    write_sentences(folder / "t.tsv", 1500, seed=0)
    tree["tokenizer"] = {"kind": "word", "vocab_size": 12, "shared": False}
    tree["model"] = {"family": "rnn", "embedding_dim": 24, "hidden_dim": 32, "attention_dim": 32, "tie": "target"}
    tree["model"] |= {"dropout": 0.0}
    tree["data"]["reverse_source"] = True
    tree["batch"] = {"tokens": 300}
    tree["optimizer"] = {"learning_rate": 1e-2, "warmup_steps": 30, "average_decay": 0.9, "label_smoothing": 0.0}
    tree["validation"] = {"every_steps": 1000, "max_pairs": 20, "max_length": 20}
    tree["trainer"] |= {"max_steps": 300, "threads": 1, "checkpoint_every_steps": 400, "log_every_steps": 100}
    run(parse_config(tree))
    return folder / "run" / "last.ckpt"
