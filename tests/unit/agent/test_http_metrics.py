"""Metrics, liveness and readiness of a status."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

from netloom.agent.contracts import Request
from netloom.agent.metrics import exposition, public_routes
from netloom.model.status import KernelStatus, NetworkStatus, PeerStatus, Status, StoreStatus
from netloom.model.view import Problem

WELL = Status(
    host_id="1a",
    host_name="h1",
    version="0.1.0",
    pid=42,
    started="2026-03-01T12:00:00+00:00",
    ready=True,
    underlay={"ipv4": "192.168.31.62/24"},
    underlay_reason="default route",
    store=StoreStatus("sqlite:///x", "connected", "2026-03-01T12:00:00+00:00", 7),
    kernel=KernelStatus(7, "", {"route": 3}, {"route": 2}),
    networks=(
        NetworkStatus(
            "blue", "vxlan", "bridge", 1450, ({"cidr": "10.244.1.0/24", "used": 2, "size": 253},)
        ),
    ),
    peers=(PeerStatus("2b", "h2", ("192.168.31.63",), ("10.244.2.0/24",), "vxlan", "no answer"),),
    endpoints=2,
)


def lines(status: Status) -> set[str]:
    return set(exposition(status).decode().splitlines())


def test_a_scrape_tells_every_number_of_the_status() -> None:
    assert lines(WELL) >= {
        'netloom_info{host_id="1a",host_name="h1",version="0.1.0"} 1.0',
        "netloom_ready 1.0",
        "netloom_well 1.0",
        "netloom_store_connected 1.0",
        "netloom_store_revision 7.0",
        "netloom_kernel_revision 7.0",
        'netloom_kernel_objects{kind="route"} 3.0',
        'netloom_kernel_repaired_total{kind="route"} 2.0',
        'netloom_block_addresses_used{block="10.244.1.0/24",network="blue"} 2.0',
        'netloom_block_addresses_size{block="10.244.1.0/24",network="blue"} 253.0',
        "netloom_peers 1.0",
        "netloom_peers_failing 1.0",
        "netloom_endpoints 2.0",
        'netloom_problems{severity="error"} 0.0',
    }


def test_what_was_put_right_is_told_and_needs_nobody() -> None:
    over = replace(WELL, problems=(Problem("note", "host h1", "its lease is granted anew"),))
    assert over.render()["problems"]
    assert lines(over) >= {"netloom_well 1.0", 'netloom_problems{severity="warning"} 0.0'}


def test_a_store_that_is_away_shows_in_a_scrape() -> None:
    away = replace(
        WELL,
        store=StoreStatus("sqlite:///x", "away", "2026-03-01T12:00:00+00:00", 7),
        problems=(Problem("error", "store", "does not answer"),),
    )
    assert lines(away) >= {
        "netloom_well 0.0",
        "netloom_store_connected 0.0",
        'netloom_problems{severity="error"} 1.0',
    }


def test_readiness_turns_false_and_says_why() -> None:
    problem = Problem("error", "network blue", "no block")
    now = [WELL]
    routes = public_routes(lambda: now[0])
    ready = routes["GET", "/readyz"]
    assert ready(Request("GET", "/readyz")).status == 200
    now[0] = replace(WELL, ready=False, problems=(problem,))
    answer = ready(Request("GET", "/readyz"))
    assert (answer.status, answer.body) == (503, b"not ready\nerror: network blue: no block\n")
    assert routes["GET", "/healthz"](Request("GET", "/healthz")).status == 200


def test_the_metrics_library_is_not_imported_before_the_first_scrape() -> None:
    program = "import sys, netloom.agent.metrics; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"False\n"
