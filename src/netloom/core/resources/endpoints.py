"""HostEndpoint, NetworkSet, GlobalNetworkSet and Profile: what rules of policy name.

They are checked, kept and shown; what they do comes with the choice ``policy``.
"""

from __future__ import annotations

from netloom.core.resources.values import take_text, take_word
from netloom.model.addr import parse_address, parse_network
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields, nearest
from netloom.model.labels import check_labels
from netloom.model.resource import Resource, check_text

PROTOCOLS = ("TCP", "UDP", "SCTP")
_ACTIONS = ("Allow", "Deny", "Log", "Pass")


def check_host_endpoint(resource: Resource) -> tuple[str, ...]:
    """Check ``{node, interfaceName, expectedIPs, profiles, ports}``."""
    fields = Fields(resource.spec, "spec")
    take_text(fields.take_required("node"), fields.path("node"))
    interface = fields.take_str("interfaceName")
    if interface:
        take_text(interface, fields.path("interfaceName"))
    addresses = fields.take_list("expectedIPs")
    for i, address in enumerate(addresses):
        parse_address(address, fields.path(f"expectedIPs[{i}]"))
    if not interface and not addresses:
        raise fields.missing(
            "interfaceName",
            "name the interface, '*' for all of them, or its addresses in expectedIPs",
        )
    for i, profile in enumerate(fields.take_list("profiles")):
        take_text(profile, fields.path(f"profiles[{i}]"))
    for i, port in enumerate(fields.take_list("ports")):
        _check_port(Fields(port, fields.path(f"ports[{i}]")))
    fields.done()
    return ()


def check_network_set(resource: Resource) -> tuple[str, ...]:
    """Check ``{nets}``: CIDRs and single addresses of both families."""
    fields = Fields(resource.spec, "spec")
    for i, net in enumerate(fields.take_list("nets")):
        where = fields.path(f"nets[{i}]")
        if isinstance(net, str) and "/" not in net:
            parse_address(net, where)
        else:
            parse_network(net, where)
    fields.done()
    return ()


def check_profile(resource: Resource) -> tuple[str, ...]:
    """Check ``{labelsToApply, ingress, egress}``; what they do comes with the choice ``policy``."""
    fields = Fields(resource.spec, "spec")
    labels = fields.take_map("labelsToApply")
    for name, value in labels.items():
        check_text(value, f"{fields.path('labelsToApply')}.{name}")
    check_labels(labels, fields.path("labelsToApply"))
    for name in ("ingress", "egress"):
        for i, rule in enumerate(fields.take_list(name)):
            each = Fields(rule, fields.path(f"{name}[{i}]"))
            action = each.take_required("action")
            take_word(Fields({"action": action}, each.where), "action", _ACTIONS)
    fields.done()
    return tuple(fields.path(name) for name in ("ingress", "egress") if resource.spec.get(name))


def _check_port(fields: Fields) -> None:
    take_text(fields.take_required("name"), fields.path("name"))
    port = fields.take_required("port")
    Fields({"port": port}, fields.where).take_int("port", 0, 1, 65535)
    protocol = fields.take_required("protocol")
    fields.done()
    if not isinstance(protocol, int) and str(protocol).upper() not in PROTOCOLS:
        raise InvalidConfig(
            f"{fields.path('protocol')}: {protocol!r} is no protocol with ports",
            field=fields.path("protocol"),
            value=protocol,
            hint=nearest(str(protocol), PROTOCOLS),
        )
