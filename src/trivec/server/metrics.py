"""What `/metrics` tells, for Prometheus: text-embeddings-inference's names where they mean the same."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.process_collector import ProcessCollector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKENS = (16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


class Metrics:
    """Counts and durations of one server.

    What is counted is a gauge to the library, whose counters would be called `..._total`, unlike the names that
    dashboards for text-embeddings-inference ask for.
    """

    def __init__(self, waiting_tokens: Callable[[], float]) -> None:
        """Begin with nothing counted; `waiting_tokens` is asked whenever somebody looks."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        self.requests = Gauge("te_request_count", "Requests, by path.", ["method"], registry=registry)
        self.successes = Gauge("te_request_success", "Requests that were answered.", ["method"], registry=registry)
        self.failures = Gauge("te_request_failure", "Requests that were not, by kind.", ["err"], registry=registry)
        self.tokens = Gauge("trivec_tokens_count", "Tokens computed.", registry=registry)
        self.texts = Gauge("trivec_texts_count", "Texts computed.", registry=registry)
        self.duration = self._histogram("te_request_duration", "Seconds from a request to its answer.")
        self.tokenizing = self._histogram("te_request_tokenization_duration", "Seconds in which it was tokenized.")
        self.queueing = self._histogram("te_request_queue_duration", "Seconds it waited for the engine.")
        self.computing = self._histogram("te_request_inference_duration", "Seconds in which it was computed.")
        self.batch_seconds = self._histogram("trivec_batch_duration", "Seconds a batch took.")
        self.batch_tokens = self._histogram("te_batch_next_tokens", "Tokens of a batch.", _TOKENS)
        self.batch_texts = self._histogram("te_batch_next_size", "Texts of a batch.", _TOKENS)
        waiting = Gauge("trivec_queue_tokens", "Tokens that wait to be computed.", registry=registry)
        waiting.set_function(waiting_tokens)
        ProcessCollector(registry=registry)

    def batch(self, tokens: int, texts: int, seconds: float) -> None:
        """Note a batch."""
        self.tokens.inc(tokens)
        self.texts.inc(texts)
        self.batch_tokens.observe(tokens)
        self.batch_texts.observe(texts)
        self.batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """What Prometheus reads."""
        return generate_latest(self._registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
        return Histogram(name, meaning, registry=self._registry, buckets=buckets)
