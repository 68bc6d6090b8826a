"""An answer does not depend on who shares the batch: on the shipped model, with a leak that must be found.

Each of 1,000 real sentences is translated alone, by a thread of this process; then all again, by two other processes,
in random order, arriving at random times, with beams of 1, 2 and 4 in flight together and 800 other sentences among
them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import closing

import pytest

from serving.engine.request import TranslationRequest
from serving.engine.scheduler import EngineLimits
from serving.engine.translator import Translator
from serving.messages import Options
from serving.opening import open_model, open_processes
from serving.runtime.host_grid import HostGrid
from serving.runtime.onnx_runner import OnnxRunner
from serving.step import Candidates, StepPlan
from tests.shipped import corpora, read_lines, shipped, tatoeba_test

Answer = tuple[str, float]


def request(text: str, beam: int) -> TranslationRequest:
    return TranslationRequest((text,), Options(beam_size=beam))


async def in_company(translator: Translator, jobs: Sequence[tuple[str, int]], others: Sequence[str]) -> list[Answer]:
    """Answers to ``jobs`` in their order, translated in random order and company."""
    rng = random.Random(11)
    answers: dict[int, Answer] = {}

    async def ask(number: int | None, text: str, beam: int) -> None:
        await asyncio.sleep(rng.random() * 3)
        result = await translator.translate(request(text, beam))
        best = result.translations[0].hypotheses[0]
        if number is not None:
            answers[number] = best.text, best.score

    calls: list[tuple[int | None, str, int]] = [(number, *job) for number, job in enumerate(jobs)]
    calls += [(None, text, rng.choice([1, 2, 4])) for text in others]
    rng.shuffle(calls)
    await asyncio.gather(*(ask(*call) for call in calls))
    return [answers[number] for number in range(len(jobs))]


def alone(translator: Translator, jobs: Sequence[tuple[str, int]]) -> list[Answer]:
    results = (translator.translate_blocking(request(*job)).translations[0].hypotheses[0] for job in jobs)
    return [(best.text, best.score) for best in results]


def differences(first: Sequence[Answer], second: Sequence[Answer]) -> int:
    """Answers whose text or score differ, in any bit."""
    return sum(a != b for a, b in zip(first, second, strict=True))


def jobs_and_others() -> tuple[list[tuple[str, int]], list[str]]:
    captions = read_lines(corpora() / "multi30k" / "test_2016_flickr.en.gz")
    jobs = [(text, (1, 2, 4)[number % 3]) for number, text in enumerate(captions)]
    return jobs, tatoeba_test()[0]


ON_THE_CPU = [name for name, precision in shipped().manifest.precisions.items() if "cpu" in precision.devices]


@pytest.mark.parametrize("precision", ON_THE_CPU)
def test_company_order_arrival_and_beams_change_no_bit_of_an_answer(precision: str) -> None:
    jobs, others = jobs_and_others()
    with closing(open_model(shipped(), precision=precision, device="cpu").start()) as model:
        by_itself = alone(model.translator, jobs)
    shared = open_processes(shipped(), precision=precision, threads=1)
    with closing(shared.start(engine_limits=EngineLimits(workers=2))) as model:
        together = asyncio.run(in_company(model.translator, jobs, others))
    assert len(by_itself) == len(together) == 1000
    assert differences(by_itself, together) == 0


class _LeakyGrid(HostGrid):
    """Lets every sentence attend to as many source positions as the longest one beside it: a padding leak."""

    def step(self, plan: StepPlan) -> Candidates:
        busy = plan.tokens.shape[0]
        self._source_lengths[:busy] = self._source_lengths[:busy].max()
        return super().step(plan)


def test_the_test_finds_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: with co-tenants made to leak, the comparison above must fail."""
    monkeypatch.setattr(OnnxRunner, "grid", lambda self, beam, slots: _LeakyGrid(self.model, beam, slots))
    jobs, others = jobs_and_others()
    with closing(open_model(shipped(), device="cpu").start()) as model:
        by_itself = alone(model.translator, jobs[:60])
        together = asyncio.run(in_company(model.translator, jobs[:60], others[:60]))
    assert differences(by_itself, together) > 0
