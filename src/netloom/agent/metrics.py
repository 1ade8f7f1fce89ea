"""What a monitoring system asks: Prometheus metrics of a status, liveness and readiness.

The client library is imported at the first scrape: most hosts are never scraped, and an agent's
start and memory should not pay for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from netloom.agent.contracts import Request, Response, Routes
from netloom.model.status import Status

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def public_routes(status: Callable[[], Status]) -> Routes:
    """Return ``/metrics``, ``/healthz`` and ``/readyz``, each asking ``status`` anew.

    ``/healthz`` says that the agent answers; ``/readyz`` is 503 while it is not ready, with the
    reasons, one to a line.
    """

    def metrics(request: Request) -> Response:
        return Response(body=exposition(status()), content_type=CONTENT_TYPE)

    def healthz(request: Request) -> Response:
        return Response(body=b"ok\n", content_type="text/plain")

    def readyz(request: Request) -> Response:
        now = status()
        lines = ["ready" if now.ready else "not ready"]
        lines += [f"{p.severity}: {p.subject}: {p.text}" for p in now.problems]
        body = ("\n".join(lines) + "\n").encode()
        return Response(200 if now.ready else 503, body=body, content_type="text/plain")

    return {("GET", "/metrics"): metrics, ("GET", "/healthz"): healthz, ("GET", "/readyz"): readyz}


def exposition(status: Status) -> bytes:
    """Return ``status`` in Prometheus' text format, version 0.0.4."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415  # see above

    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(status))
    return generate_latest(registry)


class StatusCollector:
    """The metrics of one status, as prometheus_client's registry collects them."""

    def __init__(self, status: Status) -> None:
        self.status = status

    def collect(self) -> Iterator[Metric]:
        """Yield every family; names and units follow Prometheus' conventions."""
        yield from self._agent()
        yield from self._kernel()
        yield from self._addresses()

    def _agent(self) -> Iterator[Metric]:
        now = self.status
        yield _gauge(
            "info",
            "What this agent is; always 1.",
            {(now.version, now.host_id, now.host_name): 1},
            ("version", "host_id", "host_name"),
        )
        yield _gauge("ready", "1 when containers can be attached.", {(): now.ready})
        yield _gauge("well", "1 when nothing needs a person.", {(): now.well})
        if now.started:
            started = datetime.fromisoformat(now.started).timestamp()
            yield _gauge("start_time_seconds", "When the agent started.", {(): started})
        connected = now.store.state == "connected"
        yield _gauge("store_connected", "1 when the cluster store answers.", {(): connected})
        yield _gauge("store_revision", "The store's revision seen last.", {(): now.store.revision})
        severities = Counter({"error": 0, "warning": 0})
        severities.update(p.severity for p in now.problems if p.needs_a_person)
        yield _gauge(
            "problems",
            "Things that need a person, by severity.",
            {(name,): count for name, count in severities.items()},
            ("severity",),
        )
        ill = sum(1 for peer in now.peers if peer.problem)
        yield _gauge("peers", "Other hosts that are known.", {(): len(now.peers)})
        yield _gauge("peers_failing", "Other hosts with a problem.", {(): ill})
        yield _gauge("endpoints", "Attached interfaces on this host.", {(): now.endpoints})

    def _kernel(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415  # see above

        kernel = self.status.kernel
        yield _gauge(
            "kernel_revision", "The store's revision applied in full.", {(): kernel.revision}
        )
        yield _gauge(
            "kernel_objects",
            "Desired kernel objects, by kind.",
            {(kind,): count for kind, count in kernel.objects.items()},
            ("kind",),
        )
        yield _gauge(
            "kernel_failing", "Changes that the kernel refuses.", {(): len(kernel.failing)}
        )
        repaired = CounterMetricFamily(
            "netloom_kernel_repaired",
            "Objects that another hand changed and we put right, by kind.",
            labels=("kind",),
        )
        for kind, count in kernel.repaired.items():
            repaired.add_metric((kind,), count)
        yield repaired

    def _addresses(self) -> Iterator[Metric]:
        blocks = [(net.name, block) for net in self.status.networks for block in net.blocks]
        for field, help_text in (
            ("used", "Addresses in use in a block of this host."),
            ("size", "Addresses that a block of this host can hold."),
        ):
            yield _gauge(
                f"block_addresses_{field}",
                help_text,
                {(name, str(block["cidr"])): block.get(field, 0) for name, block in blocks},
                ("network", "block"),
            )


def _gauge(
    name: str,
    help_text: str,
    values: dict[tuple[str, ...], float],
    labels: tuple[str, ...] = (),
) -> GaugeMetricFamily:
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415  # see above

    family = GaugeMetricFamily(f"netloom_{name}", help_text, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, float(value))
    return family
