"""Words that translate each other are found by what they are seen with."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from training.cli import main
from training.commands.lexicon import write_lexicon
from training.data.lexicon import word_pairs
from training.data.parallel_text import Pair

LETTERS = "abcdefghijklmnopqrst"
WORDS = [(f"s{a}{b}", f"t{a}{b}") for a in LETTERS for b in LETTERS]
NAME = ("Anna", "Anna")


def text(extra: dict[int, tuple[str, str]], count: int = 3000) -> list[Pair]:
    """Sentences of four words, each of which translates to one, in another order; ``extra`` begins some of them."""
    random, pairs = Random(1), []
    for number in range(count):
        chosen = random.sample(WORDS, 4)
        source, target = [s for s, _ in chosen], [t for _, t in random.sample(chosen, 4)]
        if number in extra:
            source, target = [source[0], extra[number][0], *source[1:]], [target[0], extra[number][1], *target[1:]]
        pairs.append(Pair(" ".join(source), " ".join(target), "a"))
    return pairs


def test_each_word_finds_its_translation() -> None:
    found = [(pair.source, pair.target) for pair in word_pairs(text({}))]
    assert found == sorted(WORDS)


def test_names_are_left_out_and_what_is_left_as_it_is_now_and_then_is_not() -> None:
    greetings = {number: ("Hello", "Hello" if number % 3 == 0 else "bonjour") for number in range(0, 60, 2)}
    names = dict.fromkeys(range(61, 121, 2), NAME)
    found = {pair.source: pair.target for pair in word_pairs(text(greetings | names))}
    assert found["Hello"] == "bonjour"
    assert "Anna" not in found
    assert "Anna" not in found.values()


def test_rare_words_and_words_that_are_everywhere_are_left_out() -> None:
    rare = dict.fromkeys((3, 5, 7), ("rare", "sparse"))
    pairs = [Pair(f"the {pair.source}", f"le {pair.target}", "a") for pair in text(rare)]
    found = {pair.source for pair in word_pairs(pairs)}
    assert len(found) == len(WORDS)
    assert not found & {"rare", "the"}
    assert word_pairs(pairs[:3]) == []


def test_a_lexicon_has_each_word_bare_and_as_a_sentence(tmp_path: Path) -> None:
    write_lexicon([Pair("frog", "grenouille", "")], tmp_path / "new" / "lexicon.tsv")
    assert (tmp_path / "new" / "lexicon.tsv").read_text() == "frog\tgrenouille\nFrog.\tGrenouille.\n"


CONFIG = """
run_dir: {folder}/run
languages: [en, fr]
data:
  train: {{tsv: {folder}/train.tsv, name: a}}
  valid: {{tsv: {folder}/train.tsv, name: a}}
model: {{family: transformer, dim: 64, heads: 8}}
"""


def test_the_command_reads_the_corpus_of_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.tsv").write_text("".join(f"{pair.source}\t{pair.target}\n" for pair in text({})))
    (tmp_path / "run.yaml").write_text(CONFIG.format(folder=tmp_path))
    assert main(["lexicon", str(tmp_path / "run.yaml"), str(tmp_path / "lexicon.tsv")]) == 0
    assert main(["lexicon", str(tmp_path / "run.yaml"), str(tmp_path / "none.tsv"), "--pairs", "3"]) == 1
    assert "raise --pairs" in capsys.readouterr().err
    lines = (tmp_path / "lexicon.tsv").read_text().splitlines()
    assert lines[::2] == [f"{source}\t{target}" for source, target in sorted(WORDS)]
