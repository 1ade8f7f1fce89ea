"""Who speaks BGP, and how: each host as BGPConfiguration and Node describe it.

What is said of one host (BGPConfiguration ``node.NAME``, Node) stands over what is said of all
(``default``), field by field. Source: reference/calico.md §1.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from netloom.core.resources.bgp import (
    DEFAULT_AS,
    BgpConfiguration,
    NodeBgp,
    parse_configuration,
    parse_node,
)
from netloom.core.resources.contract import unreadable
from netloom.core.resources.node import KIND as NODE_KIND
from netloom.core.resources.node import labels_of
from netloom.core.resources.values import BGP_PORT
from netloom.model.addr import IPAddress
from netloom.model.errors import InvalidConfig
from netloom.model.host import Host
from netloom.model.view import Cluster, Problem

CONFIGURATION = "BGPConfiguration"
_ONE = "node."


@dataclass(frozen=True, slots=True)
class Speaker:
    """One host as BGP sees it. ``mesh``: it peers by itself with all that do so too."""

    host: Host
    as_number: int = DEFAULT_AS
    port: int = BGP_PORT
    mesh: bool = True
    cluster_id: IPAddress | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the store says of how hosts speak BGP; ``problems`` is what of it cannot be read."""

    default: BgpConfiguration
    own: Mapping[str, BgpConfiguration]
    nodes: Mapping[str, NodeBgp]
    problems: tuple[Problem, ...]

    def of(self, name: str) -> BgpConfiguration:
        """Return the settings of one host, by its name."""
        one = self.own.get(name)
        if one is None:
            return self.default
        said = {
            each: value
            for each in one.__slots__
            if (value := getattr(one, each)) is not None and value != ()
        }
        return replace(self.default, **said)

    def speaker(self, cluster: Cluster, host: Host) -> Speaker:
        """Return ``host`` as a speaker. One that reflects routes leaves the mesh."""
        settings, node = self.of(host.name), self.nodes.get(host.name, NodeBgp())
        return Speaker(
            host,
            node.as_number or settings.as_number or DEFAULT_AS,
            settings.listen_port or BGP_PORT,
            settings.mesh is not False and node.cluster_id is None,
            node.cluster_id,
            labels_of(cluster, host),
        )


def settings(cluster: Cluster) -> Settings:
    """Read BGPConfigurations and Nodes. What cannot be read is left out, and is a problem."""
    default, own, nodes = BgpConfiguration(), {}, {}
    problems = []
    for (kind, _, name), resource in sorted(cluster.resources.items()):
        try:
            if kind == CONFIGURATION and name == "default":
                default = parse_configuration(resource)
            elif kind == CONFIGURATION:
                own[name.removeprefix(_ONE)] = parse_configuration(resource)
            elif kind == NODE_KIND:
                nodes[name] = parse_node(resource.spec)
        except InvalidConfig as error:
            problems.append(unreadable(resource, error))
    names = {host.name for host in cluster.hosts.values()}
    problems += [
        Problem(
            "warning",
            f"{CONFIGURATION}({_ONE}{name})",
            f"metadata.name: no host is called {name!r}",
            "see netloom host list",
        )
        for name in own
        if name not in names
    ]
    problems += [
        Problem(
            "warning",
            f"{CONFIGURATION}({_ONE}{name})",
            "spec.nodeMeshPassword: that of one host has no effect",
            f"say it in {CONFIGURATION}(default): both sides of a session need the same",
        )
        for name, said in own.items()
        if said.mesh_password
    ]
    return Settings(default, own, nodes, tuple(problems))
