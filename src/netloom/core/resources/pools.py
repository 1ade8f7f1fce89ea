"""IPPool: a pool of a network, as Calico's users see and write it.

A pool is shown under the name that it was written with, else under one made of its network's. A
new one goes to the network that its annotation :data:`NETWORK` names, else to the one network with
``on-demand`` addressing that there is, else to ``calico``, which is made with the preset of that
name when it is not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from netloom.core import amending, definition
from netloom.core.backends.calico_modes import choice_of, modes_of
from netloom.core.backends.per_pool import NAME as PER_POOL
from netloom.core.backends.per_pool import Division
from netloom.core.backends.table import BACKENDS
from netloom.core.ipam.blocks import within
from netloom.core.resources.contract import Operation, Picture
from netloom.core.resources.pool_spec import NETWORK, Asked, read
from netloom.model.datastore import Delete, Put
from netloom.model.errors import Conflict, InvalidConfig
from netloom.model.keys import NETWORKS_GUARD, block_key, network_key, reservation_key
from netloom.model.network import Choice, Network, parse_name
from netloom.model.pool import Pool
from netloom.model.resource import Resource

KIND = "IPPool"
DEFAULT_NETWORK = "calico"


class _Found(NamedTuple):
    network: Network
    pool: Pool


class Pools:
    """Shows and changes the pools of all networks."""

    def shown(self, picture: Picture) -> tuple[Resource, ...]:
        """Return every pool."""
        return tuple(
            _shown(found.network, found.pool) for found in _found(picture.cluster.networks.values())
        )

    def keys(self, picture: Picture, resource: Resource) -> tuple[str, ...]:
        """Return the key of the pool's network."""
        found = _find(picture, resource.name)
        name = found.network.name if found else _network_for(picture, resource)
        return (network_key(name),)

    def written(self, picture: Picture, resource: Resource) -> tuple[Operation, ...]:
        """Return how to put the pool into its network. Raises InvalidConfig or Conflict."""
        asked, found = read(resource), _find(picture, resource.name)
        if found is not None and found.pool.cidr != asked.pool.cidr:
            raise InvalidConfig(
                f"spec.cidr: {resource.name} is {found.pool.cidr} and cannot become "
                f"{asked.pool.cidr}",
                field="spec.cidr",
                value=str(asked.pool.cidr),
                hint="create another pool and set disabled: true in this one; its containers "
                "keep their addresses until they go",
            )
        _refuse_other_network(resource, found)
        if found is None:
            _refuse_other_name(picture, resource, asked)
        name = _network_for(picture, resource)
        before = found.network if found else picture.cluster.networks.get(name)
        try:
            return _write(_changed(picture, resource, before, asked))
        except InvalidConfig as error:
            raise _in_words_of_a_pool(error, asked, before) from None

    def removed(self, picture: Picture, resource: Resource) -> tuple[Operation, ...]:
        """Return how to take the pool away. Raises Conflict while containers have its addresses."""
        found = _find(picture, resource.name)
        assert found is not None, "only what is shown is removed"
        network, pool = found
        held = [
            endpoint
            for endpoint in picture.endpoints
            if endpoint.network == network.name and any(a in pool.cidr for a in endpoint.addresses)
        ]
        if held:
            raise Conflict(
                f"IPPool({resource.name}): {len(held)} interfaces have addresses of {pool.cidr}, "
                f"the first is {held[0].handle}",
                hint="set disabled: true and wait until they have gone: "
                "`netloom ipam show --show-blocks`",
            )
        # The pool first: where it takes several transactions, nobody claims what was just deleted.
        return (*_pool_away(picture, found), *_blocks_away(picture, found))


def _in_words_of_a_pool(
    error: InvalidConfig, asked: Asked, before: Network | None
) -> InvalidConfig:
    """Return what is wrong with a network as what is wrong with the pool that was asked for."""
    field = error.field
    if field.startswith("pools["):
        field = "spec." + (field.partition("].")[2] or "cidr")
    elif field.startswith("backend"):
        field = "spec.vxlanMode" if asked.ipip == "Never" else "spec.ipipMode"
    names = [_name(before, pool) for pool in before.pools] if before else []
    text = str(error).replace(error.field, field) if error.field else str(error)
    for index, name in enumerate([*names, asked.pool.name]):
        text = text.replace(f"pools[{index}]", f"{KIND}({name})")
    return InvalidConfig(text, field=field, value=error.value, hint=error.hint)


def _shown(network: Network, pool: Pool) -> Resource:
    ipip, vxlan = modes_of(_choice(network, pool))
    spec: dict[str, Any] = {
        "cidr": str(pool.cidr),
        "blockSize": pool.block_size,
        "ipipMode": ipip,
        "vxlanMode": vxlan,
        "natOutgoing": pool.nat_outgoing,
        "nodeSelector": pool.node_selector.text if pool.node_selector else "all()",
        "disabled": pool.disabled,
        "disableBGPExport": pool.unexported,
        "assignmentMode": "Manual" if pool.manual else "Automatic",
        "allowedUses": ["Workload", "Tunnel"],
    }
    elsewhere = {} if network.name == DEFAULT_NETWORK else {NETWORK: network.name}
    return Resource(KIND, _name(network, pool), spec, annotations=elsewhere)


def _name(network: Network, pool: Pool) -> str:
    """Return a pool's name: its own, else ``NETWORK-ipv4-ippool``, numbered from the second on."""
    if pool.name:
        return pool.name
    kin = [each for each in network.pools if each.family == pool.family and not each.name]
    place = kin.index(pool)
    return f"{network.name}-ipv{pool.family}-ippool" + (f"-{place + 1}" if place else "")


def _found(networks: Iterable[Network]) -> list[_Found]:
    return [_Found(network, pool) for network in networks for pool in network.pools]


def _find(picture: Picture, name: str) -> _Found | None:
    for found in _found(picture.cluster.networks.values()):
        if _name(*found) == name:
            return found
    return None


def _network_for(picture: Picture, resource: Resource) -> str:
    """Return the network that a new pool goes to."""
    if NETWORK in resource.annotations:
        return resource.annotations[NETWORK]
    networks = picture.cluster.networks.values()
    like = [each.name for each in networks if each.addressing.mode == "on-demand"]
    return like[0] if len(like) == 1 else DEFAULT_NETWORK


def _refuse_other_network(resource: Resource, found: _Found | None) -> None:
    """Refuse a pool that is to go to another network, or to one that cannot be called so."""
    where = f"metadata.annotations.{NETWORK}"
    wanted = parse_name(resource.annotations.get(NETWORK, DEFAULT_NETWORK), where)
    if found and NETWORK in resource.annotations and wanted != found.network.name:
        raise InvalidConfig(
            f"{where}: {resource.name} is a pool of network {found.network.name}, not of {wanted}",
            field=where,
            value=wanted,
            hint="create another pool in that network, and disable this one",
        )


def _refuse_other_name(picture: Picture, resource: Resource, asked: Asked) -> None:
    """Refuse a second pool of one range: it is the same one under another name."""
    for each in _found(picture.cluster.networks.values()):
        if each.pool.cidr == asked.pool.cidr and each.network.name == _network_for(
            picture, resource
        ):
            name = _name(*each)
            raise InvalidConfig(
                f"spec.cidr: {asked.pool.cidr} is there already, as {KIND}({name})",
                field="spec.cidr",
                value=str(asked.pool.cidr),
                hint=f"write metadata.name: {name} to change it",
            )


def _choice(network: Network, pool: Pool) -> Choice:
    """Return the backend that carries a pool."""
    if network.backend.type != PER_POOL:
        return network.backend
    division = BACKENDS[PER_POOL].parse(network.backend.options, "backend")
    assert isinstance(division, Division)
    return division.choice(pool)


def _changed(picture: Picture, resource: Resource, before: Network | None, asked: Asked) -> Network:
    """Return the network with the pool in it, checked against all that is there."""
    if before is None:
        data = {**definition.preset("calico"), "name": _network_for(picture, resource)}
        data["pools"] = [asked.pool.render()]
        data["backend"] = choice_of(asked.ipip, asked.vxlan).render()
        wanted = definition.parse(data)
        amending.check_new(picture.cluster, wanted)
        return wanted
    choices: dict[Pool, Choice] = {}
    for pool in before.pools:
        choice = _choice(before, pool)
        if _name(before, pool) == resource.name:
            choices[asked.pool] = choice_of(asked.ipip, asked.vxlan, choice)
        else:
            choices[pool] = choice
    if asked.pool not in choices:
        like = next(iter(choices.values()))
        choices[asked.pool] = choice_of(asked.ipip, asked.vxlan, like)
    network = replace(before, pools=tuple(choices), backend=_joined(choices))
    wanted = definition.parse(network.render())
    return amending.changed(picture.cluster, picture.endpoints, wanted)


def _joined(choices: dict[Pool, Choice]) -> Choice:
    """Return one backend where all pools have the same, else a division."""
    labels = [choice.label for choice in choices.values()]
    if len(set(labels)) == 1:
        return next(iter(choices.values()))
    common = max(sorted(set(labels)), key=labels.count)
    default = next(choice for choice in choices.values() if choice.label == common)
    pools = {str(p.cidr): c.render() for p, c in choices.items() if c.label != common}
    return Choice(PER_POOL, {"default": default.render(), "pools": pools})


def _write(network: Network) -> tuple[Operation, ...]:
    value = json.dumps(network.render()).encode()
    return (Put(network_key(network.name), value), Put(NETWORKS_GUARD, b""))


def _blocks_away(picture: Picture, found: _Found) -> Iterable[Operation]:
    for block in picture.cluster.blocks.values():
        if block.network == found.network.name and within(block.cidr, found.pool.cidr):
            yield Delete(block_key(block.network, block.cidr))


def _pool_away(picture: Picture, found: _Found) -> Iterable[Operation]:
    network, pool = found
    left = {p: _choice(network, p) for p in network.pools if p != pool}
    if left:
        wanted = replace(network, pools=tuple(left), backend=_joined(left))
        if wanted.backend != network.backend:
            wanted = amending.changed(picture.cluster, picture.endpoints, wanted, force=True)
        yield from _write(wanted)
        return
    yield Delete(network_key(network.name))
    yield Put(NETWORKS_GUARD, b"")
    for name, cidr in picture.cluster.reservations:
        if name == network.name:
            yield Delete(reservation_key(name, cidr))
