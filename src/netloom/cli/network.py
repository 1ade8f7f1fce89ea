"""``netloom network``: networks and their four choices, in the datastore; no agent is needed."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import click

from netloom.cli import definitions, network_deletion
from netloom.cli.cluster import ClusterStore, opened
from netloom.cli.definitions import Wishes
from netloom.cli.options import output_option, with_settings
from netloom.cli.render import Table, bold, emit, pairs
from netloom.cli.settings import Settings
from netloom.core import amending, definition, moving
from netloom.core.attach.table import ATTACHMENTS
from netloom.core.ipam import configured
from netloom.core.ipam.draining import draining, stranded
from netloom.core.resources.node import labels_of
from netloom.model import keys
from netloom.model.addr import IPNetwork
from netloom.model.datastore import Put
from netloom.model.errors import Conflict, InvalidConfig
from netloom.model.network import Network
from netloom.model.pool import Pool
from netloom.reconcile.cluster import unreadable

dry_run_option = click.option("--dry-run", is_flag=True, help="Check and show, write nothing.")

EXAMPLES = """\b
Examples:
  netloom network create blue --preset flannel
  netloom network create red --pool 10.10.0.0/16 --backend host-gw --attach routed
  netloom network set blue backend.directRouting=true
  netloom network show blue -o yaml
"""


@click.group(epilog=EXAMPLES)
def network() -> None:
    """Show, create, change and delete networks."""


@network.command("list", epilog="Example: netloom network list")
@output_option
@with_settings("datastore")
def list_(output: str, settings: Settings) -> None:
    """List all networks with their choices; exit code 3 when one of them cannot be read."""
    with opened(settings) as cluster:
        broken = any(key.startswith(keys.NETWORKS) for key in unreadable(cluster.cluster))
        found = sorted(cluster.cluster.networks.values(), key=lambda one: one.name)
        held = {one.name: len(cluster.blocks_of(network=one.name)) for one in found}
    table = Table(
        ("NETWORK", "POOL", "BLOCK SIZE", "ADDRESSING", "ATTACHMENT", "BACKEND", "MTU", "BLOCKS"),
        frozenset({"MTU", "BLOCKS"}),
    )
    for one in found:
        table.add(
            one.name,
            "\n".join(str(pool.cidr) for pool in one.pools),
            "\n".join(f"/{pool.block_size}" for pool in one.pools),
            one.addressing.mode,
            one.attachment.type,
            "\n".join([one.backend.type, *(f"from {old.type}" for old in one.moving_from)]),
            one.mtu_bytes or "auto",
            held[one.name],
        )
    nothing = "no networks yet; begin with `netloom network create NAME --preset flannel`"
    nothing = "no network that can be read" if broken else nothing
    emit(output, [one.render() for one in found], lambda: table.render() if found else nothing)
    if broken:
        sys.exit(InvalidConfig.exit_code)  # what is wrong stands on stderr, with its remedy


@network.command(epilog="Example: netloom network show blue -o yaml")
@click.argument("name")
@output_option
@with_settings("datastore")
def show(name: str, output: str, settings: Settings) -> None:
    """Show one network: its definition and who holds which block.

    As YAML or JSON it is the definition alone, ready for `network create -f`.
    """
    with opened(settings) as cluster:
        one = cluster.network(name)
        emit(output, one.render(), lambda: _screen(cluster, one))


@network.command(epilog="Example: netloom network create blue --pool 10.10.0.0/16 --attach routed")
@click.argument("name")
@click.option("-f", "--filename", metavar="FILE", help="A definition in YAML; '-' is stdin.")
@click.option("--preset", default="", metavar="NAME", help="Begin with flannel or calico.")
@click.option("--pool", "pools", multiple=True, metavar="CIDR", help="A range; may be repeated.")
@click.option(
    "--block-size",
    "block_sizes",
    multiple=True,
    type=int,
    metavar="LENGTH",
    help="Prefix length of blocks; above 32 it is for IPv6 pools. May be repeated.",
)
@click.option("--backend", default="", metavar="TYPE", help="How hosts reach each other's blocks.")
@click.option("--attach", default="", metavar="TYPE", help="How a container reaches its host.")
@click.option("--mtu", type=int, metavar="BYTES", help="0: from the underlay.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any field, dotted.")
@dry_run_option
@output_option
@with_settings("datastore")
def create(
    name: str,
    filename: str | None,
    dry_run: bool,
    output: str,
    settings: Settings,
    **wishes: Any,
) -> None:
    """Create a network from a file, a preset, flags, or a mix; flags win over the file."""
    data = definitions.read_file(filename) if filename else {}
    asked = definition.parse(definitions.assemble(name, data, Wishes(**wishes)))
    wanted = replace(asked, retiring=(), moves=0)  # nothing moves that was not there before
    with opened(settings, create=True, dry_run=dry_run) as cluster:
        if name in cluster.cluster.networks:
            raise Conflict(
                f"network {name} exists already",
                hint=f"change it with `netloom network set {name} key=value`",
            )
        amending.check_new(cluster.cluster, wanted)
        revision = 0 if dry_run else _write(cluster, wanted)
        text = "is valid; nothing was written" if dry_run else f"created at revision {revision}"
        document = {"network": wanted.render(), "revision": revision, "dryRun": dry_run}
        emit(output, document, lambda: f"network {bold(name)} {text}\n{_screen(cluster, wanted)}")


@network.command("set", epilog="Example: netloom network set blue backend.directRouting=true mtu=0")
@click.argument("name")
@click.argument("assignments", nargs=-1, required=True, metavar="KEY=VALUE...")
@click.option("--force", is_flag=True, help="Also what cuts off the containers that are attached.")
@dry_run_option
@output_option
@with_settings("datastore")
def set_(
    name: str,
    assignments: tuple[str, ...],
    force: bool,
    dry_run: bool,
    output: str,
    settings: Settings,
) -> None:
    """Change fields of a network; an empty value takes a field back to its default."""
    with opened(settings) as cluster:
        before = cluster.network(name).render()
        data = cluster.network(name).render()
        for pair in assignments:
            definitions.assign(data, *definitions.split(pair))
        if data.get("name") != name:
            raise InvalidConfig(
                "name: a network keeps its name", field="name", hint="create another network"
            )
        asked = definition.parse(data)
        wanted = amending.changed(cluster.cluster, cluster.endpoints, asked, force=force)
        changes = list(definitions.differences(before, asked.render()))
        revision = _write(cluster, wanted) if changes and not dry_run else 0
    document = {
        "network": wanted.render(),
        "changes": [{"field": path, "from": old, "to": new} for path, old, new in changes],
        "revision": revision,
        "dryRun": dry_run,
    }
    emit(output, document, lambda: _change_text(wanted, changes, revision))


@network.command(epilog="Example: netloom network delete blue")
@click.argument("name")
@click.option("--force", is_flag=True, help="Also while containers are attached.")
@dry_run_option
@output_option
@with_settings("datastore")
def delete(name: str, force: bool, dry_run: bool, output: str, settings: Settings) -> None:
    """Delete a network with its blocks and reservations; refused while containers are in it.

    A deletion that was interrupted is done to its end when it is repeated.
    """
    with opened(settings) as cluster:
        if not network_deletion.belongings(cluster, name):
            cluster.network(name)
        if (inside := amending.inside(cluster.cluster, cluster.endpoints, name)) and not force:
            raise Conflict(
                f"network {name} has {inside}",
                hint="stop those containers first, or use --force",
            )
        revision = 0 if dry_run else network_deletion.delete(cluster, name)
    text = "would be deleted" if dry_run else f"deleted at revision {revision}"
    document = {"network": name, "revision": revision, "dryRun": dry_run}
    emit(output, document, lambda: f"network {name} {text}")


def _write(cluster: ClusterStore, wanted: Network) -> int:
    key = keys.network_key(wanted.name)
    value = json.dumps(wanted.render()).encode()
    # The guard makes the checks against all other networks hold at the moment of the write.
    operations = [Put(key, value), Put(keys.NETWORKS_GUARD, b"")]
    return cluster.commit(operations, cluster.unchanged(key, keys.NETWORKS_GUARD))


def _screen(cluster: ClusterStore, one: Network) -> str:
    """Return one network as a person reads it: choices with their options, then the blocks."""
    lines: list[tuple[str, object]] = [("network", one.name)]
    lines += [("pool", _pool(pool)) for pool in one.pools]
    lines.append(("addressing", _addressing(cluster, one)))
    for title, choice in (
        ("attachment", one.attachment),
        ("backend", one.backend),
        ("policy", one.policy),
    ):
        options = "".join(f", {key} {_word(value)}" for key, value in choice.options.items())
        lines.append((title, choice.type + options))
    lines.append(("mtu", one.mtu_bytes or "from the underlay"))
    if one.retiring:
        waiting = ", ".join(moving.waiting_for(cluster.cluster, one)) or "nobody"
        old = ", ".join(choice.label for choice in one.moving_from)
        lines.append(("moving", f"from {old}; waiting for {waiting}"))
    blocks = _blocks(cluster, one)
    return pairs(lines) + ("\n\n" + blocks.render() if blocks.rows else "")


def _pool(pool: Pool) -> str:
    parts = [str(pool.cidr), f"blocks of /{pool.block_size}"]
    parts.append("source NAT for what leaves the pools" if pool.nat_outgoing else "no source NAT")
    if pool.disabled:
        parts.append("disabled: no new addresses")
    return ", ".join(parts)


def _addressing(cluster: ClusterStore, one: Network) -> str:
    """Return the mode, how many blocks a host may hold, and who says so if not the network."""
    if one.addressing.mode == "host-block":
        return f"{one.addressing.mode}, 1 per host and pool"
    own = one.addressing.max_blocks_per_host
    lends = ATTACHMENTS[one.attachment.type].lends if one.attachment.type in ATTACHMENTS else False
    here = configured.limited(cluster.cluster, one, lends=lends).addressing
    most = here.max_blocks_per_host
    who = f" by {configured.KIND} {configured.NAME}, not {own}" if most != own else ""
    borrowing = ", borrowing" if here.borrowing else ""
    return f"{one.addressing.mode}, at most {most} per host and pool{who}{borrowing}"


def _blocks(cluster: ClusterStore, one: Network) -> Table:
    table = Table(("BLOCK", "HOST", "STATE"))
    blocks = cluster.blocks_of(network=one.name)
    held: dict[str, list[IPNetwork]] = {}
    for block in blocks:
        if block.confirmed and not block.lender:
            held.setdefault(block.host_id, []).append(block.cidr)
    drained: set[IPNetwork] = set()
    for host_id, cidrs in held.items():
        owner = cluster.cluster.hosts.get(host_id)
        labels = labels_of(cluster.cluster, owner) if owner else None
        drained |= draining(one, cidrs) | stranded(one, cidrs, labels)
    for block in blocks:
        host = cluster.cluster.hosts.get(block.host_id)
        state = "confirmed" if block.confirmed else "pending"
        state = "draining" if block.cidr in drained else state
        if block.lender:
            lender = cluster.cluster.hosts.get(block.lender)
            by = lender.name if lender else block.lender
            state = f"lent by {by}" if block.confirmed else f"asked of {by}"
        table.add(block.cidr, host.name if host else block.host_id, state)
    return table


def _change_text(wanted: Network, changes: list[tuple[str, Any, Any]], revision: int) -> str:
    name = wanted.name
    if not changes:
        return f"network {bold(name)} is like that already; nothing was written"
    lines = [f"  {path}: {_word(old)} -> {_word(new)}" for path, old, new in changes]
    end = f"changed at revision {revision}" if revision else "would change; nothing was written"
    if wanted.retiring and any(path.split(".")[0] == "backend" for path, _, _ in changes):
        old = ", ".join(choice.label for choice in wanted.moving_from)
        lines.append(f"  every host moves to {wanted.backend.label}; until then beside it: {old}")
    return "\n".join([f"network {bold(name)} {end}", *lines])


def _word(value: Any) -> str:
    if value is None:
        return "(none)"
    return value if isinstance(value, str) else json.dumps(value)
