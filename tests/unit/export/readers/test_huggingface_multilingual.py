"""Random M2M100, NLLB, mBART-50 and multilingual Marian models against ``generate`` of the library they come from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from export.errors import ExportError, ReadingError
from export.readers.kinds import kind_of
from export.readers.languages import by_tag, chosen, tag
from export.trained_model import TrainedModel
from serving.bundle.manifest import DecodingDefaults, LanguagePair, LanguageTokens
from serving.messages import EarlyStopping
from tests.unit.export.readers.marian_models import EOS as MARIAN_EOS
from tests.unit.export.readers.marian_models import SENTENCES, marian
from tests.unit.export.readers.multilingual_models import CODES, EOS, PAD, TAGS, Family, multilingual
from training import decode

pytest.importorskip("transformers", reason="transformers is not installed (extra train-peer)")

LIMIT = 24
SEARCHES = ((1, None), (4, True), (4, False), (4, "never"))  # beams and rules of early stopping
RULES: dict[bool | str | None, Any] = {None: "on", True: "on", False: "heuristic", "never": "never"}
NAMES: dict[Family, str] = {
    "m2m100": "a Hugging Face M2M100 or NLLB model",
    "nllb": "a Hugging Face M2M100 or NLLB model",
    "mbart50": "a Hugging Face mBART-50 model",
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Steps of tiny models are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def read(folder: Path) -> TrainedModel:
    kind = kind_of(folder)
    languages = kind.languages(folder)
    assert languages is not None
    return kind.read(folder, languages)


def generated(
    model: Any, source: list[int], beam: int, stopping: bool | str | None, first: int | None
) -> tuple[list[int], float]:
    """The best hypothesis of ``generate``, without what every translation begins with, and its score."""
    begins = 1 if first is None else 2
    found = model.generate(
        torch.tensor([source]),
        num_beams=beam,
        forced_bos_token_id=first,
        early_stopping=stopping,
        forced_eos_token_id=model.config.eos_token_id if stopping is False else None,
        no_repeat_ngram_size=2,
        max_length=LIMIT + begins,
        return_dict_in_generate=True,
        output_scores=True,
    )
    tokens, eos = found.sequences[0, begins:].tolist(), model.config.eos_token_id
    score = float(found.sequences_scores[0]) if beam > 1 else 0.0
    return (tokens[: tokens.index(eos)] if eos in tokens else tokens), score


def compare(model: Any, trained: TrainedModel, cases: list[tuple[str, LanguagePair]]) -> set[int]:
    """Compare both, greedily and by beam search; return the lengths of the translations."""
    lengths = set()
    for text, pair in cases:
        ids = [*pair.before_source, *trained.encode([text])[0]]
        first = pair.before_target[0] if pair.before_target else None
        for beam, stopping in SEARCHES:
            tokens, score = generated(model, trained.framed(ids).tolist(), beam, stopping, first)
            options = decode.DecodeOptions(
                beam_size=beam,
                max_length=LIMIT,
                no_repeat_ngram_size=2,
                start=pair.before_target,
                early_stopping=RULES[stopping],
                **{**dict(trained.search), "ends_at_limit": stopping is False},
            )
            (best, *_) = decode.translate(trained.model, [ids], options)[0]
            assert list(best.tokens) == tokens
            assert beam == 1 or abs(best.score - score) < 1e-4
            lengths.add(len(tokens))
    return lengths


def pairs(trained: TrainedModel, *tags: tuple[str, str]) -> list[LanguagePair]:
    found = [trained.languages.pair(*both) for both in tags]
    assert None not in found
    return [pair for pair in found if pair is not None]


@pytest.mark.parametrize("family", CODES)
def test_a_random_model_translates_into_the_language_asked_for(family: Family, tmp_path: Path) -> None:
    import transformers

    transformers.logging.disable_progress_bar()
    model = multilingual(tmp_path, family)
    assert kind_of(tmp_path).name == NAMES[family]
    trained = read(tmp_path)
    assert list(trained.languages.sources) == list(trained.languages.targets) == TAGS[family]
    directions = pairs(trained, ("en", "de"), ("en", "fr"), ("de", "zh"), ("fr", "en"))
    lengths = compare(model, trained, list(zip([*SENTENCES[:7], "Snow \u2603"], directions * 2, strict=True)))
    assert len(lengths) > 2


def test_m2m100_s_own_tokenizer_reads_the_same(tmp_path: Path) -> None:
    import transformers

    multilingual(tmp_path / "ours", "m2m100")
    files = [str(tmp_path / "ours" / name) for name in ("vocab.json", "sentencepiece.bpe.model")]
    tokenizer = transformers.M2M100Tokenizer(*files, src_lang="fr", tgt_lang="zh")
    # Theirs has a fixed list of a hundred languages; what it saves tells ours about them.
    tokenizer.save_pretrained(tmp_path / "theirs")
    for file in ("config.json", "model.safetensors", "generation_config.json"):
        shutil.copy(tmp_path / "ours" / file, tmp_path / "theirs" / file)
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    (tmp_path / "theirs" / "config.json").write_text(json.dumps({**config, "vocab_size": 400}))
    languages = kind_of(tmp_path / "theirs").languages(tmp_path / "theirs")
    assert languages is not None
    assert len(languages.sources) == 100
    pair = languages.pair("fr", "zh")
    assert pair is not None
    assert pair.before_target == (tokenizer.get_lang_id("zh"),)
    ours = read(tmp_path / "ours")
    for text in SENTENCES[:5]:
        theirs = tokenizer(text).input_ids
        assert theirs == [*pair.before_source, *ours.framed(ours.encode([text])[0]).tolist()]


def test_a_marian_model_of_several_targets(tmp_path: Path) -> None:
    import transformers

    marian(tmp_path, targets=("fra", "deu", "pt_BR"), ends=5.0)
    model = transformers.MarianMTModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    tokenizer = transformers.MarianTokenizer.from_pretrained(tmp_path)
    trained = read(tmp_path)
    assert (list(trained.languages.sources), list(trained.languages.targets)) == (["en"], ["fr", "de", "pt-BR"])
    directions = pairs(trained, ("en", "fr"), ("en", "de"), ("", "pt-br"))
    for pair, code in zip(directions, ("fra", "deu", "pt_BR"), strict=True):
        ids = trained.framed([*pair.before_source, *trained.encode(SENTENCES[:1])[0]]).tolist()
        assert ids == tokenizer(f">>{code}<< {SENTENCES[0]}").input_ids
    assert len(compare(model, trained, list(zip(SENTENCES[:6], directions * 2, strict=True)))) > 1
    assert trained.vocabulary.eos == MARIAN_EOS


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("m2m100")
    multilingual(folder, "m2m100")
    return folder


@pytest.mark.parametrize(
    ("file", "keys", "expected"),
    [
        ("config.json", {"activation_function": "gelu_new", "is_decoder": True}, ["gelu_new", "is_decoder"]),
        ("config.json", {"decoder_ffn_dim": 8}, ["must be equal"]),
        ("config.json", {"vocab_size": 60}, ["tokens, the model has 60"]),
        ("config.json", {"pad_token_id": 4}, ["positions begin behind it"]),
        ("config.json", {"eos_token_id": 5}, ["not '</s>' in the vocabulary"]),
        ("config.json", {"encoder_layers": 3}, ["no weight encoder_layers.2"]),
        ("generation_config.json", {"do_sample": True}, ["do_sample"]),
        ("vocab.json", {"other": 3}, ["each once"]),
        ("special_tokens_map.json", {"additional_special_tokens": []}, ["says its languages"]),
        ("tokenizer_config.json", {"legacy_behaviour": True}, ["legacy_behaviour"]),
        ("tokenizer_config.json", {"tokenizer_class": "MBartTokenizer"}, ["mBART of 25 languages"]),
    ],
)
def test_what_cannot_be_represented_is_refused_with_every_reason(
    plain: Path, tmp_path: Path, file: str, keys: dict[str, object], expected: list[str]
) -> None:
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
    path = tmp_path / file
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **keys}))
    if keys.keys() & {"pad_token_id", "eos_token_id"}:
        generation = tmp_path / "generation_config.json"
        generation.write_text(json.dumps({**json.loads(generation.read_text()), **keys}))
    with pytest.raises(ReadingError) as caught:
        read(tmp_path)
    for part in expected:
        assert any(part in reason for reason in caught.value.reasons), caught.value.reasons


def test_a_forced_first_token_leaves_one_target(plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "generation_config.json"
    token = read(plain).languages.targets["fr"].before_target[0]
    path.write_text(json.dumps({**json.loads(path.read_text()), "forced_bos_token_id": token}))
    trained = read(tmp_path)
    assert list(trained.languages.targets) == ["fr"]
    assert len(trained.languages.sources) == len(TAGS["m2m100"])
    assert PAD in trained.vocabulary.suppressed
    assert trained.vocabulary.eos == EOS


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("eng_Latn", "en"),
        ("fra", "fr"),
        ("pt_BR", "pt-BR"),
        ("zho_Hant", "zh-Hant"),
        ("cmn_Hans", "zh"),
        ("arb_Arab", "ar"),
        ("arz_Arab", "arz"),
        ("srp_Cyrl", "sr"),
        ("ace_Arab", "ace-Arab"),
        ("tl", "tl"),
        ("ROMANCE", "ROMANCE"),
    ],
)
def test_codes_become_tags(code: str, expected: str) -> None:
    assert tag(code) == expected


def test_the_choice_of_languages() -> None:
    tokens = {code: LanguageTokens(before_source=(number,)) for number, code in enumerate(("pt_BR", "pt_br", "fra"))}
    named = by_tag(tokens)
    assert {name: own.before_source for name, own in named.items()} == {"pt-BR": (0,), "fr": (2,)}
    with pytest.raises(ReadingError, match="is not a language tag"):
        tag("no tag")
    own = type(chosen(None, ["en"], ["de"]))(sources={"mul": LanguageTokens()}, targets=named)
    some = chosen(own, ["en", "it"], ["FR"])
    assert (list(some.sources), list(some.targets)) == (["en", "it"], ["fr"])
    assert some.targets["fr"].before_source == (2,)
    with pytest.raises(ExportError, match=r"no language 'de': give some of pt-BR, fr"):
        chosen(own, ["en"], ["de"])


def test_the_search_is_the_one_that_the_generation_configuration_asks_for(plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "generation_config.json"
    asked = {"num_beams": 5, "early_stopping": "never", "no_repeat_ngram_size": 3, "forced_eos_token_id": EOS}
    for lengths in ({"min_length": 6}, {"min_new_tokens": 5}):  # both count the language, and one the start token
        path.write_text(json.dumps({**json.loads(path.read_text()), **asked, "min_new_tokens": None, **lengths}))
        trained = read(tmp_path)
        assert trained.defaults == DecodingDefaults(
            beam_size=5, early_stopping=EarlyStopping.NEVER, min_length=4, no_repeat_ngram_size=3
        )
        assert trained.search.ends_at_limit
        assert trained.search.ranked_at_limit
