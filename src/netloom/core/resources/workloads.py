"""WorkloadEndpoint: the interfaces of containers, as their hosts' agents tell them; to look at."""

from __future__ import annotations

from typing import Any, NoReturn

from netloom.core.resources.contract import Operation, Picture
from netloom.model.endpoint import Endpoint
from netloom.model.errors import Conflict
from netloom.model.keys import endpoint_key
from netloom.model.resource import Resource

KIND = "WorkloadEndpoint"
NAMESPACE = "default"
ORCHESTRATOR = "cni"


def check(resource: Resource) -> tuple[str, ...]:
    """Take any: none is ever written."""
    return ()


class Workloads:
    """Shows endpoints; writes nothing."""

    def shown(self, picture: Picture) -> tuple[Resource, ...]:
        """Return all hosts' endpoints."""
        hosts = picture.cluster.hosts
        names = {host_id: host.name for host_id, host in hosts.items()}
        return tuple(_resource(each, names) for each in picture.endpoints)

    def keys(self, picture: Picture, resource: Resource) -> tuple[str, ...]:
        """Return the mirrored record's key."""
        hosts = {host.name: host.id for host in picture.cluster.hosts.values()}
        spec = resource.spec
        host_id = hosts.get(spec["node"], spec["node"])
        network = spec["profiles"][0]
        return (endpoint_key(host_id, network, spec["workload"], spec["endpoint"]),)

    def written(self, picture: Picture, resource: Resource) -> tuple[Operation, ...]:
        """Refuse. Raises Conflict."""
        _refuse(resource)

    def removed(self, picture: Picture, resource: Resource) -> tuple[Operation, ...]:
        """Refuse. Raises Conflict."""
        _refuse(resource)


def _refuse(resource: Resource) -> NoReturn:
    raise Conflict(
        f"{KIND}({resource.name}) is what a host's agent says of a container",
        hint="start or stop the container; a leaked address goes with `netloom ipam release`",
    )


def _resource(endpoint: Endpoint, names: dict[str, str]) -> Resource:
    node = names.get(endpoint.host_id, endpoint.host_id)
    parts = (node, ORCHESTRATOR, endpoint.container_id, endpoint.ifname)
    spec: dict[str, Any] = {
        "node": node,
        "orchestrator": ORCHESTRATOR,
        "workload": endpoint.container_id,
        "containerID": endpoint.container_id,
        "endpoint": endpoint.ifname,
        "interfaceName": endpoint.host_ifname,
        "mac": endpoint.mac,
        "ipNetworks": [f"{address}/{address.max_prefixlen}" for address in endpoint.addresses],
        "profiles": [endpoint.network],
    }
    name = "-".join(part.replace("-", "--") for part in parts)
    return Resource(KIND, name, spec, NAMESPACE, dict(endpoint.labels), created=endpoint.created)
