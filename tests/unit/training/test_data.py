"""Reading, filtering, subwords, the token store, and the order of batches."""

import gzip
import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.batches import BatchStream, make_batch
from training.data.cleaning import FilterReport, FilterSettings, clean_pairs, clean_text
from training.data.corpus import CorpusSettings, fingerprint, prepare_corpus, sample_pairs
from training.data.parallel_text import CorpusFiles, Pair, read_pairs
from training.data.sampler import BatchSettings, Position, TokenBatchSampler, cut_batches
from training.data.subwords import Subwords, SubwordSettings, train_subwords
from training.data.token_store import EncodedPair, open_store, write_store
from training.errors import DataError
from training.models.contract import Vocabulary

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ZAHLEN = ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]


def sentences(count: int, seed: int = 0) -> list[Pair]:
    random = np.random.default_rng(seed)
    rows = [random.integers(10, size=random.integers(2, 9)) for _ in range(count)]
    return [
        Pair(" ".join(NUMBERS[d] for d in r), " ".join(ZAHLEN[d] for d in r), "even" if i % 2 == 0 else "odd")
        for i, r in enumerate(rows)
    ]


def write_corpus(folder: Path, pairs: list[Pair]) -> CorpusFiles:
    files = CorpusFiles(folder / "a.en.gz", folder / "a.de", folder / "a.label")
    with gzip.open(folder / "a.en.gz", "wt", encoding="utf-8") as out:
        out.writelines(p.source + "\n" for p in pairs)
    (folder / "a.de").write_text("".join(p.target + "\n" for p in pairs), encoding="utf-8")
    (folder / "a.label").write_text("".join(p.label + "\n" for p in pairs), encoding="utf-8")
    return files


def test_gzip_plain_and_tsv_read_the_same(tmp_path: Path) -> None:
    pairs = [*sentences(5), Pair("line\u2028separator", "x y", "even")]
    files = write_corpus(tmp_path, pairs)
    tsv = tmp_path / "a.tsv"
    tsv.write_text("".join(f"{p.source}\t{p.target}\t{p.label}\n" for p in pairs), encoding="utf-8")
    assert list(read_pairs(files)) == pairs
    assert list(read_pairs(CorpusFiles(tsv=tsv))) == pairs


def test_broken_corpora_are_named(tmp_path: Path) -> None:
    files = write_corpus(tmp_path, sentences(4))
    (tmp_path / "a.de").write_text("eins\n", encoding="utf-8")
    with pytest.raises(DataError, match="one ends after 1 lines"):
        list(read_pairs(files))
    (tmp_path / "a.de").write_bytes(b"\xff\n" * 4)
    with pytest.raises(DataError, match="not UTF-8"):
        list(read_pairs(files))
    (tmp_path / "b.tsv").write_text("only one column\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 1: 1 columns"):
        list(read_pairs(CorpusFiles(tsv=tmp_path / "b.tsv")))
    with pytest.raises(DataError, match="does not exist"):
        list(read_pairs(CorpusFiles(tsv=tmp_path / "none.tsv")))
    with pytest.raises(DataError, match="exactly one"):
        CorpusFiles(source=tmp_path / "a.de")


def test_filters_count_what_each_removed() -> None:
    raw = [
        Pair("a  b\u00a0c", "x y z", "in"),
        Pair("  ", "x", "in"),
        Pair("one", " ".join("x" * 12), "in"),
        Pair(" ".join("a" * 21), " ".join("b" * 21), "in"),
        Pair("Same words", "same WORDS", "in"),
        Pair("left", "out", "other"),
        Pair("cafe\u0301", "caf\u200b\x07e", "in"),
    ]
    report = FilterReport()
    kept = list(clean_pairs(raw, FilterSettings(max_words=20), frozenset({"in"}), report))
    assert kept == [Pair("a b c", "x y z", "in"), Pair("café", "cafe", "in")]
    assert (report.read, report.kept) == (7, 2)
    assert report.removed == Counter(empty=1, length_ratio=1, too_long=1, identical=1, label=1)
    assert "identical 1, label 1, length_ratio 1, too_long 1" in report.summary()


def test_clean_text_keeps_words_apart() -> None:
    assert clean_text(" a\tb \u3000c\r") == "a b c"


def test_subwords_round_trip_any_text_and_have_the_agreed_ids() -> None:
    model = train_subwords((t for p in sentences(200) for t in (p.source, p.target)), SubwordSettings(vocab_size=295))
    subwords = Subwords(model)
    assert subwords.size == 295
    texts = ["one two three", "neun fünf", "unseen: žluťoučký 木 42"]
    assert subwords.decode(subwords.encode(texts)) == texts
    assert min(i for row in subwords.encode(texts) for i in row) > 3
    with pytest.raises(DataError, match=r"lower tokenizer\.vocab_size"):
        train_subwords(iter(["too little text"]), SubwordSettings(vocab_size=5000))


rows = st.lists(st.integers(0, 70_000), min_size=1, max_size=6)
pair_lists = st.lists(st.tuples(rows, rows, st.integers(0, 2)), min_size=1, max_size=8)


@given(pairs=pair_lists)
@settings(max_examples=25, deadline=None)
def test_store_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    pairs: list[tuple[list[int], list[int], int]],
) -> None:
    directory = tmp_path_factory.mktemp("stores") / "s"
    encoded = [EncodedPair(*p) for p in pairs]
    write_store(directory, encoded, vocab_size=70_001, label_names=("a", "b", "c"), facts={"n": len(pairs)})
    store = open_store(directory)
    assert len(store) == len(pairs)
    assert store.facts == {"n": len(pairs)}
    for i, pair in enumerate(encoded):
        assert store.row("source", i).tolist() == pair.source
        assert store.row("target", i).tolist() == pair.target
        assert store.labels[i] == pair.label
    assert store.lengths("source").tolist() == [len(p.source) for p in encoded]


def test_failed_build_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> "itertools.chain[EncodedPair]":
        raise DataError("stop")

    with pytest.raises(DataError, match="stop"):
        write_store(tmp_path / "s", (broken() for _ in range(1)), vocab_size=9, label_names=("",), facts={})  # type: ignore[misc]
    assert list(tmp_path.iterdir()) == []


def corpus_settings(files: CorpusFiles) -> CorpusSettings:
    return CorpusSettings(files, {"even": 1.0, "odd": 0.5}, FilterSettings(), 50, SubwordSettings(vocab_size=295))


def test_corpus_is_prepared_once_for_the_same_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = sentences(300)
    config = corpus_settings(write_corpus(tmp_path, pairs))
    first = prepare_corpus(config, tmp_path / "cache")
    monkeypatch.setattr("training.data.corpus._train", None)
    monkeypatch.setattr("training.data.corpus.write_store", None)
    again = prepare_corpus(config, tmp_path / "cache")
    assert again.source.model == first.source.model
    assert len(again.store) == 300
    assert first.target.decode([first.store.row("target", 7).tolist()]) == [pairs[7].target]
    assert first.store.label_names[first.store.labels[7]] == "odd"
    assert fingerprint(replace(config, max_tokens=49)) != fingerprint(config)
    (tmp_path / "a.de").write_text("changed\n", encoding="utf-8")
    assert fingerprint(config) != next((tmp_path / "cache").iterdir()).name


def test_token_limit_is_counted(tmp_path: Path) -> None:
    config = replace(corpus_settings(write_corpus(tmp_path, sentences(300))), max_tokens=4)
    store = prepare_corpus(config, tmp_path / "cache").store
    assert store.lengths("source").max() <= 4
    assert "too_many_tokens" in store.facts["filters"]


def test_subword_sample_follows_the_weights(tmp_path: Path) -> None:
    config = replace(corpus_settings(write_corpus(tmp_path, sentences(2000))), weights={"even": 1.0, "odd": 0.25})
    counts = Counter(p.label for p in sample_pairs(config))
    assert counts["even"] == 1000
    assert 200 < counts["odd"] < 300
    few = replace(config, subwords=SubwordSettings(sample_lines=50))
    assert len(sample_pairs(few)) == 50


def sampler(weights: list[float], **overrides: int) -> TokenBatchSampler:
    random = np.random.default_rng(1)
    source, target = (random.integers(1, 30, len(weights)).astype(np.int32) for _ in range(2))
    settings = BatchSettings(**{"tokens": 100, "window": 64, **overrides})
    return TokenBatchSampler(source, target, np.array(weights, dtype=np.float32), settings, seed=4)


def test_batches_fit_the_budget_and_cover_every_pair_once() -> None:
    s = sampler([1.0] * 500)
    batches = list(s.epoch(0))
    for rows in batches:
        widest = max(s.source_lengths[rows].max(), s.target_lengths[rows].max())
        assert widest * len(rows) <= 100
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))


def test_a_pair_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    lengths = np.array([3, 3, 50, 3], dtype=np.int32)
    batches = cut_batches(np.arange(4), lengths, lengths, 10)
    assert [b.tolist() for b in batches] == [[0, 1], [2], [3]]


def test_weights_are_expected_copies() -> None:
    counts = np.zeros(3000)
    s = sampler([2.0] * 1000 + [0.25] * 1000 + [0.0] * 1000)
    for epoch in range(4):
        np.add.at(counts, np.concatenate(list(s.epoch(epoch))), 1)
    assert (counts[:1000] == 8).all()
    assert 900 < counts[1000:2000].sum() < 1100
    assert counts[2000:].sum() == 0


def test_order_is_seeded_changes_with_the_pass_and_resumes_in_the_middle() -> None:
    s = sampler([1.0] * 300)

    def take(start: Position, count: int) -> list[tuple[list[int], Position]]:
        return [(rows.tolist(), after) for rows, after in itertools.islice(s.batches(start), count)]

    whole = take(Position(), 150)
    assert whole == take(Position(), 150)
    assert whole[0][0] != take(Position(1, 0), 1)[0][0]
    assert {after.epoch for _, after in whole} >= {0, 1}
    for stop in (1, 17, 60, 120):
        assert take(whole[stop - 1][1], 20) == whole[stop : stop + 20]


def test_processes_share_the_batches_and_resume_together(tmp_path: Path, vocabulary: Vocabulary) -> None:
    encoded = [EncodedPair([4 + i % 9] * (1 + i % 5), [4 + i % 7] * (1 + i % 4), 0) for i in range(60)]
    write_store(tmp_path / "s", encoded, vocab_size=23, label_names=("",), facts={})
    store = open_store(tmp_path / "s")
    s = TokenBatchSampler(
        store.lengths("source") + 1, store.lengths("target") + 1, np.ones(60, np.float32), BatchSettings(tokens=24), 1
    )

    def stream(start: Position, rank: int, processes: int) -> list[torch.Tensor]:
        batches = BatchStream(store, s, vocabulary, start, rank=rank, processes=processes)
        return [b.source for b in itertools.islice(batches, 8 // processes)]

    alone = stream(Position(), 0, 1)
    zero, one = stream(Position(), 0, 2), stream(Position(), 1, 2)
    assert all(torch.equal(a, b) for a, b in zip(alone, itertools.chain(*zip(zero, one, strict=True)), strict=True))
    after = next(iter(BatchStream(store, s, vocabulary, Position(), rank=0, processes=2))).after
    assert torch.equal(stream(after, 1, 2)[0], one[1])


def test_batch_layout(vocabulary: Vocabulary) -> None:
    batch = make_batch([[5, 6], [7]], [[8], [9, 10]], vocabulary)
    assert batch.source.tolist() == [[5, 6, 3], [7, 3, 0]]
    assert batch.lengths.tolist() == [3, 2]
    assert batch.target_in.tolist() == [[2, 8, 0], [2, 9, 10]]
    assert batch.target_out.tolist() == [[8, 3, 0], [9, 10, 3]]
    assert batch.mask.tolist() == [[True, True, False], [True, True, True]]
    assert make_batch([[5, 6]], [[8]], vocabulary, reverse=True).source.tolist() == [[6, 5, 3]]


def test_real_corpus_reads_and_is_hardly_filtered(corpora: Path) -> None:
    files = CorpusFiles(*(corpora / "enfr" / f"valid.{kind}.gz" for kind in ("en", "fr", "source")))
    report = FilterReport()
    kept = list(clean_pairs(read_pairs(files), FilterSettings(), frozenset({"tatoeba"}), report))
    assert report.read == 2000
    assert report.removed["label"] == 1200
    assert len(kept) > 790
