"""flannel's network configuration: the JSON at ``<prefix>/config``, and the Network it means.

Every key that flannel knows is read, with the defaults that its code has: without a ``Backend`` the
type is udp, and the first block of the range is left out. Keys that flannel does not know are left
alone, as it leaves them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from netloom.core.backends.vxlan import OVERHEAD_BYTES
from netloom.model.errors import InvalidConfig
from netloom.model.fields import nearest
from netloom.model.host import Reservation
from netloom.model.network import Addressing, Choice, Network
from netloom.model.pool import Pool
from netloom.store.flannel.document import decode, folded, take
from netloom.store.flannel.span import Span, read_span

_KEYS = (
    "Network",
    "IPv6Network",
    "EnableIPv4",
    "EnableIPv6",
    "EnableNFTables",
    "SubnetLen",
    "SubnetMin",
    "SubnetMax",
    "IPv6SubnetLen",
    "IPv6SubnetMin",
    "IPv6SubnetMax",
    "Backend",
)
#: flannel's backend types, with the options of those that we have.
_OPTIONS: Mapping[str, Mapping[str, type]] = {
    "vxlan": {
        "VNI": int,
        "Port": int,
        "MTU": int,
        "GBP": bool,
        "Learning": bool,
        "DirectRouting": bool,
    },
    "host-gw": {},
    "udp": {"Port": int},
}
_OTHER_TYPES = ("wireguard", "ipip", "ipsec", "alloc", "extension", "tencent-vpc")
_DEFAULT_TYPE = "udp"
_ATTACHMENT: Mapping[str, Any] = MappingProxyType({"bridge": "cni0", "whenNeeded": True})
_DEFAULT_PORT = {"vxlan": 8472, "udp": 8285}


@dataclass(frozen=True, slots=True)
class FlannelConfig:
    """One configuration, checked. ``spans`` has IPv4's first; ``ignored`` are unknown keys."""

    spans: tuple[Span, ...]
    backend: str = _DEFAULT_TYPE
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    nftables: bool = False
    ignored: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: bytes | str, where: str = "config") -> FlannelConfig:
        """Parse the JSON. Raises InvalidConfig naming field, value, position and remedy."""
        known, others = folded(decode(text, where), _KEYS)
        dot = f"{where}: "
        if not take(known, "EnableIPv4", bool, True, dot):
            raise InvalidConfig(
                f"{dot}EnableIPv4: false cannot be had: every key of flannel's begins with an IPv4 "
                "block",
                field="EnableIPv4",
                value=False,
                hint="leave it out, or use Netloom's own format for a network of IPv6 alone",
            )
        spans = [read_span(known, 4, dot)]
        if take(known, "EnableIPv6", bool, False, dot):
            spans.append(read_span(known, 6, dot))
        backend, options = _backend(known, dot)
        nftables = take(known, "EnableNFTables", bool, False, dot)
        return cls(tuple(spans), backend, options, nftables, tuple(others))

    @property
    def vni(self) -> int:
        """The VNI that leases carry, 0 for a backend that has none."""
        return int(self.options.get("VNI", 1)) if self.backend == "vxlan" else 0

    def network(self, name: str, *, nat_outgoing: bool = True) -> Network:
        """Return the Network this means; containers get a bridge cni0 when the first one comes."""
        return Network(
            name,
            tuple(Pool(span.cidr, span.length, nat_outgoing) for span in self.spans),
            Addressing(),
            Choice("bridge", _ATTACHMENT),
            Choice(self.backend, MappingProxyType(self._backend_options())),
            mtu_bytes=self._mtu(),
        )

    def reservations(self, name: str) -> tuple[Reservation, ...]:
        """Return what SubnetMin and SubnetMax leave out, so that nobody claims it."""
        return tuple(
            Reservation(name, cidr, "outside SubnetMin and SubnetMax of flannel's config")
            for span in self.spans
            for cidr in span.left_out
        )

    def _backend_options(self) -> dict[str, Any]:
        if self.backend == "udp":
            return {"port": self.options.get("Port") or _DEFAULT_PORT["udp"]}
        if self.backend != "vxlan":
            return {}
        return {
            "vni": self.vni,
            "port": self.options.get("Port") or _DEFAULT_PORT["vxlan"],
            "directRouting": self.options.get("DirectRouting", False),
        }

    def _mtu(self) -> int:
        """Return a container's MTU: flannel's MTU is that of the underlay."""
        underlay = int(self.options.get("MTU", 0))
        return underlay - OVERHEAD_BYTES[6 if len(self.spans) > 1 else 4] if underlay else 0


def render(network: Network, before: bytes | None = None) -> bytes:
    """Return the configuration that means ``network``; what else ``before`` says stays.

    Raises InvalidConfig for what flannel's configuration has no place for.
    """
    _refuse_untold(network)
    data: dict[str, Any] = {}
    left: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    if before is not None:
        data, left = folded(decode(before, "config"), _KEYS)
        kept, _ = folded(take(data, "Backend", dict, {}, ""), ("Type", *_OPTIONS["vxlan"]))
    prefixes = {4: ("Network", "Subnet"), 6: ("IPv6Network", "IPv6Subnet")}
    for pool in network.pools:
        range_key, subnet = prefixes[pool.family]
        if data.get(range_key) != str(pool.cidr):
            for end in ("Min", "Max"):
                data.pop(subnet + end, None)
        data[range_key] = str(pool.cidr)
        data[subnet + "Len"] = pool.block_size
    if 6 in network.families:
        data["EnableIPv6"] = True
    backend = _told_backend(network, kept if kept.get("Type") == network.backend.type else {})
    data.pop("Backend", None)
    return json.dumps({**data, "Backend": backend, **left}).encode()


def _refuse_untold(network: Network) -> None:
    wanted = (
        ("addressing.mode", network.addressing.mode, "host-block"),
        ("attachment.type", network.attachment.type, "bridge"),
        ("policy.type", network.policy.type, "none"),
    )
    for name, value, only in wanted:
        if value != only:
            raise InvalidConfig(
                f"{name}: {value!r} has no place in flannel's configuration",
                field=name,
                value=value,
                hint=f"use {only!r} there, or make a network under another name",
            )
    for option, value in network.attachment.options.items():
        if value != _ATTACHMENT.get(option, value if option == "hairpinMode" and value else None):
            raise InvalidConfig(
                f"attachment.{option}: {value!r} has no place in flannel's configuration",
                field=f"attachment.{option}",
                value=value,
                hint="leave it as it is; the CNI configuration's `delegate` may say it",
            )
    counts = [sum(pool.family == family for pool in network.pools) for family in (4, 6)]
    if counts[0] != 1 or counts[1] > 1:
        raise InvalidConfig(
            "pools: flannel's configuration has one IPv4 range and at most one IPv6 range",
            field="pools",
            value=[str(pool.cidr) for pool in network.pools],
            hint="give one pool of each family, or make a network under another name",
        )
    for index, pool in enumerate(network.pools):
        for name, told in (
            ("disabled", pool.disabled),
            ("nodeSelector", pool.node_selector is not None),
            ("assignmentMode", pool.manual),
            ("disableBGPExport", pool.unexported),
        ):
            if told:
                raise InvalidConfig(
                    f"pools[{index}].{name}: it has no place in flannel's configuration",
                    field=f"pools[{index}].{name}",
                    hint="leave it out, or make a network under another name",
                )
    if network.backend.type not in _OPTIONS:
        raise InvalidConfig(
            f"backend.type: {network.backend.type!r} is no backend of flannel's",
            field="backend.type",
            value=network.backend.type,
            hint=nearest(network.backend.type, _OPTIONS),
        )


def _told_backend(network: Network, kept: Mapping[str, Any]) -> dict[str, Any]:
    kind, options = network.backend.type, network.backend.options
    told: dict[str, Any] = {"Type": kind, **kept}
    spelled = {"vni": "VNI", "port": "Port", "directRouting": "DirectRouting"}
    defaults = {"VNI": 1, "Port": _DEFAULT_PORT.get(kind), "DirectRouting": False}
    for ours, theirs in spelled.items():
        value = options.get(ours, options.get(theirs))
        if value is None or (value == defaults[theirs] and theirs not in told):
            continue
        told[theirs] = value
    if device := options.get("device"):
        raise InvalidConfig(
            f"backend.device: {device!r} has no place in flannel's configuration",
            field="backend.device",
            value=device,
            hint="flannel's device is flannel.<VNI>; choose backend.vni",
        )
    if kind == "vxlan" and network.mtu_bytes:
        told["MTU"] = network.mtu_bytes + OVERHEAD_BYTES[6 if 6 in network.families else 4]
    elif network.mtu_bytes:
        raise InvalidConfig(
            f"mtu: {network.mtu_bytes} has no place in flannel's configuration of {kind}",
            field="mtu",
            value=network.mtu_bytes,
            hint="leave it 0: it is made from the underlay's",
        )
    else:
        told.pop("MTU", None)
    return told


def _backend(known: Mapping[str, Any], dot: str) -> tuple[str, Mapping[str, Any]]:
    """Read ``Backend``. flannel looks the type up in lower case."""
    if "Backend" not in known:
        return _DEFAULT_TYPE, MappingProxyType({})
    data = take(known, "Backend", dict, {}, dot)
    where = f"{dot}Backend."
    given, _ = folded(data, ("Type", *(name for options in _OPTIONS.values() for name in options)))
    kind = take(given, "Type", str, "", where).lower()
    if kind in _OTHER_TYPES:
        raise InvalidConfig(
            f"{where}Type: flannel's backend {kind!r} is not one of ours",
            field="Backend.Type",
            value=kind,
            hint="use one of: " + ", ".join(sorted(_OPTIONS)),
        )
    if kind not in _OPTIONS:
        raise InvalidConfig(
            f"{where}Type: unknown backend {kind!r}" if kind else f"{where}Type: missing",
            field="Backend.Type",
            value=kind,
            hint=nearest(kind, (*_OPTIONS, *_OTHER_TYPES)),
        )
    options = {
        name: take(given, name, form, form(), where)
        for name, form in _OPTIONS[kind].items()
        if name in given
    }
    _check_options(options, where)
    return kind, MappingProxyType(options)


def _check_options(options: Mapping[str, Any], where: str) -> None:
    limits = {"VNI": (1, (1 << 24) - 1), "Port": (0, 65535), "MTU": (576, 65535)}
    for name, (low, high) in limits.items():
        if name in options and not low <= options[name] <= high:
            raise InvalidConfig(
                f"{where}{name}: {options[name]} is out of range {low}..{high}",
                field=f"Backend.{name}",
                value=options[name],
                hint=f"choose a number from {low} to {high}",
            )
    for name, reason in (
        ("GBP", "no group policy is carried in the VXLAN header"),
        ("Learning", "all entries of the tunnel are written, none is learned"),
    ):
        if options.get(name):
            raise InvalidConfig(
                f"{where}{name}: true cannot be had: {reason}",
                field=f"Backend.{name}",
                value=True,
                hint="leave it out",
            )
