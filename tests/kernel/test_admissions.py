"""Rules of ours in the filter tables of a real iptables: written, read, mended, taken out.

iptables is the judge: ``-S`` shows what stands, ``-C`` and ``-D`` take it for its own.
"""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from netloom.core.admission import admissions
from netloom.kernel import nft
from netloom.kernel.admissions import Admissions
from netloom.kernel.compose import HostKernel
from netloom.model.kernel import Admission, ForwardDrop, KernelObject, Link
from netloom.model.network import Network
from netloom.reconcile.contracts import Change, Verb
from netloom.reconcile.delta import delta

from .test_nft import counting_nft

if TYPE_CHECKING:
    from tests.conftest import Netns

POOL, POOL6 = ipaddress.ip_network("10.244.0.0/16"), ipaddress.ip_network("fd00:1::/48")
BLUE = Network.parse({"name": "blue", "pools": [str(POOL), str(POOL6)]})
#: As Docker 20.10 leaves them (``iptables -S`` of a fresh daemon).
DOCKER = """
iptables -P FORWARD DROP
iptables -N DOCKER
iptables -N DOCKER-ISOLATION-STAGE-1
iptables -N DOCKER-ISOLATION-STAGE-2
iptables -N DOCKER-USER
iptables -A FORWARD -j DOCKER-USER
iptables -A FORWARD -j DOCKER-ISOLATION-STAGE-1
iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A FORWARD -o docker0 -j DOCKER
iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
iptables -A FORWARD -i docker0 -o docker0 -j ACCEPT
iptables -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
iptables -A DOCKER-ISOLATION-STAGE-1 -j RETURN
iptables -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
iptables -A DOCKER-ISOLATION-STAGE-2 -j RETURN
iptables -A DOCKER-USER -j RETURN
"""
RULES = ["-A NETLOOM-FORWARD -s 10.244.0.0/16 -j ACCEPT",
         "-A NETLOOM-FORWARD -d 10.244.0.0/16 -j ACCEPT"]  # fmt: skip
RULES6 = ["-A NETLOOM-FORWARD -s fd00:1::/48 -j ACCEPT",
          "-A NETLOOM-FORWARD -d fd00:1::/48 -j ACCEPT"]  # fmt: skip


class Host:
    """A namespace with its own iptables, and our part of it."""

    def __init__(self, netns: Netns) -> None:
        self.netns = netns
        self.ours = Admissions()

    def sh(self, lines: str) -> None:
        for line in lines.strip().splitlines():
            self.netns.run(*line.split())

    def rules(self, tool: str = "iptables") -> list[str]:
        listed: str = self.netns.run(tool, "-S")
        return listed.splitlines()

    def read(self) -> list[KernelObject]:
        found: list[KernelObject] = self.netns.call(self.ours.read)
        return found

    def settle(self, *networks: Network, ours: Admissions | None = None) -> list[Change]:
        """Do what a turn does: look, want, compare, write; return what was written."""
        part = ours or self.ours

        def go() -> list[Change]:
            there = part.read()
            drops = [obj for obj in there if isinstance(obj, ForwardDrop)]
            wanted = {obj.key: obj for obj in admissions(networks, drops)}
            actual = {"admission": {obj.key: obj for obj in there}}
            changes = list(delta(wanted, actual).changes)
            for outcome in part.apply(changes):
                assert outcome.error is None, str(outcome.error)
            return changes

        done: list[Change] = self.netns.call(go)
        return done


@pytest.fixture
def machine(netns: Netns) -> Host:
    return Host(netns)


def own(host: Host, tool: str = "iptables") -> list[str]:
    return [line for line in host.rules(tool) if "NETLOOM" in line and line.startswith("-A")]


def test_both_families_are_let_through_where_iptables_itself_was_set_to_drop(machine: Host) -> None:
    machine.sh("iptables -P FORWARD DROP\nip6tables -P FORWARD DROP")
    assert machine.read() == [ForwardDrop(4, "FORWARD"), ForwardDrop(6, "FORWARD")]
    assert len(machine.settle(BLUE)) == 2
    assert own(machine) == ["-A FORWARD -j NETLOOM-FORWARD", *RULES]
    assert own(machine, "ip6tables") == ["-A FORWARD -j NETLOOM-FORWARD", *RULES6]
    assert machine.settle(BLUE) == [], "what was written is what is read"
    assert machine.settle(BLUE, ours=Admissions()) == [], "another agent finds the same"


def test_with_docker_it_stands_first_in_the_chain_that_docker_leaves_to_others(
    machine: Host,
) -> None:
    machine.sh(DOCKER)
    before = machine.rules()
    machine.settle(BLUE)
    assert own(machine) == ["-A DOCKER-USER -j NETLOOM-FORWARD", *RULES]
    of_user = [line for line in machine.rules() if line.startswith("-A DOCKER-USER")]
    assert of_user == ["-A DOCKER-USER -j NETLOOM-FORWARD", "-A DOCKER-USER -j RETURN"]
    machine.settle()
    assert machine.rules() == before, "nothing of Docker's was touched"


def test_iptables_takes_the_rules_for_its_own(machine: Host) -> None:
    """So ``-C``, ``-D`` and a save and restore of the whole table are as with any other rule."""
    machine.sh("iptables -P FORWARD DROP")
    machine.settle(BLUE)
    machine.sh("iptables -C FORWARD -j NETLOOM-FORWARD")
    machine.sh("iptables -C NETLOOM-FORWARD -s 10.244.0.0/16 -j ACCEPT")
    machine.netns.run("sh", "-c", "iptables-save -t filter | iptables-restore")
    assert machine.settle(BLUE) == [], "restored it is as it was, and still known to be ours"
    machine.sh("iptables -D FORWARD -j NETLOOM-FORWARD\niptables -F NETLOOM-FORWARD")
    machine.sh("iptables -X NETLOOM-FORWARD")
    assert own(machine) == []
    machine.settle(BLUE)
    assert own(machine) == ["-A FORWARD -j NETLOOM-FORWARD", *RULES]


def test_docker_that_comes_later_gets_the_jump_into_its_chain_and_when_it_goes_back(
    machine: Host,
) -> None:
    machine.sh("iptables -P FORWARD DROP")
    machine.settle(BLUE)
    machine.sh(DOCKER)
    machine.settle(BLUE)
    assert own(machine) == ["-A DOCKER-USER -j NETLOOM-FORWARD", *RULES]
    machine.sh("iptables -D FORWARD -j DOCKER-USER")
    machine.settle(BLUE)
    assert own(machine) == ["-A FORWARD -j NETLOOM-FORWARD", *RULES]
    assert machine.settle(BLUE) == []


@pytest.mark.parametrize(
    "damage",
    [
        "iptables -F",
        "iptables -F FORWARD",
        "iptables -F NETLOOM-FORWARD",
        "iptables -D FORWARD 1",
        "iptables -D NETLOOM-FORWARD 2",
        "iptables -I NETLOOM-FORWARD -s 10.244.3.0/24 -j DROP",
        "iptables -A FORWARD -j NETLOOM-FORWARD",
        "iptables -I FORWARD -j DROP",
        "nft delete table ip filter\niptables -P FORWARD DROP",
    ],
)
def test_what_another_hand_does_to_it_is_put_right_once(machine: Host, damage: str) -> None:
    machine.sh("iptables -P FORWARD DROP")
    machine.settle(BLUE)
    machine.sh(damage)
    assert len(machine.settle(BLUE)) == 1
    assert own(machine) == ["-A FORWARD -j NETLOOM-FORWARD", *RULES]
    assert machine.settle(BLUE) == []


@pytest.mark.parametrize("end", ["iptables -P FORWARD ACCEPT", "iptables -I FORWARD -j ACCEPT"])
def test_it_goes_when_nothing_drops_any_more(machine: Host, end: str) -> None:
    machine.sh("iptables -P FORWARD DROP")
    machine.settle(BLUE)
    machine.sh(end)
    machine.settle(BLUE)
    assert "NETLOOM" not in "".join(machine.rules())


def test_half_of_it_with_no_drop_is_swept(machine: Host) -> None:
    """Whatever of ours is there and not wanted goes: a lone chain, jumps in foreign chains."""
    machine.sh("iptables -N NETLOOM-FORWARD\niptables -N SITE")
    machine.sh("iptables -A SITE -j NETLOOM-FORWARD\niptables -A SITE -s 192.0.2.1 -j DROP")
    machine.settle(BLUE)
    assert "NETLOOM" not in "".join(machine.rules())
    assert "-A SITE -s 192.0.2.1/32 -j DROP" in machine.rules()


def test_a_table_of_nftables_is_left_to_whoever_wrote_it(machine: Host) -> None:
    """firewalld's, for one: it would be written anew without us, and says so in the status."""
    chain = "{ type filter hook forward priority 10; policy drop; }"
    machine.netns.run("nft", f"add table inet firewalld; add chain inet firewalld F {chain}")
    assert machine.read() == []


def test_a_single_address_as_a_pool_reads_back_as_it_was_written(machine: Host) -> None:
    machine.sh("iptables -P FORWARD DROP\nip6tables -P FORWARD DROP")
    lone = Network.parse({"name": "lone", "pools": ["10.9.0.1/32", "fd00:9::1/128"]})
    machine.settle(lone)
    assert machine.settle(lone) == []
    assert "-A NETLOOM-FORWARD -s 10.9.0.1/32 -j ACCEPT" in machine.rules()


def test_nothing_is_run_while_the_ruleset_stays_as_it_is_or_has_no_such_table(
    machine: Host, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = counting_nft(tmp_path, monkeypatch)
    machine.netns.run("/usr/sbin/nft", "add table inet site")
    assert machine.read() == []
    assert count() == 0
    machine.sh("iptables -P FORWARD DROP")
    for _ in range(100):
        assert machine.read() == [ForwardDrop(4, "FORWARD")]
    assert count() == 1


def test_other_rules_are_not_looked_at_however_many_they_are(
    machine: Host, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only chains that every forwarded packet comes through are listed, not the whole table."""
    machine.sh("iptables -P FORWARD DROP\niptables -N SITE\niptables -A FORWARD -j SITE")
    machine.sh("iptables -N PODS\niptables -A SITE -s 192.0.2.0/24 -j PODS")
    machine.sh("iptables -A PODS -j ACCEPT\niptables -N REST")
    machine.settle(BLUE)
    count = counting_nft(tmp_path, monkeypatch)
    there = machine.netns.call(Admissions().read)
    assert there == [ForwardDrop(4, "FORWARD"), Admission(4, "FORWARD", (POOL,))]
    assert count() == 3, "FORWARD, SITE and ours"


def test_the_chains_that_are_there_are_known_without_a_process(machine: Host) -> None:
    machine.netns.run("nft", "add table inet site; add chain inet site c; add table ip x")
    machine.sh("ip6tables -N SITE")
    found = machine.netns.call(nft.chains)
    assert found == {("inet", "site", "c"), ("ip6", "filter", "SITE")}


def test_a_write_that_fails_says_what_nft_said_and_leaves_all_as_it_was(machine: Host) -> None:
    machine.sh("iptables -P FORWARD DROP")
    before = machine.rules()
    wrong = Change(Verb.ADD, Admission(4, "NO-SUCH-CHAIN", (POOL,)))
    (outcome,) = machine.netns.call(lambda: machine.ours.apply([wrong]))
    assert "admission iptables" in str(outcome.error)
    assert machine.rules() == before


@pytest.fixture
def whole(machine: Host) -> Iterator[HostKernel]:
    kernel: HostKernel = machine.netns.call(HostKernel)
    yield kernel
    kernel.close()


def test_what_another_hand_does_to_iptables_is_news_and_other_tables_are_none(
    machine: Host, whole: HostKernel
) -> None:
    """The last change is one of our own table: what was heard until then is all there was."""
    events = machine.netns.call(whole.events)
    try:
        hear = _listener(machine, events.wait)
        assert "admission" in hear("iptables -P FORWARD DROP")
        assert "admission" in hear("ip6tables -N SITE")
        assert "admission" not in hear("nft add table inet filter")
        assert "admission" not in hear("nft add table ip site")
    finally:
        events.close()


def _listener(
    machine: Host, wait: Callable[[float | None], frozenset[str]]
) -> Callable[[str], frozenset[str]]:
    def hear(line: str) -> frozenset[str]:
        machine.sh(line)
        machine.sh("nft add table inet netloom\nnft delete table inet netloom")
        heard: frozenset[str] = frozenset()
        while "nft" not in heard:
            fresh = wait(60.0)
            assert fresh, "nothing was heard"
            heard |= fresh
        return heard

    return hear


def test_the_whole_kernel_writes_it_beside_our_table(machine: Host, whole: HostKernel) -> None:
    machine.sh("iptables -P FORWARD DROP")
    wanted = Admission(4, "FORWARD", (POOL,))
    link = Link("cni9", "bridge", alias="netloom:blue")
    changes = [Change(Verb.ADD, link), Change(Verb.ADD, wanted)]
    outcomes = machine.netns.call(lambda: whole.apply(changes))
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert wanted in machine.netns.call(lambda: whole.read(["admission"]))


def test_a_chain_that_nft_cannot_show_counts_as_it_was(
    machine: Host, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of ours is withdrawn because something failed: an nft without a word plays it."""
    machine.sh("iptables -P FORWARD DROP")
    machine.settle(BLUE)
    before = machine.read()
    front = tmp_path / "nft"
    front.write_text("#!/bin/sh\nexit 1\n")
    front.chmod(0o755)
    machine.sh("iptables -N SITE")
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")
        assert machine.read() == before
        gone = [Change(Verb.DELETE, obj) for obj in before if isinstance(obj, Admission)]
        (outcome,) = machine.netns.call(lambda: machine.ours.apply(gone))
        assert outcome.error is not None, "what cannot be looked at is not taken for gone"
    assert own(machine) == ["-A FORWARD -j NETLOOM-FORWARD", *RULES]


needs_legacy = pytest.mark.skipif(
    not shutil.which("iptables-legacy"), reason="needs the command iptables-legacy"
)


@needs_legacy
def test_tables_of_the_legacy_kind_are_served_as_well(machine: Host) -> None:
    legacy = "iptables-legacy"
    machine.sh(DOCKER.replace("iptables ", f"{legacy} "))
    machine.sh("ip6tables-legacy -P FORWARD DROP")
    before = machine.rules(legacy)
    assert machine.read() == [
        ForwardDrop(4, "DOCKER-USER", legacy=True),
        ForwardDrop(6, "FORWARD", legacy=True),
    ]
    assert len(machine.settle(BLUE)) == 2
    assert own(machine, legacy) == ["-A DOCKER-USER -j NETLOOM-FORWARD", *RULES]
    assert own(machine, "ip6tables-legacy") == ["-A FORWARD -j NETLOOM-FORWARD", *RULES6]
    assert machine.settle(BLUE) == []
    machine.sh(f"{legacy} -D NETLOOM-FORWARD 1\n{legacy} -D FORWARD -j DOCKER-USER")
    machine.settle(BLUE)
    assert own(machine, legacy) == ["-A FORWARD -j NETLOOM-FORWARD", *RULES]
    assert machine.settle(BLUE) == []
    machine.settle()
    machine.sh(f"{legacy} -I FORWARD -j DOCKER-USER")
    assert sorted(machine.rules(legacy)) == sorted(before)
    assert "NETLOOM" not in "".join(machine.rules("ip6tables-legacy"))


@needs_legacy
def test_looking_makes_no_table_where_there_was_none(machine: Host) -> None:
    names = "/proc/self/net/ip_tables_names"
    before = machine.netns.run("sh", "-c", f"cat {names} 2>/dev/null || true")
    assert machine.read() == []
    assert machine.netns.run("sh", "-c", f"cat {names} 2>/dev/null || true") == before == ""
