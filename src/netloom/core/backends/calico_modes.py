"""Calico's words for how a pool's packets travel, ``ipipMode`` and ``vxlanMode``, and our backends.

A pool says of each tunnel Never, CrossSubnet (only to hosts on other segments) or Always; both
Never means routes alone, which BGP spreads.
"""

from __future__ import annotations

from netloom.model.network import Choice

MODES = ("Never", "CrossSubnet", "Always")
#: What Calico's VXLAN looks like: its device, VNI and port.
_VXLAN = {"vni": 4096, "port": 4789, "device": "vxlan.calico"}


def modes_of(choice: Choice) -> tuple[str, str]:
    """Return (ipipMode, vxlanMode) of a backend; Never twice for one that Calico does not have."""
    if choice.type == "ipip":
        direct = choice.options.get("crossSubnet") or choice.options.get("mode") == "CrossSubnet"
        return ("CrossSubnet" if direct else "Always"), "Never"
    if choice.type == "vxlan":
        direct = choice.options.get("directRouting") or choice.options.get("DirectRouting")
        return "Never", ("CrossSubnet" if direct else "Always")
    return "Never", "Never"


def choice_of(ipip: str, vxlan: str, before: Choice | None = None) -> Choice:
    """Return the backend for the modes; ``before`` stays when it is one, and lends its options."""
    if before is not None and modes_of(before) == (ipip, vxlan):
        return before
    if ipip != "Never":
        return Choice("ipip", {"crossSubnet": True} if ipip == "CrossSubnet" else {})
    if vxlan != "Never":
        known = dict(before.options) if before is not None and before.type == "vxlan" else _VXLAN
        options = {key: value for key, value in known.items() if key.lower() != "directrouting"}
        return Choice(
            "vxlan", {**options, **({"directRouting": True} if vxlan == "CrossSubnet" else {})}
        )
    return Choice("bgp")
