"""What people are told of the underlay: why it was chosen, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from netloom.core.interface_methods import excluded_by
from netloom.core.selection import parse
from netloom.model.addr import Family, IPAddress, IPInterface
from netloom.model.view import HostFacts, Problem


def verdicts(facts: HostFacts, interface: str) -> list[tuple[str, IPInterface, bool, str]]:
    """Tell of every candidate whether it is the underlay, and why: (interface, address, …)."""
    selection = parse(interface)
    asked = "; ".join(map(str, selection.steps)) or "the default route"
    reasons = dict(reasons_by_family(facts))
    found = []
    for link, address, _ in facts.candidates:
        family = address.version
        taken = facts.underlay.get(family)
        if taken == (link, address):
            why = reasons.get(family, facts.reason).partition(", ")[2] or asked
        elif link in facts.down:
            why = "it is down"
        elif link in facts.unplugged:
            why = "it has no carrier"
        elif family in selection.without:
            why = f"the host shall have no IPv{family} underlay address"
        elif taken and taken[0] == link:
            why = f"{taken[1].ip} of the same interface is"
        elif selection.excludes and (pattern := excluded_by(link)):
            why = f"interfaces called {pattern} are left out"
        else:
            why = f"not chosen by {asked}"
        found.append((link, address, taken == (link, address), why))
    return found


def detours(facts: HostFacts) -> Callable[[str, IPAddress], Problem | None]:
    """Return what tells of a peer that packets do not reach it over the underlay's card.

    It is called with a peer's name and underlay address. Over another card tunnels leave with an
    address that the way back may not know, and firewalls of the other segment see them; what is
    sent to an address of this host's own never leaves.
    """
    ranges = sorted(facts.routes, key=lambda each: -each[0].prefixlen)

    def detour(name: str, address: IPAddress) -> Problem | None:
        taken = facts.underlay.get(address.version)
        if taken is not None and address == taken[1].ip:
            return Problem(
                "error",
                f"peer {name}",
                f"its address {address} is this host's own as well: what is sent there stays here",
                "give each host its own address",
            )
        if taken is None or address in taken[1].network:
            return None
        way = next((link for cidr, link in ranges if address in cidr), taken[0])
        if not way or way == taken[0]:
            return None
        return Problem(
            "warning",
            f"peer {name}",
            f"its address {address} is reached over {way}, not over {taken[0]}, the underlay",
            f"choose {way} (--interface {way}), or let {name} take an address on the segment "
            f"of {taken[0]}",
        )

    return detour


def problems(facts: HostFacts) -> Iterator[Problem]:
    """Yield what is wrong with the underlay now; the data path is left as it was."""
    if facts.refusal:
        yield Problem(
            "error", "underlay", f"{facts.refusal[0]}; what was chosen stays", facts.refusal[1]
        )
    for family, (link, interface) in facts.underlay.items():
        if family in facts.lost:
            yield Problem(
                "warning",
                "underlay",
                f"the address {interface.ip} of {link} is gone",
                f"give {link} an address again, or name another interface (--interface)",
            )
    used = {link for link, _ in facts.underlay.values()}
    for link in sorted(used & facts.down):
        yield Problem("warning", "underlay", f"{link} is down", f"ip link set {link} up")
    for link in sorted(used & facts.unplugged):
        remedy = f"see whether the cable of {link} is plugged in at both ends, and the switch is on"
        yield Problem("warning", "underlay", f"{link} has no carrier", remedy)


def reasons_by_family(facts: HostFacts) -> Iterable[tuple[Family, str]]:
    """Return the parts of a reason that speak of one family."""
    for part in facts.reason.split("; "):
        if part.startswith("IPv") and part[3:4] in "46":
            yield (4 if part[3] == "4" else 6), part
