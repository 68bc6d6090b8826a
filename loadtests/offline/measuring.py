"""One case on all engines in turn; each precision of ours is compared with the best of each rival."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from loadtests.offline.cases import Case
from loadtests.offline.searches import SHORTLIST, Ids, Search
from loadtests.offline.timing import alternate, best, ratio, spread
from loadtests.offline.worker import EngineSpec, Worker

OURS = "dragoman"
# In the precision of the weights; what rounds them competes with what rounds them.
_FULL_PRECISION = {"fp32": ("float32",)}
_TUNING_SENTENCES = 200
_BATCHINGS: tuple[Mapping[str, object], ...] = (
    *({"max_batch_size": size, "batch_type": "examples"} for size in (16, 32, 64, 128)),
    *({"max_batch_size": size, "batch_type": "tokens"} for size in (512, 1024, 2048)),
)
_NOT_WORTH_TIMING = 1.3  # times the best rival's time


@dataclass(frozen=True)
class Contestant:
    """A worker and the options of its engine besides the search."""

    worker: Worker
    options: Mapping[str, object]

    def seconds(self, case: Case) -> float:
        """Translate a case; return seconds per batch."""
        return self.worker.translate(case.batches, case.search, self.options).seconds / len(case.batches)


@dataclass(frozen=True)
class Measured:
    """Seconds per batch in each round, and translations, by engine."""

    case: Case
    specs: Mapping[str, EngineSpec]
    options: Mapping[str, Mapping[str, object]]
    times: Mapping[str, Sequence[float]]
    outputs: Mapping[str, list[Ids]]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each of our precisions and each kind of rival: its best median against our best, by round."""
        ours = {name: self.times[name] for name, spec in self.specs.items() if spec.kind == OURS}
        for precision in dict.fromkeys(self.specs[name].type for name in ours):
            name = best({one: times for one, times in ours.items() if self.specs[one].type == precision})
            for kind in dict.fromkeys(spec.kind for spec in self.specs.values() if spec.kind != OURS):
                rivals = [
                    rival for rival, spec in self.specs.items() if spec.kind == kind and _compete(precision, spec)
                ]
                if rivals:
                    yield self._row(name, rivals)

    def _row(self, name: str, rivals: Sequence[str]) -> dict[str, Any]:
        rival = best({other: self.times[other] for other in rivals})
        ratios = ratio(self.times[rival], self.times[name])
        pairs = list(zip(self.outputs[name], self.outputs[rival], strict=True))
        return {
            "model": self.case.model,
            "engine": name,
            "precision": self.specs[name].type,
            "sentences": self.case.sentences,
            "batch": self.case.batch,
            "beam": self.case.search.beam,
            "rival": rival,
            "rival_options": dict(self.options[rival]),
            "ratio": ratios.median,
            "ratio_quartiles": [ratios.low, ratios.high],
            "rounds": len(self.times[name]),
            **self._speed(name),
            **{f"rival_{key}": value for key, value in self._speed(rival).items()},
            "equal_ratio": sum(a == b for a, b in pairs) / len(pairs),
            "medians": {one: spread(self.times[one]).median for one in rivals},
        }

    def _speed(self, name: str) -> dict[str, Any]:
        seconds, outputs = spread(self.times[name]), self.outputs[name]
        total = seconds.median * len(self.case.batches)
        return {
            "seconds": seconds.median,
            "quartiles": [seconds.low, seconds.high],
            "sentences_per_second": len(outputs) / total,
            "tokens_per_second": sum(map(len, outputs)) / total,
        }


def measure(case: Case, contestants: Mapping[str, Contestant], rounds: int) -> Measured:
    """Warm every engine up with the case itself, then time them in turns.

    Translations must agree, so the rivals suppress the tokens that ours does; as that costs them time, it is not timed.
    """
    outputs = {
        name: one.worker.translate(case.batches, case.search, one.options).outputs for name, one in contestants.items()
    }
    timed = replace(case, search=replace(case.search, suppressed=()))
    times = alternate({name: partial(one.seconds, timed) for name, one in contestants.items()}, rounds)
    specs = {name: one.worker.spec for name, one in contestants.items()}
    return Measured(case, specs, {name: one.options for name, one in contestants.items()}, times, outputs)


def tuned(workers: Sequence[Worker], sources: Sequence[Ids], search: Search) -> dict[str, Contestant]:
    """Find the best batching of each CTranslate2 on a sample of sentences, and leave out those far behind."""
    sample, search = [sources[:: max(len(sources) // _TUNING_SENTENCES, 1)]], replace(search, suppressed=())
    found: list[tuple[float, Contestant]] = []
    for worker in workers:
        worker.translate(sample, search, _BATCHINGS[0])
        timed = [worker.translate(sample, search, options).seconds for options in _BATCHINGS]
        found.append((min(timed), Contestant(worker, _BATCHINGS[timed.index(min(timed))])))
    limit = min(seconds for seconds, _ in found) * _NOT_WORTH_TIMING
    plain = {variant for variants in _FULL_PRECISION.values() for variant in variants}
    kept = [one for seconds, one in found if seconds <= limit or one.worker.spec.variant in plain]
    return {str(one.worker.spec): one for one in kept}


def _compete(precision: str, rival: EngineSpec) -> bool:
    if precision.endswith(SHORTLIST) != rival.type.endswith(SHORTLIST):
        return False
    wanted = _FULL_PRECISION.get(precision.removesuffix(SHORTLIST))
    return wanted is None or rival.type.removesuffix(SHORTLIST) in wanted
