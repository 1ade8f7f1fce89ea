"""What ``netloom ipam`` prints: tables, sentences and their JSON forms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from netloom.cli.render import Table, bold, paint, pairs
from netloom.core.ipam.excess import Excess
from netloom.core.ipam.summary import Count, PoolCount, Whereabouts
from netloom.model.endpoint import Endpoint
from netloom.model.host import Block


def whereabouts(address: str, each: Whereabouts, names: dict[str, str]) -> str:
    """Return all that is known of one address, as text."""
    said = "in use" if each.holders else "not assigned"
    block = "none claimed yet"
    if each.block:
        holder = names.get(each.block.host_id, each.block.host_id)
        block = f"{each.block.cidr} of host {holder}"
        if each.block.lender:
            block += f", lent by {names.get(each.block.lender, each.block.lender)}"
    lines = [f"{bold(address)} is {said}"]
    about: list[tuple[str, object]] = [
        ("network", each.network),
        ("pool", each.pool.cidr),
        ("block", block),
    ]
    for endpoint in each.holders:
        about += _holder(endpoint, names)
    about += [("reserved", f"{r.cidr} {r.reason}".strip()) for r in each.reservations]
    return "\n".join([*lines, pairs(about, indent="  ")])


def _holder(endpoint: Endpoint, names: dict[str, str]) -> list[tuple[str, object]]:
    return [
        ("handle", endpoint.handle),
        ("host", names.get(endpoint.host_id, endpoint.host_id)),
        ("container", f"{endpoint.container_id} ({endpoint.ifname} in {endpoint.netns})"),
        ("since", endpoint.created),
    ]


def counts(counts: list[PoolCount], names: dict[str, str], show_blocks: bool) -> str:
    """Return the table of pools and, if wanted, their blocks."""
    headers = ("GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE", "IPS FREE", "RESERVED", "NETWORK")
    table = Table((*headers, "HOST"), frozenset(headers[2:6]))
    for each in counts:
        table.add("IP Pool", each.pool.cidr, *_cells(each.count), each.network, "")
        for block, count in each.blocks if show_blocks else ():
            host = names.get(block.host_id, block.host_id)
            lent = f", lent by {names.get(block.lender, block.lender)}" if block.lender else ""
            pending = "" if block.confirmed else " (pending)"
            kind = "Loan" if block.lender else "Block"
            table.add(kind, block.cidr, *_cells(count), each.network, host + lent + pending)
    return table.render()


def _cells(count: Count) -> tuple[str, str, str, str]:
    def share(part: int) -> str:
        return f"{part:.5g} ({part / count.total * 100:.0f}%)"

    reserved = share(count.reserved) if count.reserved else "0"
    return f"{count.total:.5g}", share(count.in_use), share(count.free), reserved


def pool_document(
    each: PoolCount, show_blocks: bool, beyond: Iterable[Excess] = ()
) -> dict[str, Any]:
    """Return the JSON form of one pool's count; ``beyond`` are the hosts with too many blocks."""
    document = {"network": each.network, **_count_document(each.count)}
    over = [
        {"host": one.host_id, "blocks": one.held, "limit": one.limit}
        for one in beyond
        if (one.network, one.pool) == (each.network, each.pool.cidr)
    ]
    document |= {"beyondLimit": over} if over else {}
    if show_blocks:
        document["blocks"] = [
            {**block.render(), **_count_document(count)} for block, count in each.blocks
        ]
    return document


def _count_document(count: Count) -> dict[str, Any]:
    return {
        "cidr": str(count.cidr),
        "total": count.total,
        "inUse": count.in_use,
        "reserved": count.reserved,
        "free": count.free,
    }


def report(answer: dict[str, Any]) -> str:
    """Return an audit's answer as text."""
    where = f"host {answer['host']}" if answer["host"] else "the datastore"
    lines = [f"Checked {answer['endpoints']} endpoints of {where}."]
    lines += [f"{paint('not judged', 'yellow')}  {text}" for text in answer["unjudged"]]
    for finding in answer["findings"]:
        lines.append(f"{paint(finding['kind'], 'red')}  {finding['text']}")
        if finding["remedy"]:
            lines.append(f"    remedy: {finding['remedy']}")
    count = len(answer["findings"])
    lines.append(f"Check complete; found {count} problems.")
    return "\n".join(lines)


def released_text(released: list[dict[str, Any]], blocks: Iterable[Block] = ()) -> str:
    """Return what was freed, as text."""
    lines = [
        f"{listed(each['addresses'])} of {each['network']} is free "
        f"(was held by container {each['container']}, {each['ifname']})"
        for each in released
    ]
    lines += [f"block {block.cidr} of {block.network} is free" for block in blocks]
    return "\n".join(lines) or "nothing is held there (any more)"


def listed(texts: list[str]) -> str:
    """Return texts as a list for a sentence."""
    return ", ".join(texts) or "none"
