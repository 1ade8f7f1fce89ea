"""The network configuration on a plugin's stdin, in the specification's versions 0.3.0 to 1.1.0.

Parsed in two steps, since DEL must come through where ADD would be refused: :class:`Configuration`
has what every verb needs; :meth:`Configuration.wishes` reads the rest. Keys that we do not know are
left alone, as CNI demands: a runtime and its user may write more than one plugin reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from netloom.drivers.cni import codes, flannel
from netloom.drivers.cni.environment import Environment
from netloom.drivers.cni.errors import CniError, invalid
from netloom.drivers.cni.result import Result
from netloom.drivers.cni.versions import CURRENT, SUPPORTED
from netloom.model.addr import IPAddress, parse_address, parse_mac
from netloom.model.endpoint import Bandwidth, PortMapping
from netloom.model.fields import Fields
from netloom.model.network import parse_name

DEFAULT_NETWORK = "default"
#: The label by which a configuration knows its own endpoints among those of one network.
NAME_LABEL = "cni.name"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
#: Runtime settings that ask for what we cannot give: to ignore them would be to disobey silently.
_REFUSED_SETTINGS = ("ipRanges", "infinibandGUID", "deviceID")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller wants of this one attachment, from wherever it said so."""

    addresses: tuple[IPAddress, ...] = ()
    mac: str = ""
    ports: tuple[PortMapping, ...] = ()
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    dns: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Configuration:
    """``name`` is the CNI configuration's own, ``network`` the Netloom network it leads to."""

    version: str
    name: str
    network: str
    keys: Mapping[str, Any]

    @classmethod
    def parse(cls, body: bytes) -> Configuration:
        """Parse stdin. Raises CniError (1, 6, 7) or InvalidConfig naming the field."""
        data = _decode(body)
        version = data.get("cniVersion", "0.1.0")
        if version not in SUPPORTED:
            raise CniError(
                codes.INCOMPATIBLE_VERSION,
                f"cniVersion: {version!r} is not supported",
                f"supported are {', '.join(SUPPORTED)}",
            )
        fields = Fields(data, "")
        name = fields.take_str("name")
        if not name:
            raise invalid("name", name, "is missing: a network configuration has a name")
        if not _NAME.fullmatch(name):
            raise invalid("name", name, "is not a name", "letters, digits, '_', '.' and '-'")
        network = parse_name(fields.take("network", DEFAULT_NETWORK), "network")
        return cls(version, name, network, MappingProxyType(data))

    @property
    def previous(self) -> Result | None:
        """The result of the plugins before us, or of the whole ADD; None when there is none."""
        data = self.keys.get("prevResult")
        return None if data is None else Result.parse(data)

    def valid_attachments(self) -> frozenset[tuple[str, str]]:
        """Return the (container id, ifname) that a GC keeps. Raises InvalidConfig.

        A missing key is an error, null is an empty list: libcni always writes the key, and to take
        its absence for "none" would remove every container's network.
        """
        for key in ("cni.dev/valid-attachments", "cni.dev/attachments"):
            if key in self.keys:
                items = Fields(self.keys, "").take_list(key)
                return frozenset(_attachment(item, f"{key}[{i}]") for i, item in enumerate(items))
        raise invalid(
            "cni.dev/valid-attachments",
            None,
            "is missing: GC needs the attachments to keep",
            "an empty list removes all",
        )

    def wishes(self, environment: Environment) -> Wishes:
        """Parse what an ADD wants. ``runtimeConfig`` beats ``args``, which beats CNI_ARGS.

        Raises InvalidConfig naming the field, CniError 2 for a setting that we cannot honour.
        """
        fields = Fields(self.keys, "")
        if flannel.is_flannels(self.keys):
            flannel.check(self.keys)
        else:
            _refuse_ipam(fields)
        runtime = Fields(fields.take_map("runtimeConfig"), "runtimeConfig")
        args = Fields(fields.take_map("args"), "args")
        cni = Fields(args.take_map("cni"), "args.cni")
        for name in _REFUSED_SETTINGS:
            if value := runtime.take(name):
                raise CniError(
                    codes.UNSUPPORTED_FIELD,
                    f"runtimeConfig.{name}: {json.dumps(value)[:200]} is not supported",
                    f"remove {name!r} from the plugin's capabilities",
                )
        texts = [text for text in environment.arguments.get("IP", "").split(",") if text]
        addresses = (
            _addresses(runtime.take_list("ips"), "runtimeConfig.ips")
            or _addresses(cni.take_list("ips"), "args.cni.ips")
            or _addresses(texts, "CNI_ARGS IP")
        )
        labels = {**environment.labels, **_labels(cni.take_list("labels")), NAME_LABEL: self.name}
        return Wishes(
            addresses,
            _mac(runtime, cni, environment),
            _ports(runtime.take_list("portMappings")),
            Bandwidth.parse(runtime.take_map("bandwidth"), "runtimeConfig.bandwidth"),
            MappingProxyType(labels),
            _dns(fields, runtime),
        )


def version_of(body: bytes) -> str:
    """Return the version to answer in: the configuration's if it is one of ours."""
    try:
        version = _decode(body).get("cniVersion")
    except CniError:
        return CURRENT
    return version if version in SUPPORTED else CURRENT


def _decode(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise CniError(
            codes.BAD_JSON, f"the network configuration is not JSON: {error}", _shown(body)
        ) from None
    if not isinstance(data, dict):
        raise CniError(
            codes.BAD_JSON, "the network configuration is not a JSON object", _shown(body)
        )
    if not isinstance(data.get("cniVersion", ""), str):
        raise CniError(codes.BAD_JSON, f"cniVersion: {data['cniVersion']!r} is not a string")
    return data


def _shown(body: bytes) -> str:
    return body[:200].decode("utf-8", "replace")


def _refuse_ipam(fields: Fields) -> None:
    if ipam := fields.take("ipam"):
        raise invalid(
            "ipam",
            ipam,
            "cannot be used: Netloom deals the addresses itself, from its network's pools",
            "remove the key; see `netloom ipam show`",
        )


def _attachment(data: object, where: str) -> tuple[str, str]:
    fields = Fields(data, where)
    container, ifname = fields.take_str("containerID"), fields.take_str("ifname")
    if not container or not ifname:
        raise invalid(where, data, "needs a containerID and an ifname")
    return container, ifname


def _addresses(texts: list[Any], where: str) -> tuple[IPAddress, ...]:
    """Parse wanted addresses, with or without a prefix length; at most one per family."""
    found: dict[int, IPAddress] = {}
    for index, text in enumerate(texts):
        name = f"{where}[{index}]"
        bare = text.partition("/")[0] if isinstance(text, str) else text
        address = parse_address(bare, name)
        if address.version in found:
            raise invalid(
                name,
                text,
                f"is a second IPv{address.version} address",
                "an interface gets one address of each family",
            )
        found[address.version] = address
    return tuple(found[version] for version in sorted(found))


def _mac(runtime: Fields, cni: Fields, environment: Environment) -> str:
    sources = (
        (runtime.take("mac"), "runtimeConfig.mac"),
        (cni.take("mac"), "args.cni.mac"),
        (environment.arguments.get("MAC"), "CNI_ARGS MAC"),
    )
    return next((parse_mac(text, where) for text, where in sources if text), "")


def _ports(items: list[Any]) -> tuple[PortMapping, ...]:
    """Parse published ports; host port 0 is how some runtimes say "not published"."""
    published = (
        (index, item)
        for index, item in enumerate(items)
        if not (isinstance(item, Mapping) and item.get("hostPort", 0) == 0)
    )
    return tuple(
        PortMapping.parse(item, f"runtimeConfig.portMappings[{index}]") for index, item in published
    )


def _labels(items: list[Any]) -> dict[str, str]:
    labels = {}
    for index, item in enumerate(items):
        fields = Fields(item, f"args.cni.labels[{index}]")
        key, value = fields.take_str("key"), fields.take_str("value")
        if not key or not (key + value).isprintable():
            raise invalid(fields.where, item, "is not a label: a key and a value of plain text")
        labels[key] = value
    return labels


def _dns(fields: Fields, runtime: Fields) -> Mapping[str, Any]:
    """Return what the result says of DNS: the runtime's setting, else the configuration's own."""
    own = fields.take_map("dns")
    given = Fields(runtime.take_map("dns"), "runtimeConfig.dns")
    asked = {
        "nameservers": given.take_list("servers"),
        "search": given.take_list("searches"),
        "options": given.take_list("options"),
    }
    return MappingProxyType({key: value for key, value in asked.items() if value} or own)
