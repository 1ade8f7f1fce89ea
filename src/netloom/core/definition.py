"""A network's definition as a whole: presets, the check of every choice, and against others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from netloom.core.attach.table import ATTACHMENTS
from netloom.core.backends.table import BACKENDS
from netloom.model.errors import InvalidConfig
from netloom.model.fields import nearest
from netloom.model.network import Network

#: Named combinations of the four choices; a definition's own fields win over them.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "flannel": {
        "pools": [{"cidr": "10.244.0.0/16", "blockSize": 24}],
        "addressing": {"mode": "host-block"},
        "attachment": {"type": "bridge", "bridge": "cni0"},
        "backend": {"type": "vxlan", "vni": 1, "port": 8472},
    },
    "calico": {
        "pools": [{"cidr": "192.168.0.0/16", "blockSize": 26}],
        "addressing": {"mode": "on-demand", "maxBlocksPerHost": 20},
        "attachment": {"type": "routed"},
        "backend": {"type": "vxlan", "vni": 4096, "port": 4789, "device": "vxlan.calico"},
    },
}


def preset(name: str) -> dict[str, Any]:
    """Return a preset's fields. Raises InvalidConfig with the nearest name."""
    if name not in PRESETS:
        raise InvalidConfig(
            f"preset: unknown preset {name!r}",
            field="preset",
            value=name,
            hint=nearest(name, PRESETS),
        )
    return dict(PRESETS[name])


def parse(data: Any, where: str = "") -> Network:
    """Parse a definition and check its choices; ``preset`` fills fields that are absent.

    Raises InvalidConfig naming field, value and remedy.
    """
    if isinstance(data, Mapping) and "preset" in data:
        rest = {key: value for key, value in data.items() if key != "preset"}
        data = {**preset(str(data["preset"])), **rest}
    network = Network.parse(data, where)
    check_choices(network, where)
    return network


def check_choices(network: Network, where: str = "") -> None:
    """Check the type and options of every choice. Raises InvalidConfig."""
    dot = f"{where}." if where else ""
    for field, choice, table in (
        ("backend", network.backend, BACKENDS),
        ("attachment", network.attachment, ATTACHMENTS),
    ):
        if choice.type not in table:
            raise InvalidConfig(
                f"{dot}{field}.type: unknown {field} {choice.type!r}",
                field=f"{dot}{field}.type",
                value=choice.type,
                hint=nearest(choice.type, table),
            )
        table[choice.type].parse(choice.options, f"{dot}{field}")
    if network.policy.type != "none":
        raise InvalidConfig(
            f"{dot}policy.type: unknown policy {network.policy.type!r}",
            field=f"{dot}policy.type",
            value=network.policy.type,
            hint=nearest(network.policy.type, ("none",)),
        )
    _check_room(network, dot)


def _check_room(network: Network, dot: str) -> None:
    bits = ATTACHMENTS[network.attachment.type].least_host_bits
    for index, pool in enumerate(network.pools):
        most = pool.cidr.max_prefixlen - bits
        if pool.block_size > most:
            raise InvalidConfig(
                f"{dot}pools[{index}].blockSize: a /{pool.block_size} block has no room for a "
                f"container beside what attachment {network.attachment.type} needs",
                field=f"{dot}pools[{index}].blockSize",
                value=pool.block_size,
                hint=f"choose at most {most}, or another attachment",
            )


def check_against(network: Network, others: Iterable[Network]) -> None:
    """Refuse what cannot stand beside the other networks. Raises InvalidConfig naming both."""
    for other in others:
        if other.name == network.name:
            continue
        _refuse_shared_pool(network, other)
        for field, value in sorted(_claims(network) & _claims(other)):
            raise InvalidConfig(
                f"{field}: {value} is used by network {other.name} already",
                field=field,
                value=value,
                hint="choose another",
            )


def _claims(network: Network) -> set[tuple[str, str]]:
    """Return what a network's choices take on each host that no other network may have."""
    backend = BACKENDS[network.backend.type].claims(network.backend.options)
    attachment = ATTACHMENTS[network.attachment.type].claims(network.attachment.options)
    return {(f"backend.{name}", value) for name, value in backend} | {
        (f"attachment.{name}", value) for name, value in attachment
    }


def _refuse_shared_pool(network: Network, other: Network) -> None:
    for index, pool in enumerate(network.pools):
        for theirs in other.pools:
            if pool.family == theirs.family and pool.cidr.overlaps(theirs.cidr):
                raise InvalidConfig(
                    f"pools[{index}].cidr: {pool.cidr} overlaps {theirs.cidr} of network "
                    f"{other.name}",
                    field=f"pools[{index}].cidr",
                    value=str(pool.cidr),
                    hint="choose a range that no other network uses",
                )
