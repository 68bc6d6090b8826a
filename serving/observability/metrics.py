"""Prometheus metrics of the server, in a registry of their own.

Label sets are closed: models are the loaded ones; methods, codes, phases and reasons are enumerations. No label ever
holds an address, a key or text. Gauges are read from the engines at each scrape, so none can go stale.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from serving.engine.observer import DropReason, Observer, Outcome, RejectReason
from serving.messages import FinishReason, QualityFlag
from serving.observability.call_metrics import CALL_SECONDS, CallMetrics
from serving.observability.gpu import GpuCollector

_PHASE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_POWERS_OF_TWO = tuple(2.0**n for n in range(11))
_RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Metrics:
    """Registry of every metric counted as events happen; :mod:`serving.observability.gauges` reads the others."""

    def __init__(self) -> None:
        """Create all families."""
        self.registry = registry = CollectorRegistry()
        self.calls = CallMetrics(registry)
        ProcessCollector(registry=registry)
        registry.register(GpuCollector())

        self.model_loads = Counter(
            "dragoman_model_loads_total", "Bundles read while the server ran.", ("outcome",), registry=registry
        )
        for outcome in ("loaded", "refused"):
            self.model_loads.labels(outcome)

        def counter(name: str, help_: str, *labels: str) -> Counter:
            return Counter(name, help_, ("model", *labels), registry=registry)

        def histogram(name: str, help_: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, help_, ("model", *labels), buckets=buckets, registry=registry)

        self.rejections = counter("dragoman_rejections_total", "Sentences refused by a queue.", "reason")
        self.dropped = counter(
            "dragoman_dropped_sentences_total", "Accepted sentences dropped before encoding.", "reason"
        )
        self.sentences = counter("dragoman_sentences_total", "Accepted sentences by outcome.", "outcome")
        self.engine_restarts = counter("dragoman_engine_restarts_total", "Decoding grids replaced after a failure.")
        self.finish_reasons = counter(
            "dragoman_finish_reasons_total", "Translations by the reason they ended.", "reason"
        )
        self.quality_flags = counter("dragoman_quality_flags_total", "Signs that translations may be wrong.", "flag")
        self.source_tokens = counter("dragoman_source_tokens_total", "Source tokens encoded.")
        self.padding_tokens = counter("dragoman_padding_tokens_total", "Padding tokens encoded.")
        self.target_tokens = counter("dragoman_target_tokens_total", "Target tokens of best hypotheses.")

        self.queue_seconds = histogram("dragoman_queue_seconds", "Time a sentence waited for a slot.", CALL_SECONDS)
        self.first_token_seconds = histogram(
            "dragoman_time_to_first_token_seconds", "Time from acceptance to the first decoder step.", CALL_SECONDS
        )
        self.tokenize_seconds = histogram(
            "dragoman_tokenize_seconds", "Time to split and tokenize a request.", _PHASE_SECONDS
        )
        self.encode_seconds = histogram("dragoman_encode_seconds", "Duration of one encoder batch.", _PHASE_SECONDS)
        self.step_seconds = histogram("dragoman_step_seconds", "Duration of one decoder step.", _PHASE_SECONDS)
        self.step_host_seconds = histogram(
            "dragoman_step_host_seconds", "Time of one decoder step spent outside the model.", _PHASE_SECONDS
        )
        self.detokenize_seconds = histogram(
            "dragoman_detokenize_seconds", "Time to detokenize a request.", _PHASE_SECONDS
        )
        self.batch_rows = histogram("dragoman_batch_rows", "Rows of one batch.", _POWERS_OF_TWO, "phase")
        self.padding_ratio = histogram("dragoman_padding_ratio", "Fraction of padding in an encoder batch.", _RATIOS)
        self.source_length = histogram("dragoman_source_length_tokens", "Source tokens of a sentence.", _POWERS_OF_TWO)
        self.target_length = histogram(
            "dragoman_target_length_tokens", "Target tokens of a translation.", _POWERS_OF_TWO
        )
        self.cancel_steps = histogram(
            "dragoman_cancel_steps", "Decoder steps before a cancelled sentence freed its slot.", (0, 1, 2, 3, 5, 10)
        )


class ModelMetrics(Observer):
    """Metrics of one model, as its engine and translator report them."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        """Create every series of the model at once, so that rates count its first event."""
        m = metrics
        self._rejected = {reason: m.rejections.labels(model, reason) for reason in RejectReason}
        self._dropped = {reason: m.dropped.labels(model, reason) for reason in DropReason}
        self._sentences = {outcome: m.sentences.labels(model, outcome) for outcome in Outcome}
        self._engine_restarts = m.engine_restarts.labels(model)
        self._finish_reasons = {
            reason: m.finish_reasons.labels(model, reason) for reason in (FinishReason.EOS, FinishReason.LENGTH)
        }
        self._quality_flags: dict[QualityFlag, Counter] = {
            flag: m.quality_flags.labels(model, flag) for flag in QualityFlag if flag is not QualityFlag.UNKNOWN
        }
        self._source_tokens = m.source_tokens.labels(model)
        self._padding_tokens = m.padding_tokens.labels(model)
        self._target_tokens = m.target_tokens.labels(model)
        self._queue_seconds = m.queue_seconds.labels(model)
        self._first_token_seconds = m.first_token_seconds.labels(model)
        self._tokenize_seconds = m.tokenize_seconds.labels(model)
        self._encode_seconds = m.encode_seconds.labels(model)
        self._step_seconds = m.step_seconds.labels(model)
        self._step_host_seconds = m.step_host_seconds.labels(model)
        self._detokenize_seconds = m.detokenize_seconds.labels(model)
        self._encode_rows = m.batch_rows.labels(model, "encode")
        self._step_rows = m.batch_rows.labels(model, "step")
        self._padding_ratio = m.padding_ratio.labels(model)
        self._source_length = m.source_length.labels(model)
        self._target_length = m.target_length.labels(model)
        self._cancel_steps = m.cancel_steps.labels(model)

    def submitted(self, sentences: int, source_tokens: int) -> None:
        """Ignore accepted sentences; they are counted when they are encoded and when they end."""

    def rejected(self, sentences: int, reason: RejectReason) -> None:
        """Count refused sentences."""
        self._rejected[reason].inc(sentences)

    def dropped(self, reason: DropReason) -> None:
        """Count a sentence dropped before encoding."""
        self._dropped[reason].inc()

    def admitted(self, queue_seconds: float) -> None:
        """Record the wait for a slot."""
        self._queue_seconds.observe(queue_seconds)

    def encoded(self, seconds: float, sources: int, tokens: int, padding: int) -> None:
        """Record one encoder batch."""
        self._encode_seconds.observe(seconds)
        self._encode_rows.observe(sources)
        self._source_tokens.inc(tokens)
        self._padding_tokens.inc(padding)
        self._padding_ratio.observe(padding / (tokens + padding))

    def stepped(self, seconds: float, host_seconds: float, slots: int, beam: int) -> None:
        """Record one decoder step."""
        self._step_seconds.observe(seconds)
        self._step_host_seconds.observe(host_seconds)
        self._step_rows.observe(slots * beam)

    def first_token(self, seconds: float) -> None:
        """Record the time to a first token."""
        self._first_token_seconds.observe(seconds)

    def freed(self, steps: int) -> None:
        """Record how many steps a cancelled sentence kept its slot."""
        self._cancel_steps.observe(steps)

    def restarted(self) -> None:
        """Count a grid that was replaced."""
        self._engine_restarts.inc()

    def finished(self, outcome: Outcome, finish_reason: FinishReason | None, target_tokens: int) -> None:
        """Count a sentence that ended."""
        self._sentences[outcome].inc()
        if finish_reason is not None:
            self._finish_reasons[finish_reason].inc()
            self._target_tokens.inc(target_tokens)
            self._target_length.observe(target_tokens)

    def tokenized(self, seconds: float, source_lengths: Sequence[int]) -> None:
        """Record the tokenization of a request."""
        self._tokenize_seconds.observe(seconds)
        for length in source_lengths:
            self._source_length.observe(length)

    def detokenized(self, seconds: float) -> None:
        """Record the detokenization of a request."""
        self._detokenize_seconds.observe(seconds)

    def flagged(self, flag: QualityFlag) -> None:
        """Count a sign that a translation may be wrong."""
        self._quality_flags[flag].inc()
