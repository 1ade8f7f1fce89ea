"""A configuration written for flannel's CNI plugin, when our executable stands in its place.

``delegate`` is what flannel hands to the bridge plugin. Our bridge does all of what is usual there
(gateway, default route, hairpin, the right address), so these keys are taken; what would make
another kind of interface is refused by name. ``subnetFile`` and ``dataDir`` are for flannel's
plugin alone: the agent knows the block, and its journal the containers. Source: the plugin's
README.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from netloom.drivers.cni.errors import invalid
from netloom.model.attachment import Attached
from netloom.model.fields import Fields

TYPE = "flannel"
#: Keys of the bridge plugin that ask for what our bridge does not do.
_BEYOND = ("vlan", "vlanTrunk", "macspoofchk")
#: Keys of host-local's configuration that say where it keeps its files.
_FILES = ("type", "dataDir")


def is_flannels(keys: Mapping[str, Any]) -> bool:
    """Tell whether a configuration is one for flannel's plugin."""
    return keys.get("type") == TYPE or "delegate" in keys


def check(keys: Mapping[str, Any]) -> None:
    """Refuse what ours cannot do in its place. Raises CniError, InvalidConfig."""
    fields = Fields(keys, "")
    delegate = fields.take_map("delegate")
    inner = Fields(delegate, "delegate")
    for name in ("name", "ipam"):
        if name in delegate:
            raise invalid(f"delegate.{name}", delegate[name], "must not be there, nor with flannel")
    kind = inner.take_str("type", "bridge")
    if kind != "bridge":
        raise invalid("delegate.type", kind, "cannot be had: containers get a bridge", "remove it")
    for name in ("isGateway", "isDefaultGateway", "hairpinMode"):
        inner.take_bool(name, True)
    if delegate.get("isGateway") is False:
        raise invalid("delegate.isGateway", False, "cannot be had: the bridge is the gateway")
    inner.take_int("mtu", 0, 0, 65535)
    inner.take_str("bridge")
    for name in _BEYOND:
        if delegate.get(name):
            raise invalid(f"delegate.{name}", delegate[name], "cannot be had", "remove it")
    _check_ipam(fields.take_map("ipam"))


def notes(keys: Mapping[str, Any], attached: Attached) -> Iterator[str]:
    """Yield what of ``delegate`` is otherwise in the network, for the log."""
    delegate = keys.get("delegate") or {}
    bridge, mtu = delegate.get("bridge"), delegate.get("mtu")
    if bridge and attached.bridge and bridge != attached.bridge:
        yield f"delegate.bridge: {bridge} is wanted, the network's bridge is {attached.bridge}"
    if mtu and int(mtu) != attached.mtu_bytes:
        yield f"delegate.mtu: {mtu} is wanted, the network's MTU is {attached.mtu_bytes}"


def _check_ipam(ipam: Mapping[str, Any]) -> None:
    """Take what only says where host-local's files are; addresses are ours to deal."""
    for name, value in ipam.items():
        if name == "type" and value != "host-local":
            raise invalid("ipam.type", value, "cannot be used: Netloom deals the addresses itself")
        if name not in _FILES and value:
            raise invalid(
                f"ipam.{name}",
                value,
                "cannot be used: Netloom deals the addresses itself, from the host's block",
                "remove the key",
            )
