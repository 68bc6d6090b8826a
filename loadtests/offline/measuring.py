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

    def equal(self, one: str, other: str) -> float:
        """Return the share of sentences that two engines translate alike."""
        pairs = list(zip(self.outputs[one], self.outputs[other], strict=True))
        return sum(a == b for a, b in pairs) / len(pairs)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each of our precisions and each kind of rival: its best median against our best, by round."""
        ours = [name for name, spec in self.specs.items() if spec.kind == OURS]
        for precision in dict.fromkeys(_type(self.specs[name]) for name in ours):
            name = best({one: self.times[one] for one in ours if _type(self.specs[one]) == precision})
            for kind in dict.fromkeys(spec.kind for spec in self.specs.values()):
                rivals = [rival for rival, spec in self.specs.items() if _compete(precision, kind, spec)]
                if kind != OURS and rivals:
                    yield self._row(name, rivals)

    def _row(self, name: str, rivals: Sequence[str]) -> dict[str, Any]:
        rival = best({other: self.times[other] for other in rivals})
        ours, theirs = spread(self.times[name]), spread(self.times[rival])
        ratios = ratio(self.times[rival], self.times[name])
        # Of all batches, where the times are of one.
        sentences = len(self.outputs[name]) / len(self.case.batches)
        tokens = {one: sum(map(len, self.outputs[one])) / len(self.case.batches) for one in (name, rival)}
        return {
            "model": self.case.model,
            "engine": name,
            "precision": _type(self.specs[name]),
            "sentences": self.case.sentences,
            "batch": self.case.batch,
            "beam": self.case.search.beam,
            "rival": rival,
            "rival_options": dict(self.options[rival]),
            "ratio": ratios.median,
            "ratio_quartiles": [ratios.low, ratios.high],
            "rounds": len(self.times[name]),
            "seconds": ours.median,
            "quartiles": [ours.low, ours.high],
            "rival_seconds": theirs.median,
            "rival_quartiles": [theirs.low, theirs.high],
            "sentences_per_second": sentences / ours.median,
            "rival_sentences_per_second": sentences / theirs.median,
            "tokens_per_second": tokens[name] / ours.median,
            "rival_tokens_per_second": tokens[rival] / theirs.median,
            "equal_ratio": self.equal(name, rival),
            "medians": {one: spread(self.times[one]).median for one in rivals},
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
    found: dict[str, tuple[float, Contestant]] = {}
    for worker in workers:
        worker.translate(sample, search, _BATCHINGS[0])
        timed = {n: worker.translate(sample, search, options).seconds for n, options in enumerate(_BATCHINGS)}
        fastest = min(timed, key=timed.__getitem__)
        found[str(worker.spec)] = timed[fastest], Contestant(worker, _BATCHINGS[fastest])
    limit = min(seconds for seconds, _ in found.values()) * _NOT_WORTH_TIMING
    plain = {f"ctranslate2/{variant}" for variants in _FULL_PRECISION.values() for variant in variants}
    return {name: one for name, (seconds, one) in found.items() if seconds <= limit or name in plain}


def _compete(precision: str, kind: str, rival: EngineSpec) -> bool:
    variant = _type(rival)
    if rival.kind != kind or precision.endswith(SHORTLIST) != variant.endswith(SHORTLIST):
        return False
    precision, variant = precision.removesuffix(SHORTLIST), variant.removesuffix(SHORTLIST)
    return precision not in _FULL_PRECISION or variant in _FULL_PRECISION[precision]


def _type(spec: EngineSpec) -> str:
    """Return the precision or compute type, without the number of batches or workers."""
    return spec.variant.partition("*")[0]
