"""What the server counts, for Prometheus: names begin with `embodied_`, durations are in seconds."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
OUTCOMES = ("answered", "expired", "superseded", "invalid", "unavailable", "closing", "session")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One server's counters, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("embodied_requests", "Requests by outcome", ["outcome"], registry=registry)
        self.refused = Counter("embodied_refused", "Connections refused", ["reason"], registry=registry)
        self.sessions = Gauge("embodied_sessions", "Open sessions", registry=registry)
        self.ready = Gauge("embodied_ready", "Whether the policy is loaded", registry=registry)
        self.deaths = Counter("embodied_inference_deaths", "Deaths of the process", registry=registry)
        self.queued = Histogram(
            "embodied_queued_seconds", "Waiting for inference", buckets=SECONDS, registry=registry
        )
        self.served = Histogram(
            "embodied_served_seconds", "From arrival to answer", buckets=SECONDS, registry=registry
        )
        self.batch = Histogram(
            "embodied_batch_size", "Requests decided together", buckets=(1, 2, 4, 8, 16), registry=registry
        )
        for outcome in OUTCOMES:
            self.requests.labels(outcome)

    def text(self) -> str:
        """All of them as Prometheus reads them."""
        return generate_latest(self._registry).decode()

    def outcomes(self) -> dict[str, int]:
        """Requests by outcome."""
        values = {
            sample.labels["outcome"]: int(sample.value)
            for metric in self.requests.collect()
            for sample in metric.samples
            if sample.name == "embodied_requests_total"
        }
        return {outcome: values[outcome] for outcome in OUTCOMES}
