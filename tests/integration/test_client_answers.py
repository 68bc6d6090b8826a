"""What the clients and the command make of the real server's answers; the toy model copies what it reads."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serving.client import AsyncTranslationClient, FinishReason, LongInput, Options, TranslationClient
from tests.integration.toy_server import Toy, serving

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def toy() -> AsyncIterator[Toy]:
    async with serving() as toy:
        yield toy


def address(toy: Toy) -> str:
    return f"127.0.0.1:{toy.server.port}"


async def test_what_comes_back(toy: Toy) -> None:
    options = Options(beam_size=4, n_best=2, tokens=True, alignments=True)
    async with AsyncTranslationClient(address(toy)) as client:
        result = await client.translate(["ab cd", " "], options, request_id="mine")
    translation, blank = result.translations
    assert (translation.text, translation.parts, len(translation.hypotheses)) == ("ab cd", 1, 2)
    assert (blank.text, blank.parts) == ("", 0)
    best = translation.hypotheses[0]
    assert "".join(token.text for token in best.tokens).replace("▁", " ") == "ab cd"
    words = {
        ("ab cd"[link.source_start : link.source_end], best.text[link.target_start : link.target_end])
        for link in best.alignment
    }
    assert words == {("ab", "ab"), ("cd", "cd")}
    assert best.finish_reason is FinishReason.EOS
    assert (result.model, result.version, result.request_id, result.source_tokens) == ("toy", 1, "mine", 5)
    assert result.compute_seconds > 0


async def test_the_blocking_client_gets_the_same(toy: Toy) -> None:
    def call() -> tuple[str, str]:
        with TranslationClient(address(toy)) as client:
            (model,) = client.list_models()
            assert client.get_model(model.name, model.version) == model
            return client.translate(["one"]).translations[0].text, model.name

    assert await asyncio.to_thread(call) == ("one", "toy")


async def test_a_cut_text_is_marked(toy: Toy) -> None:
    async with AsyncTranslationClient(address(toy)) as client:
        result = await client.translate(["y" * 61, "y" * 60], Options(long_input=LongInput.TRUNCATE))
    assert [translation.source_truncated for translation in result.translations] == [True, False]


async def test_the_command_keeps_lines_in_order(toy: Toy) -> None:
    lines = [f"line {number}" * (number % 4) for number in range(150)]
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "serving.client", "--server", address(toy), "--beam", "2"],
        input="\n".join(lines).encode(),
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert done.stdout.decode() == "".join(line + "\n" for line in lines)


async def test_the_command_says_which_line_is_too_long(toy: Toy) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "serving.client", "--server", address(toy), "--long-input", "reject"],
        input=b"one\n" + b"y" * 61 + b"\ntwo\n",
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, b"one\n\ntwo\n")
    assert done.stderr.startswith(b"dragoman-translate: line 2: has 61 tokens, the model takes 60")
