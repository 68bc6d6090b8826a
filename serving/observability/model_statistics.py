"""Counters of one model, read from the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

_PHASES = ("tokenize", "queue", "encode", "step", "detokenize")


@dataclass(frozen=True)
class ModelCounters:
    """What a model has done since the server started.

    Attributes:
        sentences: That ended, by outcome.
        rejections: Sentences that were refused, by reason.
        source_tokens: Encoded.
        target_tokens: Of best hypotheses.
        phases: Count and seconds of each phase.
    """

    sentences: Mapping[str, int]
    rejections: Mapping[str, int]
    source_tokens: int
    target_tokens: int
    phases: Mapping[str, tuple[int, float]]


def counters_of(registry: CollectorRegistry, model: str) -> ModelCounters:
    """Return the counters of a model by its label."""
    samples = [
        sample for family in registry.collect() for sample in family.samples if sample.labels.get("model") == model
    ]
    values = {sample.name: sample.value for sample in samples if len(sample.labels) == 1}

    def by(name: str, label: str) -> dict[str, int]:
        return {sample.labels[label]: int(sample.value) for sample in samples if sample.name == name}

    return ModelCounters(
        sentences=by("dragoman_sentences_total", "outcome"),
        rejections=by("dragoman_rejections_total", "reason"),
        source_tokens=int(values["dragoman_source_tokens_total"]),
        target_tokens=int(values["dragoman_target_tokens_total"]),
        phases={
            name: (int(values[f"dragoman_{name}_seconds_count"]), values[f"dragoman_{name}_seconds_sum"])
            for name in _PHASES
        },
    )
