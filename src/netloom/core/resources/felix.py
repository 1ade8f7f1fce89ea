"""FelixConfiguration: of Calico's many settings of its data path, those that mean something here.

A document is kept whole, so that a cluster's files need no editing; what has no effect is named to
whoever writes it. Nothing here has one yet but what :data:`UNDERSTOOD` lists.
"""

from __future__ import annotations

from netloom.core.resources.values import take_flag, take_number, take_word
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields
from netloom.model.resource import Resource

#: Settings that say what Netloom does anyway, or that its own settings say: checked, no warning.
UNDERSTOOD = ("ipipEnabled", "vxlanEnabled", "ipForwarding", "floatingIPs", "ipv6Support")


def check(resource: Resource) -> tuple[str, ...]:
    """Check a FelixConfiguration; return the settings that have no effect here."""
    if resource.name != "default" and not resource.name.startswith("node."):
        raise InvalidConfig(
            f"metadata.name: {resource.name!r}: a FelixConfiguration is called 'default' or "
            "'node.' and a host's name",
            field="metadata.name",
            value=resource.name,
            hint="use default for all hosts",
        )
    fields = Fields(resource.spec, "spec")
    for name in ("ipipEnabled", "vxlanEnabled", "ipv6Support"):
        take_flag(fields, name)
    take_word(fields, "ipForwarding", ("Enabled", "Disabled"))
    take_word(fields, "floatingIPs", ("Enabled", "Disabled"))
    for name in ("ipipMTU", "vxlanMTU", "vxlanMTUV6", "wireguardMTU"):
        take_number(fields, name, 0, 65535)
    ignored = [name for name in sorted(resource.spec) if name not in UNDERSTOOD]
    return tuple(fields.path(name) for name in ignored)
