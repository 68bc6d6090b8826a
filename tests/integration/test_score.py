"""Scores over a real server: answers, statuses, both clients."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2

from serving.client import AsyncTranslationClient, InvalidRequest, ModelNotFound, Options, ScorePair, TranslationClient
from serving.pb import translation_service_pb2 as pb
from tests.integration.toy_server import NAN_TEXT, Toy, detail, failure, serving, started


@pytest.fixture
async def toy() -> AsyncIterator[Toy]:
    async with serving() as toy:
        yield toy


def asked(*pairs: tuple[str, str], **fields: object) -> pb.ScoreRequest:
    return pb.ScoreRequest(pairs=[pb.ScorePair(source=s, target=t) for s, t in pairs], **fields)  # type: ignore[arg-type]


async def test_the_status_table_holds(toy: Toy) -> None:
    for request, field in (
        (asked(), "pairs"),
        (asked(*[("a", "a")] * 17), "pairs"),
        (asked(("a" * 61, "a")), "pairs[0].source"),
        (asked(("a", "a" * 81)), "pairs[0].target"),
        (asked(("a", "a"), length_penalty=float("nan")), "length_penalty"),
        (asked(("a", "a"), priority=9), "priority"),
        (asked(("a", "a"), source_language="xx"), "source_language"),
        (pb.ScoreRequest(pairs=[pb.ScorePair(source="a", target_tokens=["ab"])]), "pairs[0].target_tokens"),
    ):
        error = await failure(toy.stub.Score(request))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert [v.field for v in detail(error, error_details_pb2.BadRequest).field_violations] == [field]
    assert not toy.runner.counts.sources
    error = await failure(toy.stub.Score(asked(("a", "a"), model="nope")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    error = await failure(toy.stub.Score(asked((f"a{NAN_TEXT}c", "a"))))
    assert error.code() is grpc.StatusCode.INTERNAL


async def test_a_server_that_loads() -> None:
    async with started() as toy:
        assert (await failure(toy.stub.Score(asked(("a", "a"))))).code() is grpc.StatusCode.UNAVAILABLE


async def test_both_clients_score_what_the_server_translated(toy: Toy) -> None:
    address = f"127.0.0.1:{toy.server.port}"
    async with AsyncTranslationClient(address) as client:
        result = await client.translate(["abc", "some text"], Options(beam_size=4, n_best=4, tokens=True))
        wanted = [
            (text, h) for text, t in zip(["abc", "some text"], result.translations, strict=True) for h in t.hypotheses
        ]
        pairs = [
            ScorePair(text, tokens=tuple(token.text for token in hypothesis.tokens)) for text, hypothesis in wanted
        ]
        got = await client.score(pairs, tokens=True, request_id="mine")
        assert (got.model, got.version, got.request_id) == ("toy", 1, "mine")
        for score, (_, hypothesis) in zip(got.scores, wanted, strict=True):
            assert score.score == pytest.approx(hypothesis.score, abs=1e-4)
            assert [token.text for token in score.tokens] == [token.text for token in hypothesis.tokens]
        by_text = await client.score([ScorePair("abc", "abc"), ScorePair("", "x")], length_penalty=0.0)
        assert by_text.scores[0].tokens == ()
        assert by_text.scores[1].score == 0
        with pytest.raises(InvalidRequest, match=r"pairs\[0\]"):
            await client.score([ScorePair("abc", unfinished=True)])
        with pytest.raises(ModelNotFound):
            await client.score(pairs, model="nope")

    def blocking() -> list[float]:
        with TranslationClient(address) as client:
            return [score.score for score in client.score(pairs).scores]

    assert await asyncio.to_thread(blocking) == [score.score for score in got.scores]
