"""The server's Prometheus metrics, all in a registry of their own.

Label sets are closed: models are those that are loaded, methods, codes, phases and reasons are enumerations. No label
ever holds an address, a key or text. Gauges are read from the engines when Prometheus asks, so none can be left behind.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from serving.decoding.hypothesis import FinishReason
from serving.engine.observer import DropReason, Observer, Outcome, RejectReason
from serving.observability.call_metrics import CALL_SECONDS, CallMetrics
from serving.observability.gpu import GpuCollector

_PHASE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_POWERS_OF_TWO = tuple(2.0**n for n in range(11))
_RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Metrics:
    """The registry, with every metric that is counted as things happen; :mod:`serving.api.gauges` reads the others."""

    def __init__(self, service: str) -> None:
        """Makes all families; ``service`` is the full name of the gRPC service that is counted."""
        self.registry = registry = CollectorRegistry()
        self.calls = CallMetrics(registry, service)
        ProcessCollector(registry=registry)
        registry.register(GpuCollector())

        def counter(name: str, help_: str, *labels: str) -> Counter:
            return Counter(name, help_, labels, registry=registry)

        def histogram(name: str, help_: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, help_, labels, buckets=buckets, registry=registry)

        self.rejections = counter("dragoman_rejections_total", "Sentences a queue refused.", "model", "reason")
        self.dropped = counter(
            "dragoman_dropped_sentences_total", "Sentences that left a queue unencoded.", "model", "reason"
        )
        self.sentences = counter(
            "dragoman_sentences_total", "Accepted sentences by how they ended.", "model", "outcome"
        )
        self.engine_restarts = counter(
            "dragoman_engine_restarts_total", "Grids given up after a failure and made anew.", "model"
        )
        self.finish_reasons = counter("dragoman_finish_reasons_total", "Why translations ended.", "model", "reason")
        self.source_tokens = counter("dragoman_source_tokens_total", "Source tokens encoded.", "model")
        self.padding_tokens = counter("dragoman_padding_tokens_total", "Padding tokens encoded.", "model")
        self.target_tokens = counter("dragoman_target_tokens_total", "Target tokens of best hypotheses.", "model")

        self.queue_seconds = histogram("dragoman_queue_seconds", "A sentence's wait for a slot.", CALL_SECONDS, "model")
        self.first_token_seconds = histogram(
            "dragoman_time_to_first_token_seconds", "From acceptance to the first step.", CALL_SECONDS, "model"
        )
        self.tokenize_seconds = histogram(
            "dragoman_tokenize_seconds", "Splitting and tokenizing a request.", _PHASE_SECONDS, "model"
        )
        self.encode_seconds = histogram("dragoman_encode_seconds", "One encoder batch.", _PHASE_SECONDS, "model")
        self.step_seconds = histogram("dragoman_step_seconds", "One decoder step.", _PHASE_SECONDS, "model")
        self.step_host_seconds = histogram(
            "dragoman_step_host_seconds", "One decoder step's share outside the model.", _PHASE_SECONDS, "model"
        )
        self.detokenize_seconds = histogram(
            "dragoman_detokenize_seconds", "Putting a request's texts together.", _PHASE_SECONDS, "model"
        )
        self.batch_rows = histogram("dragoman_batch_rows", "Rows of a batch.", _POWERS_OF_TWO, "model", "phase")
        self.padding_ratio = histogram(
            "dragoman_padding_ratio", "Share of padding in an encoder batch.", _RATIOS, "model"
        )
        self.source_length = histogram(
            "dragoman_source_length_tokens", "Source tokens of a sentence.", _POWERS_OF_TWO, "model"
        )
        self.target_length = histogram(
            "dragoman_target_length_tokens", "Target tokens of a translation.", _POWERS_OF_TWO, "model"
        )
        self.cancel_steps = histogram(
            "dragoman_cancel_steps", "Steps a cancelled sentence kept its slot.", (0, 1, 2, 3, 5, 10), "model"
        )


class ModelMetrics(Observer):
    """One model's share of the metrics, as its engine and translator report them."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        """Makes every series of the model at once, so that a rate is defined from its first event on."""
        m = metrics
        self._rejected = {reason: m.rejections.labels(model, reason) for reason in RejectReason}
        self._dropped = {reason: m.dropped.labels(model, reason) for reason in DropReason}
        self._sentences = {outcome: m.sentences.labels(model, outcome) for outcome in Outcome}
        self._engine_restarts = m.engine_restarts.labels(model)
        self._finish_reasons = {reason: m.finish_reasons.labels(model, reason) for reason in FinishReason}
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
        """Sentences were accepted; they are counted when they are encoded and when they end."""

    def rejected(self, sentences: int, reason: RejectReason) -> None:
        """Counts sentences that were refused."""
        self._rejected[reason].inc(sentences)

    def dropped(self, reason: DropReason) -> None:
        """Counts a sentence that was never encoded."""
        self._dropped[reason].inc()

    def admitted(self, queue_seconds: float) -> None:
        """Records a wait for a slot."""
        self._queue_seconds.observe(queue_seconds)

    def encoded(self, seconds: float, sources: int, tokens: int, padding: int) -> None:
        """Records one encoder batch."""
        self._encode_seconds.observe(seconds)
        self._encode_rows.observe(sources)
        self._source_tokens.inc(tokens)
        self._padding_tokens.inc(padding)
        self._padding_ratio.observe(padding / (tokens + padding))

    def stepped(self, seconds: float, host_seconds: float, slots: int, beam: int) -> None:
        """Records one decoder step."""
        self._step_seconds.observe(seconds)
        self._step_host_seconds.observe(host_seconds)
        self._step_rows.observe(slots * beam)

    def first_token(self, seconds: float) -> None:
        """Records the time to a first token."""
        self._first_token_seconds.observe(seconds)

    def freed(self, steps: int) -> None:
        """Records how long a cancelled sentence kept its slot."""
        self._cancel_steps.observe(steps)

    def restarted(self) -> None:
        """Counts a grid that was given up."""
        self._engine_restarts.inc()

    def finished(self, outcome: Outcome, finish_reason: FinishReason | None, target_tokens: int) -> None:
        """Counts a sentence that ended."""
        self._sentences[outcome].inc()
        if finish_reason is not None:
            self._finish_reasons[finish_reason].inc()
            self._target_tokens.inc(target_tokens)
            self._target_length.observe(target_tokens)

    def tokenized(self, seconds: float, source_lengths: Sequence[int]) -> None:
        """Records the tokenizing of a request."""
        self._tokenize_seconds.observe(seconds)
        for length in source_lengths:
            self._source_length.observe(length)

    def detokenized(self, seconds: float) -> None:
        """Records the putting together of a request's texts."""
        self._detokenize_seconds.observe(seconds)
