"""A guided head learns to attend to what it translates, and the rest of training stays as it was."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.training.tiny_run import TRANSFORMER, tiny_tree
from training.checkpoint import load
from training.config import parse_config
from training.data.token_store import UNALIGNED
from training.data.tokenizer import load_tokenizer
from training.errors import ConfigError
from training.guided_alignment import alignment_loss
from training.models.transformer import Transformer
from training.run import prepare, run

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*litlogger.*"),
]
GUIDED = {"weight": 1.0, "layer": 0, "head": 1, "pairs": 60}


def tree(folder: Path, steps: int, **sections: Any) -> dict[str, Any]:
    found = tiny_tree(folder)
    found["trainer"] |= {"max_steps": steps, "checkpoint_every_steps": steps}
    found["validation"] |= {"every_steps": steps, "metric": "loss"}
    found["optimizer"] |= {"learning_rate": 0.02, "average_decay": 0.0}
    return found | sections


def attended(folder: Path) -> float:
    """How much of the guided head's attention is where the corpus' links point, on average."""
    checkpoint = load(folder / "run" / "last.ckpt")
    read = load_tokenizer(checkpoint.source_tokenizer_bytes)
    model = checkpoint.model
    assert isinstance(model, Transformer)
    text, translation = "word3 and word4 so", "mot3 et mot4"
    source = torch.tensor([[*read.encode([text])[0], 3]])
    target = torch.tensor([[model.vocabulary.decoder_start, *read.encode([translation])[0]]])
    weights = model.attention(source, torch.tensor([source.shape[1]]), target)[0, 0, 1].detach()
    digits = {read.pieces[i]: n for n, i in enumerate(target[0].tolist()) if n}
    places = {read.pieces[i]: n for n, i in enumerate(source[0].tolist())}
    both = [piece for piece in "34" if piece in digits and piece in places]
    assert both
    # The step that reads token n - 1 writes token n.
    return sum(float(weights[digits[piece] - 1, places[piece]]) for piece in both) / len(both)


def test_loss_is_the_cross_entropy_of_linked_tokens() -> None:
    attention = torch.tensor([[[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]]], requires_grad=True)
    links = torch.tensor([[1, UNALIGNED, 0]])
    loss = alignment_loss(attention, links)
    assert loss.detach().item() == pytest.approx(-torch.tensor(0.5).log().item())
    loss.backward()
    assert attention.grad is not None
    assert attention.grad[0, 1].tolist() == [0.0, 0.0]
    assert torch.isfinite(alignment_loss(attention, torch.tensor([[1, 1, 1]])))


def test_links_of_a_batch_point_into_its_source(tmp_path: Path) -> None:
    config = parse_config(tree(tmp_path, 1, alignment=GUIDED))
    corpus, _ = prepare(config)
    links, targets = corpus.store.tokens["links"], corpus.store.tokens["target"]
    assert len(links) == len(targets)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("links-*")}
    assert len(files) == 1
    prepare(config)
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_the_head_attends_to_what_it_translates(tmp_path: Path) -> None:
    model = TRANSFORMER | {"dropout": 0.0}
    run(parse_config(tree(tmp_path, 80, model=model)))
    before = attended(tmp_path)
    run(parse_config(tree(tmp_path, 200, model=model, alignment=GUIDED)))  # resumed with guidance
    assert attended(tmp_path) > 0.6 > 10 * before
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 201))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"family": "rnn"}}, "only an encoder-decoder Transformer"),
        ({"alignment": GUIDED | {"head": 2}}, "1 layers of 2 heads"),
        ({"tokenizer": {"vocab_size": 278, "sampling": 0.1}}, "leave out data.reverse_source and tokenizer.sampling"),
    ],
)
def test_what_cannot_be_guided_is_refused(tmp_path: Path, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(tree(tmp_path, 1, **{"alignment": GUIDED, **sections}))
