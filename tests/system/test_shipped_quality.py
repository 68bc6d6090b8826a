"""The shipped bundle, asked over gRPC as a user would: BLEU on everyday sentences, and what the record says of it."""

from __future__ import annotations

import sacrebleu

from serving.client import Options, TranslationClient
from tests.shipped import BUNDLE, shipped, tatoeba_test
from tests.system.served import server

FLOOR = 44.0
PYTORCH_BLEU = 47.18  # the checkpoint's, on the same 800 lines with beam 4; its model card says how
CALL = 100


def test_bleu_of_everyday_sentences_with_beam_4() -> None:
    sources, references = tatoeba_test()
    assert len(sources) == 800
    with server(BUNDLE.parents[1]) as addresses, TranslationClient(addresses.grpc) as client:
        results = [
            client.translate(sources[at : at + CALL], Options(beam_size=4), deadline=600)
            for at in range(0, len(sources), CALL)
        ]
    texts = [translation.hypotheses[0].text for result in results for translation in result.translations]
    bleu = sacrebleu.corpus_bleu(texts, [references]).score
    assert bleu >= FLOOR
    assert abs(bleu - PYTORCH_BLEU) <= 1.0  # int8 and the shortlist lose 0.9 on these


def test_the_record_of_the_shipped_bundle() -> None:
    manifest = shipped().manifest
    record = manifest.precisions["fp32"].verification
    assert record.sentences >= 1000
    assert record.max_abs_log_prob_difference <= 1e-4
    assert min(record.greedy_equal_ratio, record.beam_equal_ratio) >= 0.999
    assert sum(path.stat().st_size for path in BUNDLE.rglob("*")) <= 12_000_000
