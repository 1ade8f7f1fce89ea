"""FelixConfiguration: of Calico's many settings of its data path, those that mean something here.

A document is kept whole, so that a cluster's files need no editing; what has no effect is named to
whoever writes it, with where Netloom has the same, and what Calico's has not either is refused
(``core/resources/felix_fields``). It is never a second place that says what a
network's definition says: of two such places one would be wrong.
"""

from __future__ import annotations

from netloom.core.resources.felix_fields import FIELDS
from netloom.core.resources.values import check_scope, take_flag, take_number, take_word
from netloom.model.fields import Fields
from netloom.model.resource import Resource

#: Settings that ask for what Netloom does anyway: checked, no warning.
_FLAGS = ("ipipEnabled", "vxlanEnabled", "ipv6Support")
_WORDS = ("ipForwarding", "floatingIPs")
_NUMBERS = {
    "ipipMTU": (0, 65535),
    "vxlanMTU": (0, 65535),
    "vxlanMTUV6": (0, 65535),
    "wireguardMTU": (0, 65535),
    "vxlanVNI": (1, (1 << 24) - 1),
    "vxlanPort": (1, 65535),
    "prometheusMetricsPort": (1, 65535),
}
#: Settings that Netloom has elsewhere.
_MTU = "say `netloom network set NAME mtu=1400`"
_LOG = "say `--log-level` to the agent"
_ELSEWHERE = {
    "ipipMTU": _MTU,
    "vxlanMTU": _MTU,
    "vxlanMTUV6": _MTU,
    "mtuIfacePattern": _MTU,
    "vxlanVNI": "say `netloom network set NAME backend.vni=4097`",
    "vxlanPort": "say `netloom network set NAME backend.port=4789`",
    "logSeverityScreen": _LOG,
    "logSeverityFile": _LOG,
    "logSeveritySys": _LOG,
    "prometheusMetricsEnabled": "say `--metrics-listen` to the agent",
    "prometheusMetricsHost": "say `--metrics-listen` to the agent",
    "prometheusMetricsPort": "say `--metrics-listen` to the agent",
    "chainInsertMode": "our rules stand in a table of their own",
    "iptablesBackend": "our rules are nftables'; iptables' are passed, whichever they are",
    "routeRefreshInterval": "the kernel's own events tell of every change at once",
    "iptablesRefreshInterval": "the kernel's own events tell of every change at once",
    "removeExternalRoutes": "what is not ours is never touched",
    "deviceRouteProtocol": "our routes are of protocol 78",
}


def check(resource: Resource) -> tuple[str, ...]:
    """Check a FelixConfiguration; return the settings that have no effect here.

    Raises InvalidConfig for a field that Calico's has not either, with the nearest that it has.
    """
    check_scope(resource)
    fields = Fields(resource.spec, "spec")
    for name in _FLAGS:
        take_flag(fields, name)
    for name in _WORDS:
        take_word(fields, name, ("Enabled", "Disabled"))
    for name, (low, high) in _NUMBERS.items():
        take_number(fields, name, low, high)
    for name in FIELDS:
        fields.take(name)
    fields.done()
    ignored = [name for name in sorted(resource.spec) if name not in (*_FLAGS, *_WORDS)]
    return tuple(
        fields.path(name) + (f": {_ELSEWHERE[name]}" if name in _ELSEWHERE else "")
        for name in ignored
    )
