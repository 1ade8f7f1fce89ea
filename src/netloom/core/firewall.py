"""The host's firewall as one nftables table, ``inet netloom``.

* *Sources*: behind a device for containers nothing is taken whose source this host would not send
  back through that device (``core/sources``), neither for others nor for the host itself. It is
  dropped before connections are tracked.
* *Source NAT*: what leaves a ``natOutgoing`` pool for an address in no pool takes the host's
  address. Traffic between pools keeps its source, whatever the host it comes from.
* *Published ports*: ``hostIP:hostPort`` leads to the container, from outside, from containers
  (the own ones too: hairpin) and from the host itself, 127.0.0.1 included.

Nothing is accepted here: netfilter asks every table's chain at a hook in turn, and "accept" ends
one chain, not the hook; "drop" ends everything. No table can be written that overrules another, and
to say yes once more costs every forwarded packet. ``core/admission.py`` has rules of ours in
iptables' own tables where those drop; ``core/obstacles.py`` names what else does and what helps.

The text is exactly what ``nft -s list table inet netloom`` prints (nft 1.0.6), so that drift is a
comparison of two strings. Ports are elements of maps: ten thousand of them are as few rules as one,
and a host without published ports has none of their chains.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from netloom.core.published import PROTOCOLS, Lead, standing_leads
from netloom.core.sources import Elsewhere
from netloom.model.addr import Family, IPAddress, IPNetwork
from netloom.model.endpoint import Endpoint
from netloom.model.kernel import CONTAINER_GROUP, NFT_TABLE, NftTable
from netloom.model.network import Network


@dataclass(frozen=True, slots=True)
class _Words:
    """What differs between the families.

    ``keep``: destinations outside the pools to which nothing is masqueraded. ``near``: sources
    other than the host's own containers that a published container must not see, since its answer
    would not come back to us. ``publish_if`` narrows what published ports apply to.
    """

    ip: str
    type: str
    per_line: int
    keep: str
    near: tuple[IPNetwork, ...] = ()
    publish_if: str = ""


_WORDS: dict[Family, _Words] = {
    4: _Words(
        ip="ip",
        type="ipv4_addr",
        per_line=2,
        keep="169.254.0.0/16, 224.0.0.0/4, 255.255.255.255",
        near=(ipaddress.IPv4Network("127.0.0.0/8"),),
    ),
    # IPv6 has no route_localnet: what comes from ::1 cannot leave the host.
    6: _Words(
        ip="ip6",
        type="ipv6_addr",
        per_line=1,
        keep="fe80::/10, ff00::/8",
        publish_if="ip6 daddr != ::1 ",
    ),
}
#: kube-proxy's mark of packets whose source it translates itself; flannel leaves them alone, too.
_UNCLAIMED = "meta mark & 0x00004000 == 0x00000000"
_IFNAME_BYTES = 16
_PORT = "inet_proto . inet_service"
_PORTS_ONLY = "meta l4proto { tcp, udp, sctp }"


def table(
    networks: Iterable[Network],
    endpoints: Iterable[Endpoint] = (),
    blocks: Iterable[IPNetwork] = (),
    elsewhere: Iterable[Elsewhere] = (),
) -> NftTable:
    """Return the table of a host.

    ``endpoints`` and ``blocks`` are the host's own, of all networks. Without ``blocks`` every
    address of a pool counts as being on this host: a container on another host is then seen with
    this host's address when it asks for a port published here. ``elsewhere`` is what containers of
    several networks may send beside the addresses behind that device.
    """
    pools = [pool for network in networks for pool in network.pools]
    leads, own, others = standing_leads(endpoints), tuple(blocks), tuple(elsewhere)
    parts = []
    for family in sorted({pool.family for pool in pools}):
        cidrs = tuple(pool.cidr for pool in pools if pool.family == family)
        part = _Part(
            _WORDS[family],
            family,
            pools=cidrs,
            nat=tuple(p.cidr for p in pools if p.family == family and p.nat_outgoing),
            own=tuple(block for block in own if block.version == family) or cidrs,
            leads=tuple(lead for lead in leads if lead.family == family),
            elsewhere=tuple(each for each in others if each.address.version == family),
        )
        parts.append(part)
    body = "\n\n".join([*(text for part in parts for text in part.sets()), *_chains(parts)])
    return NftTable(f"table inet {NFT_TABLE} {{\n{body}\n}}\n")


@dataclass(frozen=True, slots=True)
class _Part:
    """All that the table says about one family."""

    words: _Words
    family: Family
    pools: tuple[IPNetwork, ...]
    nat: tuple[IPNetwork, ...]
    own: tuple[IPNetwork, ...]
    leads: tuple[Lead, ...]
    elsewhere: tuple[Elsewhere, ...]

    def sets(self) -> list[str]:
        """Return the sets and maps; the kernel keeps and prints them in this order."""
        address = self.words.type
        sets = []
        if self.elsewhere:
            sources = dict(_source(each) for each in self.elsewhere)
            sets.append(self._elements("set elsewhere", f"ifname . {address}", sources))
        if self.nat:
            sets.append(self._ranges("pools", self.pools))
            sets.append(self._ranges("nat", self.nat))
        if self.leads:
            sets.append(self._ranges("near", (*self.words.near, *self.own)))
            targets = dict(_target(lead) for lead in self.leads)
            sets.append(self._elements("set targets", f"{address} . {_PORT}", targets))
        lead_to = f"{address} . inet_service"
        if bound := dict(_entry(lead) for lead in self.leads if lead.host_ip):
            kind = f"{address} . {_PORT} : {lead_to}"
            sets.append(self._elements("map bound", kind, bound))
        if ports := dict(_entry(lead) for lead in self.leads if not lead.host_ip):
            sets.append(self._elements("map ports", f"{_PORT} : {lead_to}", ports))
        return sets

    def strangers(self) -> list[str]:
        """Return the rules for sources that come the wrong way: a container's own may."""
        source = f"iifname . {self.words.ip} saddr @elsewhere{self.family}"
        return [f"{source} accept"] if self.elsewhere else []

    def publish(self) -> list[str]:
        """Return the rules that lead a packet for the host to a container; hostIP goes first."""
        ip = self.words.ip
        head = f"{self.words.publish_if}{_PORTS_ONLY} dnat {ip} to"
        key = "meta l4proto . th dport map"
        rules = []
        if any(lead.host_ip for lead in self.leads):
            rules.append(f"{head} {ip} daddr . {key} @bound{self.family}")
        if not all(lead.host_ip for lead in self.leads):
            rules.append(f"{head} {key} @ports{self.family}")
        return rules

    def postrouting(self) -> list[str]:
        """Return the rules of source NAT: outgoing, and towards published containers.

        A published container whose asker is its neighbour, itself, or the host's 127.0.0.1 must
        see the host as the source: its answer would else go past the host, which has to undo the
        destination NAT.
        """
        ip, family = self.words.ip, self.family
        rules = []
        if self.nat:
            rules.append(
                f"{_UNCLAIMED} {ip} saddr @nat{family} {ip} daddr != @pools{family} "
                f"{ip} daddr != {{ {self.words.keep} }} masquerade fully-random"
            )
        if self.leads:
            rules.append(
                f"ct status dnat {ip} saddr @near{family} "
                f"{ip} daddr . meta l4proto . th dport @targets{family} masquerade fully-random"
            )
        return rules

    def _ranges(self, name: str, cidrs: Iterable[IPNetwork]) -> str:
        texts = [str(c.network_address if c.num_addresses == 1 else c) for c in _merged(cidrs)]
        step = self.words.per_line
        lines = [", ".join(texts[i : i + step]) for i in range(0, len(texts), step)]
        return _set(f"set {name}{self.family}", self.words.type, lines, "flags interval")

    def _elements(self, name: str, kind: str, elements: dict[bytes, str]) -> str:
        # nft sorts a concatenation as one number whose first byte weighs least.
        lines = [elements[key] for key in sorted(elements, key=lambda key: key[::-1])]
        return _set(f"{name}{self.family}", kind, lines)


def _chains(parts: list[_Part]) -> list[str]:
    def rules(of: str) -> list[str]:
        return [rule for part in parts for rule in getattr(part, of)()]

    strangers, publish = rules("strangers"), rules("publish")
    refuse = "goto strangers" if strangers else "drop"
    guard = [f"iifgroup {CONTAINER_GROUP} fib saddr . iif oif missing {refuse}"]
    if publish:
        # Published ports open devices for the loopback addresses (route_localnet): containers must
        # not reach through it what listens on 127.0.0.1.
        guard.insert(0, 'iif != "lo" ip daddr 127.0.0.0/8 drop')
    chains = [_chain("guard", "type filter hook prerouting priority raw", guard)]
    if strangers:
        chains.append(_chain("strangers", "", [*strangers, "drop"]))
    if publish:
        local = ["fib daddr type local jump publish"]
        chains += [
            _chain("prerouting", "type nat hook prerouting priority dstnat", local),
            _chain("output", "type nat hook output priority -100", local),
            _chain("publish", "", publish),
        ]
    if postrouting := rules("postrouting"):
        chains.append(
            _chain("postrouting", "type nat hook postrouting priority srcnat", postrouting)
        )
    return chains


def _chain(name: str, hook: str, rules: list[str]) -> str:
    lines = [f"{hook}; policy accept;", *rules] if hook else rules
    return "\n".join([f"\tchain {name} {{", *(f"\t\t{line}" for line in lines), "\t}"])


def _set(name: str, kind: str, lines: list[str], *flags: str) -> str:
    elements = ",\n\t\t\t     ".join(lines)
    body = [f"type {kind}", *flags, f"elements = {{ {elements} }}"]
    return "\n".join([f"\t{name} {{", *(f"\t\t{line}" for line in body), "\t}"])


def _merged(cidrs: Iterable[IPNetwork]) -> list[IPNetwork]:
    """Return the same addresses as sorted ranges that do not touch; all are of one family."""
    return list(ipaddress.collapse_addresses(cidrs))  # type: ignore[type-var]


def _entry(lead: Lead) -> tuple[bytes, str]:
    """Return one element of ``bound`` or ``ports``, with the key's bytes as the kernel has them."""
    key, text = _place(lead.host_ip, lead.protocol, lead.host_port)
    return key, f"{text} : {lead.target} . {lead.container_port}"


def _source(each: Elsewhere) -> tuple[bytes, str]:
    key = each.device.encode().ljust(_IFNAME_BYTES, b"\0") + each.address.packed
    return key, f'"{each.device}" . {each.address}'


def _target(lead: Lead) -> tuple[bytes, str]:
    return _place(lead.target, lead.protocol, lead.container_port)


def _place(address: IPAddress | None, protocol: str, port: int) -> tuple[bytes, str]:
    """Return a concatenation as the kernel's bytes, each part padded to four, and as text."""
    key = bytes([PROTOCOLS[protocol], 0, 0, 0]) + port.to_bytes(2, "big") + b"\0\0"
    text = f"{protocol} . {port}"
    return (address.packed + key, f"{address} . {text}") if address else (key, text)
