"""A configuration that trains for a few steps in a second or two."""

from pathlib import Path
from typing import Any

from training.config import TrainingConfig, parse_config

TRANSFORMER = {
    "family": "transformer",
    "dim": 16,
    "heads": 2,
    "feedforward_dim": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
}


def tiny_tree(folder: Path) -> dict[str, Any]:
    """The YAML tree of it, with its corpus written to the folder."""
    rows = [f"word{i % 7} and word{i % 5} {'so ' * (i % 4)}\tmot{i % 7} et mot{i % 5}\n" for i in range(60)]
    (folder / "t.tsv").write_text("".join(rows), encoding="utf-8")
    files = {"tsv": str(folder / "t.tsv")}
    return {
        "run_dir": str(folder / "run"),
        "cache_dir": str(folder / "cache"),
        "languages": ["en", "fr"],
        "data": {"train": files, "valid": files, "filters": {"drop_duplicates": False}},
        "tokenizer": {"vocab_size": 278},
        "model": TRANSFORMER,
        "batch": {"tokens": 100},
        "optimizer": {"average_decay": 0.5, "warmup_steps": 1},
        "validation": {"every_steps": 2, "max_pairs": 4, "max_length": 8},
        "trainer": {
            "max_steps": 3,
            "accelerator": "cpu",
            "checkpoint_every_steps": 3,
            "log_every_steps": 1,
            "progress_bar": False,
            "tensorboard": False,
        },
    }


def tiny_config(folder: Path, **sections: dict[str, Any]) -> TrainingConfig:
    """The same, checked, with keys of some sections replaced."""
    tree = tiny_tree(folder)
    for name, values in sections.items():
        tree[name] = {**tree[name], **values}
    return parse_config(tree)
