"""``netloom host``: the hosts of the cluster, in the datastore; no agent is needed."""

from __future__ import annotations

from typing import Any

import click

from netloom.cli.cluster import MAX_OPERATIONS, ClusterStore, opened
from netloom.cli.options import output_option, with_settings
from netloom.cli.render import Table, bold, counted, emit, paint, pairs
from netloom.cli.settings import Settings
from netloom.model import keys
from netloom.model.datastore import Compare, Delete
from netloom.model.errors import Conflict, NetloomError
from netloom.model.host import Host
from netloom.model.wording import how_to_get

EXAMPLES = """\b
Examples:
  netloom host list
  netloom host show h2
  netloom host forget h3
"""


@click.group(epilog=EXAMPLES)
def host() -> None:
    """Show the hosts, and forget those that are gone."""


@host.command("list", epilog="Example: netloom host list -o json")
@output_option
@with_settings("datastore")
def list_(output: str, settings: Settings) -> None:
    """List all hosts with their addresses and blocks, and whether their agents run."""
    with opened(settings) as cluster:
        hosts = sorted(cluster.cluster.hosts.values(), key=lambda one: (one.name, one.id))
        documents = [_document(cluster, one) for one in hosts]
    nothing = "no hosts yet; one appears when its agent first runs: netloom agent"
    emit(output, documents, lambda: _table(documents) if documents else nothing)


@host.command(epilog="Example: netloom host show h2")
@click.argument("name", metavar="NAME|ID")
@output_option
@with_settings("datastore", "socket")
def show(name: str, output: str, settings: Settings) -> None:
    """Show one host: addresses, blocks, what its kernel can make, and the containers on it.

    Of the host where it is called, also what could be the underlay, and why it is or is not.
    """
    with opened(settings) as cluster:
        one = cluster.host(name)
        document = _document(cluster, one)
        document["macs"] = dict(one.macs)
        document["devices"] = dict(one.devices)
        document["endpoints"] = [
            endpoint.render() for endpoint in cluster.endpoints if endpoint.host_id == one.id
        ]
    document["candidates"] = _candidates(one, settings)
    emit(output, document, lambda: _screen(document))


def _candidates(one: Host, settings: Settings) -> list[dict[str, Any]]:
    """Ask the agent of this host, if it is this host's and runs; else there is nothing to tell."""
    from netloom.cli.client import PATIENCE_S, Client

    try:
        status = Client(settings.socket, PATIENCE_S).get("/v1/status")
    except NetloomError:
        return []
    return list(status.get("candidates", ())) if status["host_id"] == one.id else []


@host.command(epilog="Example: netloom host forget h3")
@click.argument("name", metavar="NAME|ID")
@click.option("--force", is_flag=True, help="Also while its agent runs.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed, write nothing.")
@with_settings("datastore")
def forget(name: str, force: bool, dry_run: bool, settings: Settings) -> None:
    """Remove a host that will not come back: its record, its blocks, its containers' records.

    Its blocks can then be claimed by others. A host that runs would register again.
    """
    with opened(settings) as cluster:
        one = cluster.host(name)
        if one.id in cluster.alive and not force:
            raise Conflict(
                f"host {one.name} is alive: its agent runs",
                hint="stop its agent first, or use --force",
            )
        doomed = _belongings(cluster, one)
        if not dry_run:
            _remove(cluster, one, doomed, force)
    blocks = sum(1 for key in doomed if key.startswith(keys.BLOCKS))
    containers = counted(len(doomed) - blocks - 1, "record") + " of containers"
    verb = "would be forgotten" if dry_run else "is forgotten"
    print(f"host {bold(one.name)} {verb}, with {counted(blocks, 'block')} and {containers}")


def _belongings(cluster: ClusterStore, one: Host) -> list[str]:
    """Return the keys of all that is the host's, its own record last: a crash can be repeated."""
    doomed = [
        keys.endpoint_key(one.id, e.network, e.container_id, e.ifname)
        for e in cluster.endpoints
        if e.host_id == one.id
    ]
    doomed += [keys.block_key(block.network, block.cidr) for block in cluster.blocks_of(one.id)]
    return [*doomed, keys.host_key(one.id)]


def _remove(cluster: ClusterStore, one: Host, doomed: list[str], force: bool) -> None:
    """Remove, a portion at a time; a host that comes alive meanwhile keeps the rest."""
    asleep = [] if force else [Compare(keys.alive_key(one.id), 0)]
    for start in range(0, len(doomed), MAX_OPERATIONS):
        part = doomed[start : start + MAX_OPERATIONS]
        blocks = [key for key in part if key.startswith(keys.BLOCKS)]
        # A block may have gone to another host since we looked: then it is not ours to remove.
        cluster.commit([Delete(key) for key in part], asleep + cluster.unchanged(*blocks))


def _document(cluster: ClusterStore, one: Host) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "alive": one.id in cluster.alive,
        "addresses": [str(address) for address in (one.underlay4, one.underlay6) if address],
        "contested": [str(address) for address in one.contested],
        "blocks": [block.render() for block in cluster.blocks_of(one.id)],
        "containers": sum(1 for e in cluster.endpoints if e.host_id == one.id),
    }


def _table(documents: list[dict[str, Any]]) -> str:
    table = Table(("HOST", "ALIVE", "ADDRESS", "BLOCKS", "CONTAINERS", "ID"))
    table.right = frozenset({"CONTAINERS"})
    for one in documents:
        table.add(
            one["name"],
            _alive(one["alive"]),
            _addresses(one),
            "\n".join(_block(block) for block in one["blocks"]),
            one["containers"],
            one["id"],
        )
    return table.render()


def _screen(one: dict[str, Any]) -> str:
    top = pairs(
        [
            ("host", one["name"]),
            ("id", one["id"]),
            ("alive", _alive(one["alive"])),
            ("addresses", _addresses(one)),
            ("tunnel MACs", "\n".join(f"{mac} in {net}" for net, mac in one["macs"].items())),
            ("devices", _devices(one["devices"])),
            ("blocks", "\n".join(_block(block) for block in one["blocks"])),
        ]
    )
    table = Table(("NETWORK", "CONTAINER", "INTERFACE", "ADDRESS", "HOST SIDE"))
    for endpoint in one["endpoints"]:
        table.add(
            endpoint["network"],
            endpoint["container"],
            endpoint["ifname"],
            "\n".join(endpoint["addresses"]),
            endpoint["hostIfname"],
        )
    could = Table(("INTERFACE", "ADDRESS", "UNDERLAY", "BECAUSE"))
    for each in one["candidates"]:
        taken = paint("yes", "green") if each["taken"] else "no"
        could.add(each["interface"], each["address"], taken, each["reason"])
    tables = [each.render() for each in (could, table) if each.rows]
    return "\n\n".join([top, *tables])


def _alive(alive: bool) -> str:
    return paint("yes", "green") if alive else paint("no", "red")


def _addresses(one: dict[str, Any]) -> str:
    contested = [
        f"{address} {paint('(another host had it first)', 'red')}" for address in one["contested"]
    ]
    return "\n".join([*one["addresses"], *contested])


def _devices(told: dict[str, bool]) -> str:
    """Return the kinds of links that the kernel can make, and how to get those that it cannot."""
    lines = [", ".join(kind for kind, can in told.items() if can)]
    lines += [f"{paint('no', 'red')} {k}: {how_to_get(k)}" for k, can in told.items() if not can]
    return "\n".join(line for line in lines if line)


def _block(block: dict[str, Any]) -> str:
    pending = " (pending)" if block["state"] == "pending" else ""
    return f"{block['cidr']} {block['network']}{pending}"
