"""A network's definition as a whole: presets, the check of every choice, and against others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from netloom.core.attach.contract import Attachment
from netloom.core.attach.table import ATTACHMENTS
from netloom.core.backends.contract import Backend
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
        "backend": {"type": "bgp"},
    },
}


def preset(name: str, where: str = "preset") -> dict[str, Any]:
    """Return a preset's fields, the caller's own. Raises InvalidConfig with the nearest name."""
    if name not in PRESETS:
        raise InvalidConfig(
            f"{where}: unknown preset {name!r}",
            field=where,
            value=name,
            hint=nearest(name, PRESETS),
        )
    return deepcopy(dict(PRESETS[name]))


def parse(data: Any, where: str = "") -> Network:
    """Parse a definition and check its choices; ``preset`` fills fields that are absent or null.

    Raises InvalidConfig naming field, value and remedy.
    """
    if isinstance(data, Mapping) and "preset" in data:
        given = {k: v for k, v in data.items() if k != "preset" and v is not None}
        base = preset(str(data["preset"]), f"{where}.preset" if where else "preset")
        data = {**base, **given}
    network = Network.parse(data, where)
    check_choices(network, where)
    return network


def check_choices(network: Network, where: str = "") -> None:
    """Check the type and options of every choice. Raises InvalidConfig."""
    dot = f"{where}." if where else ""
    backend, attachment = _implementations(network, dot)
    backend.parse(network.backend.options, f"{dot}backend")
    _check_families(network, backend, dot)
    attachment.parse(network.attachment.options, f"{dot}attachment")
    if network.addressing.borrowing and not attachment.lends:
        raise InvalidConfig(
            f"{dot}addressing.borrowing: containers attached by {attachment.name} look for every "
            "address of their host's block on their own segment, where a lent one is not",
            field=f"{dot}addressing.borrowing",
            value=True,
            hint="choose attachment: routed, or leave borrowing out",
        )
    if network.policy.type != "none":
        raise InvalidConfig(
            f"{dot}policy.type: unknown policy {network.policy.type!r}",
            field=f"{dot}policy.type",
            value=network.policy.type,
            hint=nearest(network.policy.type, ("none",)),
        )
    things: set[str] = set()
    for field, thing in _claims(network):
        if thing in things:
            raise InvalidConfig(
                f"{dot}{field}: {thing} is wanted twice by this network",
                field=f"{dot}{field}",
                value=thing,
                hint=f"choose another {field}",
            )
        things.add(thing)
    for index, choice in enumerate(network.retiring):
        if choice.type not in BACKENDS:
            raise InvalidConfig(
                f"{dot}retiring[{index}].type: unknown backend {choice.type!r}",
                field=f"{dot}retiring[{index}].type",
                value=choice.type,
                hint=nearest(choice.type, BACKENDS),
            )
        BACKENDS[choice.type].parse(choice.options, f"{dot}retiring[{index}]")
    _check_room(network, dot)


def _check_families(network: Network, backend: Backend, dot: str) -> None:
    for index, pool in enumerate(network.pools):
        if pool.family not in backend.families:
            carried = " and ".join(f"IPv{family}" for family in sorted(backend.families))
            raise InvalidConfig(
                f"{dot}pools[{index}].cidr: backend {backend.name} carries {carried} only, "
                f"and {pool.cidr} is IPv{pool.family}",
                field=f"{dot}pools[{index}].cidr",
                value=str(pool.cidr),
                hint="remove this pool, or choose another backend, such as vxlan",
            )


def _implementations(network: Network, dot: str = "") -> tuple[Backend, Attachment]:
    for field, choice, known in (
        ("backend", network.backend, tuple(BACKENDS)),
        ("attachment", network.attachment, tuple(ATTACHMENTS)),
    ):
        if choice.type not in known:
            raise InvalidConfig(
                f"{dot}{field}.type: unknown {field} {choice.type!r}",
                field=f"{dot}{field}.type",
                value=choice.type,
                hint=nearest(choice.type, known),
            )
    return BACKENDS[network.backend.type], ATTACHMENTS[network.attachment.type]


def _check_room(network: Network, dot: str) -> None:
    backend, attachment = _implementations(network)
    bits = max(attachment.least_host_bits, backend.least_host_bits)
    who = (
        ("attachment", network.attachment.type)
        if attachment.least_host_bits == bits
        else ("backend", network.backend.type)
    )
    for index, pool in enumerate(network.pools):
        most = pool.cidr.max_prefixlen - bits
        if pool.block_size > most:
            raise InvalidConfig(
                f"{dot}pools[{index}].blockSize: a /{pool.block_size} block has no room for a "
                f"container beside what {' '.join(who)} needs",
                field=f"{dot}pools[{index}].blockSize",
                value=pool.block_size,
                hint=f"choose at most {most}, or another {who[0]}",
            )


def check_against(network: Network, others: Iterable[Network]) -> None:
    """Refuse what cannot stand beside the other networks. Raises InvalidConfig naming both.

    Of another network that this version cannot do, only the pools count.
    """
    for other in others:
        if other.name == network.name:
            continue
        _refuse_shared_pool(network, other)
        try:
            taken = {thing for _, thing in _claims(other)}
        except InvalidConfig:
            continue
        for field, thing in _claims(network):
            if thing in taken:
                raise InvalidConfig(
                    f"{field}: {thing} is used by network {other.name} already",
                    field=field,
                    value=thing,
                    hint=f"choose another {field}",
                )


def _claims(network: Network) -> list[tuple[str, str]]:
    """Return (field, thing) for what a network takes on each host and no other may have."""
    backend, attachment = _implementations(network)
    return [
        *((f"backend.{name}", thing) for name, thing in backend.claims(network.backend.options)),
        *(
            (f"attachment.{name}", thing)
            for name, thing in attachment.claims(network.attachment.options)
        ),
    ]


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
