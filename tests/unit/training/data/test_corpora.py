"""Reading corpora in every form, mixing them, and preparing them once."""

import gzip
import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tests.unit.training.text import corpus_settings, number_pairs, write_corpus
from training.data.augmentation import AugmentationSettings
from training.data.corpora import Corpora, Mixture, read_corpora
from training.data.corpus import clean_corpus, clean_fingerprint, prepare_corpus, sample_pairs, token_fingerprint
from training.data.hub_dataset import HubDataset
from training.data.parallel_text import CorpusFiles, Pair, read_lines
from training.data.token_store import EncodedPair, open_store, write_store
from training.data.tokenizer import TokenizerSettings
from training.errors import DataError


def test_gzip_plain_and_tsv_read_the_same(tmp_path: Path) -> None:
    pairs = [*number_pairs(5), Pair("line\u2028separator", "x y", "even")]
    files = write_corpus(tmp_path, pairs)
    tsv = tmp_path / "a.tsv"
    tsv.write_text("".join(f"{p.source}\t{p.target}\t{p.label}\n" for p in pairs), encoding="utf-8")
    assert list(files.pairs()) == pairs
    assert list(CorpusFiles(tsv=tsv).pairs()) == pairs


def test_broken_corpora_are_named_with_file_and_line(tmp_path: Path) -> None:
    files = write_corpus(tmp_path, number_pairs(4))
    (tmp_path / "a.de").write_text("eins\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.de, line 2: the file ends after 1 lines, but .*a\.en\.gz goes on"):
        list(files.pairs())
    (tmp_path / "a.de").write_bytes(b"eins\nf\xffnf\n" * 2)
    with pytest.raises(DataError, match=r"a\.de, line 2, byte 2: this is not UTF-8"):
        list(files.pairs())
    (tmp_path / "a.de").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.de is empty"):
        list(files.pairs())
    (tmp_path / "a.de").write_text("eins\n" * 4, encoding="utf-8")
    whole = (tmp_path / "a.en.gz").read_bytes()
    (tmp_path / "a.en.gz").write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"a\.en\.gz, after line \d: the gzip data is damaged"):
        list(files.pairs())
    (tmp_path / "b.tsv").write_text("a\tb\nonly one column\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.tsv, line 2: 1 columns"):
        list(CorpusFiles(tsv=tmp_path / "b.tsv").pairs())
    with pytest.raises(DataError, match="does not exist"):
        list(CorpusFiles(tsv=tmp_path / "none.tsv").pairs())
    with pytest.raises(DataError, match="exactly one"):
        CorpusFiles(source=tmp_path / "a.de")


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("form", ["parquet", "json"])
def test_folders_of_data_files_load_by_name(tmp_path: Path, form: str) -> None:
    pairs = number_pairs(6)
    rows = [{"id": i, "translation": {"en": p.source, "de": p.target}} for i, p in enumerate(pairs)]
    folder = tmp_path / "set"
    folder.mkdir()
    if form == "parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
    else:
        (folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    corpus = HubDataset(str(folder), ("translation.en", "translation.de"), name="set")
    assert list(corpus.pairs()) == [replace(p, label="set") for p in pairs]
    assert len(corpus.identity()) == 1
    with pytest.raises(DataError, match=r"row 1: there is no column translation\.fr; it has id, translation"):
        list(replace(corpus, columns=("translation.en", "translation.fr")).pairs())
    with pytest.raises(DataError, match="row 1: column id holds 0, which is not text"):
        list(replace(corpus, columns=("id", "id")).pairs())
    with pytest.raises(DataError, match="split valid, cannot be loaded: "):
        list(replace(corpus, split="valid").pairs())


@pytest.mark.usefixtures("no_hub")
def test_a_missing_data_set_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be loaded: ") as error:
        list(HubDataset(str(tmp_path / "none"), ("a", "b")).pairs())
    assert "\n" not in str(error.value)


def test_one_corpus_or_several_of_either_kind(tmp_path: Path) -> None:
    parse = TypeAdapter(Corpora).validate_python
    one = {"tsv": "a.tsv"}
    assert parse(one) == parse([one]) == (CorpusFiles(tsv=Path("a.tsv")),)
    both = parse([one, {"dataset": "x/y", "columns": ["en", "de"], "subset": "en-de"}])
    assert both[1] == HubDataset("x/y", ("en", "de"), "en-de")
    assert TypeAdapter(Corpora).validate_json(TypeAdapter(Corpora).dump_json(both)) == both
    for name in ("a", "b"):
        (tmp_path / f"{name}.tsv").write_text(f"{name}\t{name}{name}\n", encoding="utf-8")
    corpora = [CorpusFiles(tsv=tmp_path / f"{name}.tsv", name=name) for name in ("a", "b")]
    assert list(read_corpora(corpora)) == [Pair("a", "aa", "a"), Pair("b", "bb", "b")]


def test_weights_choose_and_repeat() -> None:
    mixture = Mixture({"a": 2.0, "b": 0.5, "c": 0.0})
    assert mixture.labels == frozenset({"a", "b"})
    assert mixture.copies({"a": 10, "b": 20}) == {"a": 2.0, "b": 0.5}
    with pytest.raises(DataError, match="names b, but no pair is left of that label; there are 'a'"):
        mixture.copies({"a": 10})
    pairs = [Pair("", "", label) for label in ("a", "c", "", "d")]
    assert [p.label for p in mixture.seen(pairs)] == ["a", ""]


@given(
    sizes=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 10_000), min_size=1), temperature=st.floats(1.0, 50.0)
)
@settings(max_examples=100, deadline=None)
def test_temperature_evens_out_sizes_and_keeps_the_length_of_a_pass(sizes: dict[str, int], temperature: float) -> None:
    copies = Mixture(temperature=temperature).copies(sizes)
    seen = {label: copies[label] * size for label, size in sizes.items()}
    assert sum(seen.values()) == pytest.approx(sum(sizes.values()))
    for a, b in itertools.permutations(sizes, 2):
        assert seen[a] / seen[b] == pytest.approx((sizes[a] / sizes[b]) ** (1 / temperature))


def test_contradictions_in_a_mixture_are_refused() -> None:
    with pytest.raises(DataError, match="exclude each other"):
        Mixture({"a": 1.0}, temperature=2.0)
    with pytest.raises(DataError, match="must be 1 or more"):
        Mixture(temperature=0.5)
    with pytest.raises(DataError, match="below 0"):
        Mixture({"a": -1.0})


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
    write_store(directory, encoded, vocab_size=70_001, label_names=("a", "b", "c"), removed=Counter(long=2))
    store = open_store(directory)
    assert len(store) == len(pairs)
    assert store.removed == {"long": 2}
    order = np.arange(len(pairs))[::-1]
    assert store.rows("source", order).apart() == [pair.source for pair in reversed(encoded)]
    assert store.rows("target", order).apart() == [pair.target for pair in reversed(encoded)]
    assert store.labels.tolist() == [pair.label for pair in encoded]
    assert store.lengths("source").tolist() == [len(p.source) for p in encoded]


def test_failed_build_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> "itertools.chain[EncodedPair]":
        raise DataError("stop")

    with pytest.raises(DataError, match="stop"):
        write_store(tmp_path / "s", (broken() for _ in range(1)), vocab_size=9, label_names=("",))  # type: ignore[misc]
    assert list(tmp_path.iterdir()) == []


def test_corpus_is_prepared_once_for_the_same_inputs(tmp_path: Path) -> None:
    pairs, cache = number_pairs(300), tmp_path / "cache"
    config = corpus_settings(write_corpus(tmp_path, pairs))
    first = prepare_corpus(config, cache)
    assert first.copies == {"even": 1.0, "odd": 0.5}
    assert first.target.decode(first.store.rows("target", np.array([7])).apart()) == [pairs[7].target]
    assert first.store.label_names[first.store.labels[7]] == "odd"
    built = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    again = prepare_corpus(config, cache)
    assert again.source.model == first.source.model
    assert len(again.store) == 300
    assert again.text.report == first.text.report
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.name != "lock"} == {
        path: time for path, time in built.items() if path.name != "lock"
    }


def test_variants_of_a_corpus_share_its_weights_and_are_made_the_same_again(tmp_path: Path) -> None:
    pairs = number_pairs(200)
    settings = AugmentationSettings(variants=3, upper=0.2, emoji=0.1)
    plain = corpus_settings(write_corpus(tmp_path, pairs))
    config = replace(plain, max_tokens=300, augmentation=settings, tokenizer=replace(plain.tokenizer, vocab_size=320))
    assert token_fingerprint(config) != token_fingerprint(plain)
    assert clean_fingerprint(config) == clean_fingerprint(plain)
    corpora = [prepare_corpus(config, tmp_path / cache) for cache in ("one", "two")]
    stores = [corpus.store for corpus in corpora]
    assert len(stores[0]) == 600
    assert corpora[0].copies == pytest.approx({"even": 1 / 3, "odd": 0.5 / 3})
    assert all(np.array_equal(stores[0].tokens[side], stores[1].tokens[side]) for side in ("source", "target"))
    texts = corpora[0].target.decode(stores[0].rows("target", np.arange(600)).apart())
    assert any(c >= "\U0001f300" for text in texts for c in text)
    assert not any(c >= "\U0001f300" for piece in corpora[0].target.pieces for c in piece)
    variants = [texts[start : start + 200] for start in (0, 200, 400)]
    assert variants[0] != variants[1] != variants[2]
    assert all(20 < sum(text.isupper() for text in variant) < 60 for variant in variants)


def test_each_stage_is_redone_for_what_decides_it_and_nothing_else(tmp_path: Path) -> None:
    config = corpus_settings(write_corpus(tmp_path, number_pairs(30)))
    cleaned, tokens = clean_fingerprint(config), token_fingerprint(config)
    for other in (
        replace(config, max_tokens=49),
        replace(config, seed=1),
        replace(config, tokenizer=replace(config.tokenizer, vocab_size=296)),
        replace(config, mixture=Mixture({"even": 1.0, "odd": 0.25})),
    ):
        assert clean_fingerprint(other) == cleaned
        assert token_fingerprint(other) != tokens
    sampled = replace(config, tokenizer=replace(config.tokenizer, sampling=0.1))
    assert token_fingerprint(sampled) == tokens
    for other in (
        replace(config, filters=replace(config.filters, max_words=9)),
        replace(config, mixture=Mixture()),
        replace(config, languages=("en", "nl")),
    ):
        assert clean_fingerprint(other) != cleaned
    (tmp_path / "a.de").write_text("changed\n", encoding="utf-8")
    assert clean_fingerprint(config) != cleaned


def test_token_limit_is_counted(tmp_path: Path) -> None:
    config = replace(corpus_settings(write_corpus(tmp_path, number_pairs(300))), max_tokens=4)
    store = prepare_corpus(config, tmp_path / "cache").store
    assert store.lengths("source").max() <= 4
    assert store.removed["too_many_tokens"] == 300 - len(store)
    with pytest.raises(DataError, match=r"too_many_tokens.*; raise data\.max_tokens"):
        prepare_corpus(replace(config, max_tokens=1), tmp_path / "cache")


def test_nothing_left_is_an_error_and_no_cache(tmp_path: Path) -> None:
    config = corpus_settings(write_corpus(tmp_path, number_pairs(30)))
    with pytest.raises(DataError, match=r"no pair of the corpus is left .*too_long 30"):
        prepare_corpus(replace(config, filters=replace(config.filters, max_words=1)), tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]


def test_tokenizer_sample_follows_the_weights(tmp_path: Path) -> None:
    config = corpus_settings(write_corpus(tmp_path, number_pairs(2000)))
    text = clean_corpus(config, tmp_path / "cache")
    copies = {"even": 1.0, "odd": 0.25}
    counts = Counter(p.label for p in sample_pairs(text.pairs(), copies, 5000, 0))
    assert counts["even"] == 1000
    assert 200 < counts["odd"] < 300
    few = sample_pairs(text.pairs(), copies, 50, 0)
    assert len(few) == 50
    assert few == sample_pairs(text.pairs(), copies, 50, 0) != sample_pairs(text.pairs(), copies, 50, 1)


def test_a_trained_tokenizer_is_used_again(tmp_path: Path) -> None:
    config = corpus_settings(write_corpus(tmp_path, number_pairs(300)))
    first = prepare_corpus(config, tmp_path / "cache")
    path = tmp_path / "own.spm"
    path.write_bytes(first.source.model)
    given = replace(config, tokenizer=TokenizerSettings(path=path))
    assert prepare_corpus(given, tmp_path / "cache").source.model == first.source.model
    path.write_bytes(b"no model")
    with pytest.raises(DataError, match=r"own\.spm is neither a SentencePiece model nor a word vocabulary"):
        prepare_corpus(given, tmp_path / "cache")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_byte_order_mark_names_the_encoding(tmp_path: Path, encoding: str, packed: bool) -> None:
    data = "ein Öl\r\n漢字\n".encode(encoding)
    path = tmp_path / ("a.de.gz" if packed else "a.de")
    path.write_bytes(gzip.compress(data) if packed else data)
    assert list(read_lines(path)) == ["ein Öl", "漢字"]


def test_text_with_nul_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.de"
    path.write_bytes("ein Öl\n".encode("utf-16-le"))
    with pytest.raises(DataError, match=r"a\.de, line 1: the text contains NUL, .* convert the file to UTF-8"):
        list(read_lines(path))
