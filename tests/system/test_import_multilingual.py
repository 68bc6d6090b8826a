"""A model of several languages the whole way by the command, with a shortlist learnt from its own translations."""

from __future__ import annotations

from pathlib import Path

import pytest

from export import import_command
from export.readers import huggingface_multilingual
from export.verify import Evidence, translate_in_torch
from serving.bundle.bundle import load_bundle
from serving.client import Options, TranslationClient
from tests.system.served import server
from tests.unit.export.readers.marian_models import SENTENCES
from tests.unit.export.readers.multilingual_models import multilingual

LIMIT = 16


def test_one_bundle_serves_every_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "m2m100"
    multilingual(folder, "m2m100")
    arguments = ["--name", "many", "--languages", "en,fr", "de,fr,zh", "--max-source-tokens", "60", "--shortlist"]
    arguments += ["--max-target-tokens", str(LIMIT), "--max-bleu-loss", "inf", "--max-sentences", "60"]
    arguments += ["--shortlist-sentences", "200", "--shortlist-best", "40", "--precisions", "fp32"]
    assert import_command.main([str(folder), str(tmp_path / "models"), *arguments]) == 0
    assert "is a Hugging Face M2M100 or NLLB model, en, fr to de, fr, zh" in capsys.readouterr().err
    bundle = load_bundle(tmp_path / "models" / "many" / "1")
    assert sorted(bundle.manifest.precisions) == ["fp32", "fp32-shortlist"]
    record = bundle.manifest.precisions["fp32-shortlist"].verification
    assert record.greedy_equal_ratio > 0.5  # a lexicon of noise would leave hardly any as they were
    languages = bundle.manifest.languages
    expected = huggingface_multilingual.read(folder, languages)
    texts = SENTENCES[:6]
    with server(tmp_path / "models", "--precision", "fp32") as at, TranslationClient(at.grpc) as client:
        assert client.get_model().target_languages == ("de", "fr", "zh")
        for source, target in (("en", "zh"), ("fr", "de"), ("en", "de")):
            pair = languages.pair(source, target)
            assert pair is not None
            evidence = Evidence(texts, [], LIMIT, [pair] * len(texts))
            rows = translate_in_torch(expected, evidence.source_ids(expected), 4, LIMIT, evidence.starts)
            options = Options(beam_size=4, max_length=LIMIT, retry_repetition=False)
            answers = client.translate(texts, options, source_language=source, target_language=target).translations
            assert [answer.text for answer in answers] == expected.decode(rows)
