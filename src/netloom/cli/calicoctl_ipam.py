"""``calicoctl ipam``: the verbs on addresses with calicoctl's words, tables and exit codes.

What they say is what ``netloom ipam`` says; leaks are judged by the agent of this host, which
alone knows the containers that run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from netloom.cli import ipam_release, ipam_report
from netloom.cli.client import Client
from netloom.cli.cluster import ClusterStore, opened
from netloom.cli.ipam import whereabouts_of
from netloom.cli.options import with_settings
from netloom.cli.render import boxed
from netloom.cli.resources import files
from netloom.cli.resources.editor import Editor, edit
from netloom.cli.settings import Settings
from netloom.core.ipam import configured
from netloom.core.ipam.summary import Count, PoolCount, summarise
from netloom.core.resources.table import KINDS
from netloom.model.errors import InvalidConfig, NotPermitted
from netloom.model.resource import API_VERSION

EXAMPLES = """\b
Examples:
  calicoctl ipam show --show-blocks
  calicoctl ipam show --ip=10.244.1.2
  calicoctl ipam check -o report.json
  calicoctl ipam release --from-report=report.json
  calicoctl ipam configure --strictaffinity=true
"""


@click.group(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
def ipam() -> None:
    """Show, check and release addresses, as calicoctl does."""


@ipam.command(epilog="Example: calicoctl ipam show --show-blocks")
@click.option("--show-blocks", is_flag=True, help="Also each block of each pool.")
@click.option("--show-borrowed", is_flag=True, help="Addresses used outside their block's host.")
@click.option("--show-configuration", is_flag=True, help="What is configured for all addresses.")
@click.option("--ip", metavar="IP", help="Who holds this address.")
@with_settings("datastore")
def show(
    *, show_blocks: bool, show_borrowed: bool, show_configuration: bool, ip: str, settings: Settings
) -> None:
    """Show how many addresses there are, in use and free; or who holds one address."""
    with opened(settings) as cluster:
        if ip:
            text = _address(cluster, ip)
        elif show_configuration:
            text = boxed(("PROPERTY", "VALUE"), _configuration(cluster))
        elif show_borrowed:
            text = boxed(_BORROWED, _borrowed(cluster))
        else:
            text = _counts(summarise(cluster.cluster, cluster.endpoints), show_blocks)
    click.echo(text)


@ipam.command("check", epilog="Example: calicoctl ipam check -o report.json")
@click.option("-o", "--output", metavar="FILE", help="Write a report for `release --from-report`.")
@click.option("--show-all-ips", is_flag=True, help="Also each address that is in use.")
@click.option("--show-problem-ips", is_flag=True, help="Taken; problems are always shown.")
@with_settings("datastore", "socket")
def check_(
    *, output: str | None, show_all_ips: bool, show_problem_ips: bool, settings: Settings
) -> None:
    """Find addresses that leaked and whatever else does not fit. Ends with 0 whatever it finds."""
    click.echo("Checking IPAM for inconsistencies...\n")
    with opened(settings) as cluster:
        for line in _inventory(cluster, show_all_ips):
            click.echo(line)
    answer = ipam_report.audit(settings)
    for text in answer["unjudged"]:
        click.echo(f"Not judged: {text}")
    found = answer["findings"]
    leaked = ipam_report.leaks([answer])
    unheld = sum(each["kind"] == "unheld" for each in found)
    click.echo("Scanning for IPs that are allocated but not actually in use...")
    click.echo(f"Found {len(leaked)} IPs that are allocated in IPAM but not actually in use.")
    click.echo(
        "Scanning for IPs that are in use by a workload or node but not allocated in IPAM..."
    )
    click.echo(f"Found {unheld} in-use IPs that have no corresponding IPAM allocation.\n")
    for each in found:
        click.echo(f"  {each['kind']}: {each['text']}")
    if output:
        _write(output, answer)
    click.echo(f"Check complete; found {len(found)} problems.")


@ipam.command(epilog="Example: calicoctl ipam release --from-report=report.json")
@click.option("--ip", metavar="IP", help="The address to free.")
@click.option(
    "--from-report",
    "reports",
    multiple=True,
    metavar="FILE",
    help="All leaks and orphan blocks of a report.",
)
@click.option("--force", is_flag=True, help="Also where the container runs (again).")
@with_settings("datastore", "socket")
def release(*, ip: str | None, reports: tuple[str, ...], force: bool, settings: Settings) -> None:
    """Free addresses whose container is gone. Those of containers that run are refused."""
    if bool(ip) == bool(reports):
        raise click.UsageError("give either --ip or --from-report")
    client = Client(settings.socket)
    if reports:
        doomed = ipam_release.of_reports(reports, client)
        outcome = ipam_release.release(settings, client, doomed, force=force)
        count = sum(len(each["addresses"]) for each in outcome.endpoints)
        click.echo(f"Released {count} IPs of {len(outcome.endpoints)} allocations.")
        if outcome.blocks:
            click.echo(f"Released {len(outcome.blocks)} blocks.")
        outcome.complain()
        return
    assert ip is not None
    with opened(settings) as cluster:
        held = any(each.holders for each in whereabouts_of(cluster, ip))
    if not held:
        click.echo(f"IP address {ip} is not assigned")
        return
    client.post("/v1/ipam/release", {"ip": ip, "force": force})
    click.echo(f"Successfully released IP address {ip}")


@ipam.command(epilog="Example: calicoctl ipam configure --strictaffinity=true")
@click.option("--strictaffinity", type=bool, metavar="BOOL", help="Whether nobody may borrow.")
@click.option(
    "--max-blocks-per-host", type=int, metavar="N", help="Blocks of one pool; 0: no limit."
)
@with_settings("datastore")
def configure(
    strictaffinity: bool | None, max_blocks_per_host: int | None, settings: Settings
) -> None:
    """Change what is configured for all addresses: the IPAMConfiguration `default`."""
    asked = {"strictAffinity": strictaffinity, "maxBlocksPerHost": max_blocks_per_host}
    said = {name: value for name, value in asked.items() if value is not None}
    if not said:
        raise click.UsageError("say --strictaffinity=true or --max-blocks-per-host=N")

    def write(editor: Editor) -> None:
        known = editor.find(KINDS[configured.KIND], "", configured.NAME)
        document = {
            "apiVersion": API_VERSION,
            "kind": configured.KIND,
            "metadata": {"name": configured.NAME},
            "spec": {**(known.spec if known else {}), **said},
        }
        editor.apply(files.document(document, "", {}))

    for note in edit(settings, write).notes:
        click.echo(f"note: {note}", err=True)
    for name, value in said.items():
        word = str(value).lower()
        click.echo(f"Successfully set {name[0].upper()}{name[1:]} to: {word}")


@ipam.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def split() -> None:
    """Answer that pools are not split."""
    raise InvalidConfig(
        "calicoctl ipam split is not part of Netloom",
        field="command",
        value="split",
        hint="create another IPPool and set disabled: true in the old one: new addresses come of "
        "the new one, and the old one can be deleted when its last container has gone",
    )


_BORROWED = ("IP", "BORROWING-NODE", "BLOCK", "BLOCK OWNER", "TYPE", "ALLOCATED-TO")


def _counts(counts: Iterable[PoolCount], show_blocks: bool) -> str:
    listed = list(counts)
    reserved = any(each.count.reserved for each in listed)
    headings = ("GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE", "IPS FREE")

    def row(grouping: str, count: Count) -> tuple[str, ...]:
        numbers = (count.in_use, count.free, *((count.reserved,) if reserved else ()))
        cells = (f"{number:.5g} ({number / count.total * 100:.0f}%)" for number in numbers)
        return grouping, str(count.cidr), f"{count.total:.5g}", *cells

    rows = []
    for each in listed:
        rows.append(row("IP Pool", each.count))
        if show_blocks:  # what is borrowed out of a block has a table of its own
            rows += [row("Block", count) for block, count in each.blocks if not block.lender]
    return boxed((*headings, *(("IPS RESERVED",) if reserved else ())), rows)


def _address(cluster: ClusterStore, ip: str) -> str:
    names = {host.id: host.name for host in cluster.cluster.hosts.values()}
    holders = [holder for each in whereabouts_of(cluster, ip) for holder in each.holders]
    if not holders:
        return f"{ip} is not assigned"
    lines = [f"IP {ip} is in use"]
    for holder in holders:
        lines += [
            f"Handle: {holder.handle}",
            "Attributes:",
            f"  network: {holder.network}",
            f"  node: {names.get(holder.host_id, holder.host_id)}",
            f"  container: {holder.container_id}",
            f"  interface: {holder.ifname}",
            f"  timestamp: {holder.created}",
        ]
    return "\n".join(lines)


def _configuration(cluster: ClusterStore) -> list[tuple[str, str]]:
    said = configured.configuration(cluster.cluster)
    return [
        ("StrictAffinity", str(said.strict is not False).lower()),
        ("AutoAllocateBlocks", "true"),
        ("MaxBlocksPerHost", str(said.max_blocks)),
    ]


def _borrowed(cluster: ClusterStore) -> Iterator[tuple[str, ...]]:
    names = {host.id: host.name for host in cluster.cluster.hosts.values()}
    for holder in cluster.endpoints:
        for block in cluster.blocks_of(network=holder.network):
            for address in holder.addresses:
                if address in block.cidr and block.host_id != holder.host_id:
                    yield (
                        str(address),
                        names.get(holder.host_id, holder.host_id),
                        str(block.cidr),
                        names.get(block.host_id, block.host_id),
                        "workload",
                        holder.handle,
                    )


def _inventory(cluster: ClusterStore, show_all: bool) -> Iterator[str]:
    names = {host.id: host.name for host in cluster.cluster.hosts.values()}
    blocks = cluster.blocks_of()
    yield "Loading all IPAM blocks..."
    yield f"Found {len(blocks)} IPAM blocks."
    for block in blocks:
        yield f" IPAM block {block.cidr} affinity=host:{names.get(block.host_id, block.host_id)}"
    pools = [pool for network in cluster.cluster.networks.values() for pool in network.pools]
    yield "\nLoading all IPAM pools..."
    yield from (f"  {pool.cidr}" for pool in pools)
    yield f"Found {len(pools)} active IP pools.\n"
    addresses = [(a, each) for each in cluster.endpoints for a in each.addresses]
    yield "Loading all workload endpoints."
    yield f"Found {len(addresses)} workload IPs.\n"
    for address, each in addresses if show_all else ():
        yield f"  {address} allocated; attrs Main:{each.handle}"


def _write(path: str, answer: dict[str, Any]) -> None:
    try:
        Path(path).write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise NotPermitted(
            f"{path}: {error.strerror}", hint="name a file that can be written"
        ) from None
