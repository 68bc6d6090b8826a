"""Subwords and words: text to ids and back, and cuts drawn at random."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.training.text import number_pairs
from training.data.batches import Resegmentation
from training.data.parallel_text import Pair
from training.data.sampler import Position
from training.data.subwords import Subwords, train_subwords
from training.data.tokenizer import TokenizerSettings, load_tokenizer, train_tokenizers
from training.data.words import Words, train_words
from training.errors import DataError

TEXT = [t for p in number_pairs(200) for t in (p.source, p.target)]


def test_subwords_round_trip_any_text_and_have_the_agreed_ids() -> None:
    subwords = Subwords(train_subwords(TEXT, 295))
    assert subwords.size == len(subwords.pieces) == 295
    texts = ["one two three", "neun fünf", "unseen: žluťoučký 木 42"]
    ids = subwords.encode(texts)
    assert subwords.decode(ids) == texts
    assert min(i for row in ids for i in row) > 3
    assert not subwords.unknown_ids & {*ids[0], *ids[1]}
    assert subwords.unknown_ids & {*ids[2]}
    with pytest.raises(DataError, match=r"raise tokenizer\.vocab_size"):
        train_subwords(["a few different letters"], 30)
    with pytest.raises(DataError, match=r"lower tokenizer\.vocab_size"):
        train_subwords(["too little text"], 5000)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_regularisation_cuts_anew_by_seed_and_place(kind: str) -> None:
    subwords = Subwords(train_subwords(TEXT, 295, kind=kind))
    cut = Resegmentation(subwords, subwords, 0.1, 100, seed=5)
    rows = subwords.encode(TEXT)
    first = cut("source", rows, Position(0, 1))
    assert first == cut("source", rows, Position(0, 1))
    assert first != rows
    assert first != cut("source", rows, Position(0, 2))
    assert first != Resegmentation(subwords, subwords, 0.1, 100, seed=6)("source", rows, Position(0, 1))
    assert subwords.decode(first) == subwords.decode(rows)
    longest = max(map(len, rows))
    tight = Resegmentation(subwords, subwords, 0.1, longest, seed=5)("source", rows, Position(0, 1))
    assert max(map(len, tight)) <= longest


def test_words_round_trip_with_their_punctuation() -> None:
    words = Words(train_words(["The cat's milk, isn't it? (3.5 l)", "L'homme dit : « oui »."], 40))
    for text in ("The milk? isn's (3.5 it", "it't, L'homme dit « oui l)."):
        assert words.decode(words.encode([text])) == [text]
    assert words.pieces[:6] == ["<pad>", "<unk>", "<s>", "</s>", "▁⁇", "⁇"]
    assert words.unknown_ids == {4, 5}


def test_unknown_words_keep_their_place_and_can_be_filled() -> None:
    words = Words(train_words(["the cat sat .", "l'homme"], 20))
    text = "the zebra's l'okapi ."
    (ids,) = words.encode([text])
    assert words.decode([ids]) == ["the ⁇'⁇ l'⁇ ."]
    assert words.spellings(text) == ["the", "zebra", "'", "s", "l", "'", "okapi", "."]
    assert words.fill(ids, words.spellings(text)) == text


@given(st.text(alphabet="ab '.,3\u00e9木", max_size=20))
@settings(max_examples=200, deadline=None)
def test_words_of_known_tokens_give_any_text_back(text: str) -> None:
    words = Words(train_words([text, "x"], 100))
    assert words.decode(words.encode([text])) == [" ".join(text.split())]


def test_the_most_frequent_words_are_kept() -> None:
    words = Words(train_words(["b a b", "c a b"], 8))
    assert words.pieces[6:] == ["▁b", "▁a"]
    for texts, size in (([" "], 20), (["a"], 6)):
        with pytest.raises(DataError, match="must be above 6"):
            train_words(texts, size)


def test_tokenizers_are_shared_or_not_and_load_by_their_bytes() -> None:
    pairs = [Pair("one two", "eins zwei")] * 3
    both = train_tokenizers(pairs, TokenizerSettings(kind="word", vocab_size=20))
    assert both[0] == both[1]
    source, target = train_tokenizers(pairs, TokenizerSettings(kind="word", vocab_size=20, shared=False))
    assert isinstance(load_tokenizer(source), Words)
    assert load_tokenizer(source).pieces[6:] == ["▁one", "▁two"]
    assert load_tokenizer(target).pieces[6:] == ["▁eins", "▁zwei"]
    with pytest.raises(DataError, match="kind is 'word'"):
        TokenizerSettings(kind="word", sampling=0.1)


def test_normalisation_in_the_model_drops_what_is_invisible_and_keeps_what_is_seen() -> None:
    subwords = Subwords(train_subwords(TEXT, 300, normalization="nfc", symbols=["｟0｠", "\u200d", "\ufe0f"]))
    texts = {
        "o\u00adne\u200b t\u200ew\u2060o\x07": "one two",
        "a\u00a0b\u202fc\td": "a b c d",
        "cafe\u0301 S\u0323\u0307 ﬁn": "café Ṩ fin",
        "½ m² ① …": "½ m² ① …",
        "👨\u200d👩\u200d👧 ❤\ufe0f": "👨\u200d👩\u200d👧 ❤\ufe0f",
        "one ｟0｠, ｟1｠": "one ｟0｠, ｟1｠",
    }
    assert subwords.decode(subwords.encode(list(texts))) == list(texts.values())
    cut = [subwords.pieces[i] for i in subwords.encode(["one ｟0｠!"])[0]]
    assert "｟0｠" in cut


def test_the_same_text_gives_the_same_model_to_the_byte() -> None:
    assert train_subwords(TEXT, 300, normalization="nfc") == train_subwords(TEXT, 300, normalization="nfc")


def test_required_characters_have_pieces_however_rare_they_are() -> None:
    texts = [*TEXT, "@"]
    usual = Subwords(train_subwords(texts, 295, character_coverage=0.99))
    required = Subwords(train_subwords(texts, 295, character_coverage=0.99, required_characters="@^"))
    assert "@" not in usual.pieces
    assert {"@", "^"} <= set(required.pieces)
