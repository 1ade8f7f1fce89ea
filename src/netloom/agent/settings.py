"""What an agent is told at its start; where each value comes from is the edge's business."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Settings of one agent.

    ``host_id`` is the host's identity and never made from an address. ``interface`` "" finds the
    underlay by the default route. ``audit_s``: how often everything is read again, whatever the
    kernel told us. ``forward_rules``: accept our traffic inside of iptables' tables that drop it.
    ``secrets_dir`` has a file for each password that resources name.
    """

    datastore: str
    state_dir: Path
    run_dir: Path
    socket: Path
    host_id: str
    host_name: str
    interface: str = ""
    audit_s: float = 30.0
    metrics_listen: str = ""
    subnet_file: Path | None = None
    subnet_network: str = "default"
    forward_rules: bool = True
    secrets_dir: Path = Path("/etc/netloom/secrets")
