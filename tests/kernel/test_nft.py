"""Our nftables table in a real kernel: what is written is what is read, and damage is seen."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from netloom.core import firewall
from netloom.core.sources import Elsewhere
from netloom.kernel import nft
from netloom.kernel.conntrack import changed_udp_ports
from netloom.kernel.firewalls import OtherFirewalls
from netloom.kernel.nft import NftTables
from netloom.model.endpoint import Endpoint, PortMapping
from netloom.model.errors import KernelRejected, NetloomError
from netloom.model.kernel import NftTable
from netloom.model.network import Network
from netloom.reconcile.contracts import Change, Verb

if TYPE_CHECKING:
    from tests.conftest import Netns

ip = ipaddress.ip_address


def network(*pools: Any, name: str = "blue") -> Network:
    return Network.parse({"name": name, "pools": list(pools)})


def endpoints(count: int, families: str) -> list[Endpoint]:
    made = []
    for i in range(2, count + 2):
        v4, v6 = ip("10.244.0.0") + i, ip("fd00:1::") + i
        addresses = tuple(a for a in (v4, v6) if str(a.version) in families)
        hosts = [None, ip("127.0.0.1")] if "4" in families else [None, ip("fd31::62")]
        ports = tuple(
            PortMapping(1000 + i * 4 + n, 80 + n, protocol, host)
            for n, (protocol, host) in enumerate(
                (p, h) for p in ("tcp", "udp", "sctp") for h in hosts
            )
            if n < 4
        )
        made.append(
            Endpoint(
                "blue", "h1", f"c{i}", "eth0", "", f"veth{i}", "02:00:00:00:00:01", addresses,
                ports=ports,
            )
        )  # fmt: skip
    return made


CALI = [f"cali{number * 7919:011x}" for number in range(40)]
TABLES = {
    "no network": firewall.table([]),
    "ipv4": firewall.table([network("10.244.0.0/16")]),
    "ipv6": firewall.table([network("fd00:1::/48")]),
    "both": firewall.table([network("10.244.0.0/16", "fd00:1::/48")]),
    "no nat": firewall.table([network({"cidr": "10.244.0.0/16", "natOutgoing": False})]),
    "many pools": firewall.table(
        [
            network(*(f"10.{i}.0.0/20" for i in range(0, 60, 3)), "10.200.0.7/32", "fd00:1::/48"),
            network("10.61.0.0/24", "10.61.1.0/25", "fd00:9::/64", "fd00:0:7::1/128", name="green"),
        ]
    ),
    "one port": firewall.table([network("10.244.0.0/16")], endpoints(1, "4")),
    "many ports ipv4": firewall.table([network("10.244.0.0/16")], endpoints(300, "4")),
    "many ports ipv6": firewall.table([network("fd00:1::/48")], endpoints(300, "6")),
    "many ports of both": firewall.table(
        [network("10.244.0.0/16", "fd00:1::/48")],
        endpoints(100, "46"),
        [ipaddress.ip_network("10.244.1.0/24"), ipaddress.ip_network("fd00:1::/64")],
    ),
    "containers of several networks": firewall.table(
        [network("10.244.0.0/16", "fd00:1::/48")],
        elsewhere=[
            Elsewhere(device, address)
            for number, device in enumerate(("cni0", "br-0123456789ab", "a", *CALI))
            for address in (ip("10.244.0.0") + 77 * number, ip("fd00:1::") + 991 * number)
        ],
    ),
}


def write(tables: NftTables, table: NftTable) -> NetloomError | None:
    (outcome,) = tables.apply([Change(Verb.ADD, table)])
    return outcome.error


@pytest.mark.parametrize("name", TABLES)
def test_a_table_reads_back_as_the_very_text_that_was_written(netns: Netns, name: str) -> None:
    """The text is canonical for the nft at hand: no spelling had to be learnt."""

    def go() -> None:
        tables = NftTables()
        assert write(tables, TABLES[name]) is None
        assert tables.read() == [TABLES[name]]
        assert NftTables().read() == [TABLES[name]], "another process finds the same"

    netns.call(go)


def test_a_table_replaces_another_in_one_transaction(netns: Netns) -> None:
    def go() -> None:
        tables = NftTables()
        for name in ("many ports of both", "ipv4", "one port", "ipv6"):
            before = nft.generation()
            assert before is not None
            assert write(tables, TABLES[name]) is None
            assert nft.generation() == before + 1
            assert tables.read() == [TABLES[name]]

    netns.call(go)


@pytest.mark.parametrize(
    "damage",
    [
        ["flush", "ruleset"],
        ["delete", "table", "inet", "netloom"],
        ["flush", "table", "inet", "netloom"],
        ["flush", "chain", "inet", "netloom", "postrouting"],
        ["delete", "chain", "inet", "netloom", "guard"],
        ["delete", "element", "inet", "netloom", "ports4", "{", "tcp", ".", "1008", "}"],
        ["add", "element", "inet", "netloom", "pools4", "{", "172.16.0.0/12", "}"],
        ["add", "rule", "inet", "netloom", "guard", "drop"],
    ],
    ids=" ".join,
)
def test_every_change_by_another_hand_is_seen_and_undone(netns: Netns, damage: list[str]) -> None:
    table = TABLES["one port"]

    def go() -> None:
        tables = NftTables()
        assert write(tables, table) is None
        assert tables.read() == [table]
        netns.run("nft", *damage)
        assert tables.read() != [table]
        assert write(tables, table) is None
        assert tables.read() == [table]

    netns.call(go)


def test_other_tables_are_neither_read_nor_touched(netns: Netns) -> None:
    netns.run("nft", "add table inet site; add chain inet site forward")
    before = netns.run("nft", "list", "table", "inet", "site")

    def go() -> None:
        tables = NftTables()
        assert tables.read() == []
        assert write(tables, TABLES["one port"]) is None
        assert tables.apply([Change(Verb.DELETE, TABLES["one port"])])[0].error is None
        assert tables.apply([Change(Verb.DELETE, TABLES["one port"])])[0].error is None
        assert tables.read() == []

    netns.call(go)
    assert netns.run("nft", "list", "table", "inet", "site") == before


def test_nothing_is_run_while_the_ruleset_stays_as_it_is(
    netns: Netns, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A counting nft comes first on PATH; a hundred reads start it once."""
    count = counting_nft(tmp_path, monkeypatch)

    def go() -> None:
        tables = NftTables()
        assert write(tables, TABLES["ipv4"]) is None
        before = count()
        for _ in range(100):
            assert tables.read() == [TABLES["ipv4"]]
        assert count() == before + 1

    netns.call(go)


def test_a_table_that_nft_refuses_changes_nothing_and_says_what_nft_said(netns: Netns) -> None:
    good = TABLES["ipv4"]
    bad = NftTable(good.text.replace("hook prerouting", "hook sideways"))

    def go() -> None:
        tables = NftTables()
        assert write(tables, good) is None
        error = write(tables, bad)
        assert isinstance(error, KernelRejected)
        assert "sideways" in str(error)
        assert tables.read() == [good]

    netns.call(go)


def test_an_nft_with_another_spelling_causes_no_second_write(
    netns: Netns, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later nft says "priority dstnat" where 1.0.6 says -100; a filter behind nft plays it."""
    counting_nft(tmp_path, monkeypatch, " | sed 's/output priority -100/output priority dstnat/'")
    table = TABLES["one port"]

    def go() -> None:
        tables = NftTables()
        assert write(tables, table) is None
        assert tables.read() == [table]
        netns.run("nft", "add", "rule", "inet", "netloom", "guard", "drop")
        assert tables.read() != [table], "damage is still damage"
        assert write(tables, table) is None
        assert tables.read() == [table]

    netns.call(go)


def test_what_another_hand_wrote_right_after_us_is_not_taken_for_our_spelling(
    netns: Netns,
) -> None:
    table = TABLES["ipv4"]

    def go() -> None:
        tables = NftTables()
        assert write(tables, table) is None
        netns.run("nft", "add", "rule", "inet", "netloom", "guard", "drop")
        assert tables.read() != [table]

    netns.call(go)


def test_a_real_forward_drop_is_found_and_the_remedy_ends_it(netns: Netns) -> None:
    """The forward chain that Docker makes, made with nft as iptables-nft makes it."""
    blue = network("10.244.0.0/16")
    netns.run(
        "nft",
        "add table ip filter; add chain ip filter FORWARD "
        "{ type filter hook forward priority 0; policy drop; }; add chain ip filter DOCKER-USER; "
        "add rule ip filter FORWARD counter jump DOCKER-USER",
    )
    netns.call(lambda: write(NftTables(), TABLES["ipv4"]))
    others = OtherFirewalls()
    (problem,) = netns.call(lambda: others.problems([blue]))
    assert "ip filter FORWARD" in problem.subject
    for command in problem.remedy.split("; "):
        _, _, chain, flag, cidr, *_ = command.split()
        end = {"-s": "saddr", "-d": "daddr"}[flag]
        netns.run("nft", "insert", "rule", "ip", "filter", chain, "ip", end, cidr, "accept")
    deadline = time.monotonic() + 60  # it looks again when looking costs little
    while netns.call(lambda: others.problems([blue])):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_only_udp_ports_that_lead_elsewhere_than_before_count_as_changed() -> None:
    """Their neighbours' coming and going moves them to another line of the same text."""

    def text(*ports: PortMapping) -> str:
        made = Endpoint("blue", "h1", "c", "eth0", "", "veth1", "02:00:00:00:00:01",
                        (ip("10.244.0.2"), ip("fd00:1::2")), ports=ports)  # fmt: skip
        return firewall.table([network("10.244.0.0/16", "fd00:1::/48")], [made]).text

    dns, web = PortMapping(53, 53, "udp"), PortMapping(80, 80)
    log, here = PortMapping(514, 514, "udp"), PortMapping(53, 53, "udp", ip("127.0.0.1"))
    assert changed_udp_ports(text(), text(dns, web)) == {53}
    assert changed_udp_ports(text(dns, web), text(dns)) == set()
    assert changed_udp_ports(text(dns), text(dns, log)) == {514}
    assert changed_udp_ports(text(dns, log), text(log)) == {53}
    assert changed_udp_ports(text(dns), text(here)) == {53}
    assert changed_udp_ports(text(dns), text(PortMapping(53, 54, "udp"))) == {53}


def test_other_firewalls_are_listed_once_while_nothing_changes(
    netns: Netns, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = counting_nft(tmp_path, monkeypatch)
    blue = network("10.244.0.0/16")

    def go() -> None:
        others = OtherFirewalls()
        for _ in range(100):
            assert others.problems([blue]) == []

    netns.call(go)
    assert count() == 1


@dataclass
class Counter:
    """Counts how often the nft in front of the real one was started."""

    path: Any

    def __call__(self) -> int:
        return len(self.path.read_text()) if self.path.exists() else 0


def counting_nft(
    folder: Any, monkeypatch: pytest.MonkeyPatch, behind: str = ""
) -> Callable[[], int]:
    log, front = folder / "count", folder / "nft"
    pipe = f'set -o pipefail; /usr/sbin/nft "$@"{behind}' if behind else 'exec /usr/sbin/nft "$@"'
    front.write_text(f"#!/bin/bash\nprintf x >> {log}\n{pipe}\n")
    front.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin")
    return Counter(log)
