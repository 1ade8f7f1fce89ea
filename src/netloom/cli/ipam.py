"""``netloom ipam``: who holds which address, what leaked, what is reserved.

Totals and holders come from the datastore; what only the host itself can know (is the container
there?) is asked of the local agent.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from netloom.cli import ipam_release, ipam_report
from netloom.cli import ipam_text as texts
from netloom.cli.client import Client
from netloom.cli.cluster import ClusterStore, opened
from netloom.cli.options import output_option, with_settings
from netloom.cli.render import bold, emit
from netloom.cli.settings import Settings
from netloom.core.ipam.blocks import within
from netloom.core.ipam.excess import excess
from netloom.core.ipam.summary import Whereabouts, find, summarise
from netloom.model import keys
from netloom.model.addr import parse_address
from netloom.model.datastore import Delete, Put
from netloom.model.errors import Conflict, InvalidConfig
from netloom.model.host import Reservation

NOT_WELL = 6

EXAMPLES = """\b
Examples:
  netloom ipam show --show-blocks
  netloom ipam show --ip 10.244.1.2
  netloom ipam check
  netloom ipam release --leaked
  netloom ipam reserve blue 10.244.0.0/28 --reason "the printers"
"""


@click.group(epilog=EXAMPLES)
def ipam() -> None:
    """Show, check, release and reserve addresses."""


@ipam.command(epilog="Example: netloom ipam show --show-blocks")
@click.option("--show-blocks", is_flag=True, help="Also each block of each pool, with its host.")
@click.option("--ip", metavar="ADDRESS", help="All that is known of this one address.")
@output_option
@with_settings("datastore")
def show(show_blocks: bool, ip: str | None, output: str, settings: Settings) -> None:
    """Show how many addresses there are, in use and free; or who holds one address."""
    with opened(settings) as cluster:
        if ip:
            _show_address(cluster, ip, output)
            return
        counts = summarise(cluster.cluster, cluster.endpoints)
        names = {host.id: host.name for host in cluster.cluster.hosts.values()}
        beyond = excess(cluster.cluster, cluster.cluster.blocks.values())
    documents = [texts.pool_document(each, show_blocks, beyond) for each in counts]
    nothing = "no networks yet; begin with `netloom network create NAME --preset flannel`"
    told = [f"note: {each.problem(names.get(each.host_id, each.host_id)).text}" for each in beyond]
    emit(
        output,
        documents,
        lambda: "\n".join([texts.counts(counts, names, show_blocks), *told]) if counts else nothing,
    )


@ipam.command("check", epilog="Example: netloom ipam check || netloom ipam release --leaked")
@output_option
@with_settings("datastore", "socket")
def check_(output: str, settings: Settings) -> None:
    """Find leaks, duplicates and whatever else does not fit; exit code 6 when there is any.

    The agent of this host compares its journal, the datastore and the containers that really run.
    Leaks on other hosts are found by running it there.
    """
    answer = ipam_report.audit(settings)
    emit(output, answer, lambda: texts.report(answer))
    if answer["findings"]:
        click.get_current_context().exit(NOT_WELL)


@ipam.command(epilog="Example: netloom ipam release --handle blue.c1.eth0")
@click.option("--ip", metavar="ADDRESS", help="The address to free, with its container's others.")
@click.option("--handle", metavar="HANDLE", help="The holder: NETWORK.CONTAINER.INTERFACE.")
@click.option("--leaked", is_flag=True, help="All that `check` calls a leak on this host.")
@click.option(
    "--from-report",
    "report",
    metavar="FILE",
    help="All leaks and orphan blocks that `check -o json` said.",
)
@click.option("--block", metavar="CIDR", help="A whole block in which no address is held.")
@click.option("--network", default="", metavar="NETWORK", help="Where --ip or --block are meant.")
@click.option("--force", is_flag=True, help="Also while its container or agent runs.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option
@with_settings("datastore", "socket")
def release(
    *,
    ip: str | None,
    handle: str | None,
    leaked: bool,
    report: str | None,
    block: str | None,
    network: str,
    force: bool,
    yes: bool,
    output: str,
    settings: Settings,
) -> None:
    """Free addresses whose container is gone. Safe to repeat."""
    if sum(map(bool, (ip, handle, leaked, report, block))) != 1:
        raise click.UsageError("give one of --ip, --handle, --leaked, --from-report, --block")
    if block:
        freed = _release_block(settings, block, network, force=force, yes=yes)
        emit(output, freed, lambda: f"block {bold(block)} is free" if freed else "nobody holds it")
        return
    client = Client(settings.socket)
    if leaked or report:
        _release_found(settings, client, report or "", force=force, yes=yes, output=output)
        return
    wish: dict[str, Any] = {"handle": handle} if handle else {"ip": ip, "network": network}
    if not yes:
        _ask(f"release {handle or ip}?")
    released = client.post("/v1/ipam/release", {**wish, "force": force})["released"]
    if handle and not released:
        _refuse_elsewhere(settings, handle)
    emit(output, released, lambda: texts.released_text(released))


@ipam.command(epilog="Example: netloom ipam reserve blue 10.244.0.0/28 --reason printers")
@click.argument("network")
@click.argument("cidr")
@click.option("--reason", default="", help="Why, for people.")
@output_option
@with_settings("datastore")
def reserve(network: str, cidr: str, reason: str, output: str, settings: Settings) -> None:
    """Keep addresses of a network from being dealt by themselves; asked for, they are given.

    Addresses in use stay in use.
    """
    reservation = Reservation.parse({"network": network, "cidr": cidr, "reason": reason})
    with opened(settings) as cluster:
        one = cluster.network(network)
        if not any(within(reservation.cidr, pool.cidr) for pool in one.pools):
            pools = ", ".join(str(pool.cidr) for pool in one.pools)
            raise InvalidConfig(
                f"{reservation.cidr} is in no pool of network {network}",
                field="cidr",
                value=cidr,
                hint=f"choose a range in {pools}",
            )
        put = Put(keys.reservation_key(network, reservation.cidr), _json(reservation.render()))
        cluster.commit([put], cluster.unchanged(put.key))
        inside = [
            {"ip": str(address), "handle": endpoint.handle}
            for endpoint in cluster.endpoints
            for address in endpoint.addresses
            if endpoint.network == network and address in reservation.cidr
        ]
    document = {"reservation": reservation.render(), "inUse": inside}
    emit(output, document, lambda: _reserved_text(reservation, inside))


@ipam.command(epilog="Example: netloom ipam unreserve blue 10.244.0.0/28")
@click.argument("network")
@click.argument("cidr")
@output_option
@with_settings("datastore")
def unreserve(network: str, cidr: str, output: str, settings: Settings) -> None:
    """Let reserved addresses be dealt again. What is not reserved is well."""
    wanted = Reservation.parse({"network": network, "cidr": cidr}).cidr
    with opened(settings) as cluster:
        there = (network, wanted) in cluster.cluster.reservations
        others = [
            str(r.cidr) for r in cluster.cluster.reservations.values() if r.network == network
        ]
        if there:
            key = keys.reservation_key(network, wanted)
            cluster.commit([Delete(key)], cluster.unchanged(key))
    if there:
        text = f"{bold(str(wanted))} of network {network} is no longer reserved"
    else:
        text = f"{wanted} of network {network} was not reserved; reserved: {texts.listed(others)}"
    emit(output, {"network": network, "cidr": str(wanted), "removed": there}, lambda: text)


def _reserved_text(reservation: Reservation, inside: list[dict[str, str]]) -> str:
    text = f"{bold(str(reservation.cidr))} of network {reservation.network} is reserved"
    if not inside:
        return text
    held = ", ".join(sorted(f"{each['ip']} ({each['handle']})" for each in inside))
    return f"{text}\nin use there, and they stay so: {held}"


def whereabouts_of(cluster: ClusterStore, text: str) -> list[Whereabouts]:
    """Return what is known of an address. Raises InvalidConfig when it is in no pool."""
    address = parse_address(text, "--ip")
    found = find(cluster.cluster, cluster.endpoints, address)
    if not found:
        pools = [str(p.cidr) for n in cluster.cluster.networks.values() for p in n.pools]
        raise InvalidConfig(
            f"{address} is in no pool of any network",
            field="--ip",
            value=text,
            hint=f"pools: {texts.listed(pools)}",
        )
    return found


def _show_address(cluster: ClusterStore, text: str, output: str) -> None:
    address = parse_address(text, "--ip")
    found = whereabouts_of(cluster, text)
    names = {host.id: host.name for host in cluster.cluster.hosts.values()}
    documents = [
        {
            "ip": str(address),
            "network": each.network,
            "pool": str(each.pool.cidr),
            "block": each.block.render() if each.block else None,
            "inUse": bool(each.holders),
            "holders": [{"handle": h.handle, **h.render()} for h in each.holders],
            "reservations": [r.render() for r in each.reservations],
        }
        for each in found
    ]
    emit(
        output,
        documents,
        lambda: "\n".join(texts.whereabouts(str(address), each, names) for each in found),
    )


def _refuse_elsewhere(settings: Settings, handle: str) -> None:
    with opened(settings) as cluster:
        for endpoint in cluster.endpoints:
            if endpoint.handle == handle and endpoint.host_id in cluster.cluster.hosts:
                host = cluster.cluster.hosts[endpoint.host_id].name
                raise Conflict(
                    f"{handle} is on host {host}, whose agent alone can release it",
                    hint=f"run it on {host}, or, if that host is gone for good: "
                    f"netloom host forget {host}",
                )


def _release_found(
    settings: Settings, client: Client, report: str, *, force: bool, yes: bool, output: str
) -> None:
    """Release what a report says or, without one, all leaks of this host."""
    if report:
        doomed = ipam_release.of_reports([report], client)
    else:
        doomed = ipam_release.Doomed(ipam_report.leaks([client.get("/v1/ipam/audit")]))
    if str(doomed) and not yes:
        _ask(f"release {doomed}?")
    outcome = ipam_release.release(settings, client, doomed, force=force)
    document = [*outcome.endpoints, *(block.render() for block in outcome.blocks)]
    emit(output, document, lambda: texts.released_text(outcome.endpoints, outcome.blocks))
    outcome.complain()


def _release_block(
    settings: Settings, text: str, network: str, *, force: bool, yes: bool
) -> list[dict[str, Any]]:
    with opened(settings) as cluster:
        found = ipam_release.named_blocks(cluster, text, network)
        for block in found:
            ipam_release.refuse(cluster, block, force=force)
            if not yes:
                _ask(f"release block {block.cidr} of host {block.host_id}?")
            ipam_release.remove(cluster, block)
    return [block.render() for block in found]


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody is there to answer: say --yes")
    click.confirm(question, abort=True, err=True)


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
