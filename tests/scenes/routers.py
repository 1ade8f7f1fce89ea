"""Routers nobody here wrote: FRR, GoBGP and a second BIRD, as a rack's router or as a reflector.

Each runs in the namespace of a lab's router, with its files in a folder of the test.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netloom.lab.place import CommandFailed, Place
from netloom.lab.waiting import wait_until

from .bgp_lab import document

ADDRESSES = ("192.168.26.254", "fd26::fe")
BEHIND = ("172.31.0.0/24", "fd31::/64")
BOX = ("172.31.0.9", "fd31::9")
HOSTS_AS = 64512
#: FRR runs as a user of its own, in /run/frr; the machine's own /run stays out of sight.
_OWN_RUN = """\
folder=$PWD; mount -t tmpfs tmpfs /run; mkdir /run/frr; mount --bind "$folder" /run/frr
exec "$0" "$@"
"""


def rack(hosts: int = 2) -> dict[str, Any]:
    """Return hosts of both families, a router ``tor`` on their segment, and ``box`` behind it."""
    pools = [
        {"cidr": "10.233.0.0/16", "blockSize": 26, "natOutgoing": False},
        {"cidr": "fd00:10:233::/112", "blockSize": 122, "natOutgoing": False},
    ]
    made = document(range(100, 100 + hosts), pools=pools)
    made["segments"] = [
        {"name": "lan", "subnets": ["192.168.26.0/24", "fd26::/64"]},
        {"name": "behind", "subnets": list(BEHIND)},
    ]
    for host in made["hosts"]:
        card = host["interfaces"][0]
        number = card["address"].rpartition(".")[2]
        card["addresses"] = [card.pop("address"), f"fd26::{number}"]
    tor = [
        {"name": "lan", "segment": "lan", "addresses": list(ADDRESSES)},
        {"name": "behind", "segment": "behind", "addresses": ["172.31.0.1", "fd31::1"]},
    ]
    card = {"name": "behind", "segment": "behind", "addresses": list(BOX)}
    made["routers"] = [
        {"name": "tor", "interfaces": tor},
        {"name": "box", "interfaces": [card], "gateways": ["172.31.0.1", "fd31::1"]},
    ]
    return made


@dataclass(frozen=True)
class Wanted:
    """What a router shall be: in which AS, with which neighbours; in the hosts' AS a reflector.

    ``more`` is a condition for what else a BIRD tells, ``words`` what its sessions have besides.
    """

    as_number: int
    neighbours: Sequence[str]
    password: str = ""
    more: str = "false"
    words: str = ""

    @property
    def reflects(self) -> bool:
        return self.as_number == HOSTS_AS


@dataclass
class Router:
    """One that runs. ``kill`` is kill -9 of all its processes; ``start`` begins anew."""

    place: Place
    folder: Path
    commands: Sequence[Sequence[str]]
    running: list[subprocess.Popen[str]] = field(default_factory=list)
    starts: int = 0

    def start(self) -> None:
        again = self.starts > 0
        self.starts += 1
        for argv in self.commands:
            if "zebra" in argv[0]:  # one that a killed zebra left is no sign of the next
                (self.folder / "zserv.api").unlink(missing_ok=True)
            log = (self.folder / f"{Path(argv[0]).name}.log").open("a")
            recovers = ["-r"] if again and "gobgpd" in argv[0] else []
            own = ["unshare", "-m", "--propagation", "private", "sh", "-ec", _OWN_RUN]
            self.running.append(
                self.place.popen([*own, *argv, *recovers], stdout=log, stderr=log, cwd=self.folder)
            )
            if "gobgpd" in argv[0]:
                _announce_by_gobgp(self.place)
            if "zebra" in argv[0]:
                socket = self.folder / "zserv.api"
                wait_until(socket.exists, deadline_s=120, what="zebra's socket")

    def follow(self) -> None:
        """See that the kernel has what the router has learned, where it does not do so itself."""
        if "gobgpd" in self.commands[0][0]:
            _follow_gobgp(self.place)

    def kill(self) -> None:
        for process in self.running:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait(60)
        self.running.clear()


def frr(folder: Path, wanted: Wanted) -> list[list[str]]:
    lines = [
        f"router bgp {wanted.as_number}",
        f" bgp router-id {ADDRESSES[0]}",
        " no bgp ebgp-requires-policy",
        " no bgp default ipv4-unicast",
        " bgp graceful-restart",
        " bgp graceful-restart preserve-fw-state",
        " timers bgp 30 90",
        # It would say that it has told all when those who are back have, and not all its peers.
        " update-delay 60",
    ]
    for each in wanted.neighbours:
        lines.append(f" neighbor {each} remote-as {HOSTS_AS}")
        lines.append(f" neighbor {each} timers connect 1")
        if wanted.password:
            lines.append(f" neighbor {each} password {wanted.password}")
    for family, cidr in zip((4, 6), BEHIND, strict=True):
        lines.append(f" address-family ipv{family} unicast")
        lines.append(f"  network {cidr}")
        for each in _of(wanted.neighbours, family):
            lines.append(f"  neighbor {each} activate")
            if wanted.reflects:
                lines.append(f"  neighbor {each} route-reflector-client")
        lines.append(" exit-address-family")
    (folder / "bgpd.conf").write_text("\n".join([*lines, ""]))
    if wanted.reflects:
        # It forwards nothing itself, and with zebra it would be too early again: it says that it
        # has told all before zebra has said of any next hop that it can be reached.
        return [[*_daemon(folder, "bgpd"), "--no_zebra"]]
    return [_zebra(folder), _daemon(folder, "bgpd")]


def _zebra(folder: Path) -> list[str]:
    (folder / "zebra.conf").write_text("ip forwarding\nipv6 forwarding\n")
    return [*_daemon(folder, "zebra"), "-K", "20"]


def _daemon(folder: Path, name: str) -> list[str]:
    shutil.chown(folder, "frr", "frr")
    return [f"/usr/lib/frr/{name}", "-f", f"/run/frr/{name}.conf", "-P0"]


def gobgp(folder: Path, wanted: Wanted) -> list[list[str]]:
    lines = [
        "[global.config]",
        f"as = {wanted.as_number}",
        f'router-id = "{ADDRESSES[0]}"',
    ]
    for each in wanted.neighbours:
        family = ipaddress.ip_address(each).version
        lines += [
            "[[neighbors]]",
            "[neighbors.config]",
            f'neighbor-address = "{each}"',
            f"peer-as = {HOSTS_AS}",
            *([f'auth-password = "{wanted.password}"'] if wanted.password else []),
            "[neighbors.timers.config]",
            "hold-time = 90",
            "keepalive-interval = 30",
            "connect-retry = 1",
            "[neighbors.graceful-restart.config]",
            "enabled = true",
            "restart-time = 120",
            "[[neighbors.afi-safis]]",
            "[neighbors.afi-safis.config]",
            f'afi-safi-name = "ipv{family}-unicast"',
            "[neighbors.afi-safis.mp-graceful-restart.config]",
            "enabled = true",
        ]
        if wanted.reflects:
            lines += [
                "[neighbors.route-reflector.config]",
                "route-reflector-client = true",
                f'route-reflector-cluster-id = "{ADDRESSES[0]}"',
            ]
    (folder / "gobgpd.toml").write_text("\n".join([*lines, ""]))
    return [["/usr/bin/gobgpd", "-f", "gobgpd.toml", "--api-hosts=127.0.0.1:50051"]]


def _announce_by_gobgp(place: Place) -> None:
    for family, cidr, address in zip((4, 6), BEHIND, ADDRESSES, strict=True):
        argv = ["gobgp", "global", "rib", "add", "-a", f"ipv{family}", cidr, "nexthop", address]
        wait_until(lambda: _succeeds(place, argv), deadline_s=120, what="gobgpd")  # noqa: B023


def _follow_gobgp(place: Place) -> None:
    """Give the kernel what GoBGP has learned: its way of doing so does not know Debian's zebra."""
    for family in (4, 6):
        argv = ["gobgp", "global", "rib", "-a", f"ipv{family}", "-j"]
        said = wait_until(
            lambda: _answer(place, argv),  # noqa: B023
            deadline_s=120,
            what="gobgp's answer",
        )
        table = json.loads(said)
        for cidr, paths in table.items():
            best = next((path for path in paths if path.get("best")), None)
            hop = next((a["nexthop"] for a in (best or {}).get("attrs", ()) if "nexthop" in a), "")
            if cidr not in BEHIND and hop:
                place.exec(["ip", f"-{family}", "route", "replace", cidr, "via", hop])


def _answer(place: Place, argv: Sequence[str]) -> str | None:
    """Return what a command said, None when it failed."""
    try:
        return place.exec(argv)
    except CommandFailed:
        return None


def _succeeds(place: Place, argv: Sequence[str]) -> bool:
    return _answer(place, argv) is not None


def bird(folder: Path, wanted: Wanted) -> list[list[str]]:
    parts = [f"router id {ADDRESSES[0]};", "graceful restart wait 60;", "protocol device {}"]
    parts.append("protocol direct { ipv4; ipv6; }")
    for family in (4, 6):
        parts.append(
            f"protocol kernel {{ learn; persist; "
            f"ipv{family} {{ export where source = RTS_BGP; }}; }}"
        )
    for place, each in enumerate(wanted.neighbours):
        family = ipaddress.ip_address(each).version
        behind = BEHIND[0] if family == 4 else BEHIND[1]
        parts.append(
            f"protocol bgp p{place} {{ local {ADDRESSES[0 if family == 4 else 1]} as "
            f"{wanted.as_number}; neighbor {each} as {HOSTS_AS}; hold time 90; "
            "connect delay time 1; connect retry time 1; error wait time 1,2; graceful restart on; "
            + wanted.words
            + ("rr client; " if wanted.reflects else "")
            + (f'password "{wanted.password}"; ' if wanted.password else "")
            + f"ipv{family} {{ import all; export where source = RTS_BGP || net = {behind} || "
            f"{wanted.more}; }}; }}"
        )
    (folder / "bird.conf").write_text("\n".join([*parts, ""]))
    return [["/usr/sbin/bird", "-f", "-c", "bird.conf", "-s", "bird.ctl", "-P", "pid", "-R"]]


MAKERS: dict[str, Callable[[Path, Wanted], list[list[str]]]] = {
    "frr": frr,
    "gobgp": gobgp,
    "bird": bird,
}


@contextmanager
def running(name: str, place: Place, folder: Path, wanted: Wanted) -> Iterator[Router]:
    """Run the router ``name`` in ``place``; it and its routes are gone afterwards."""
    folder.mkdir(exist_ok=True)
    router = Router(place, folder, MAKERS[name](folder, wanted))
    try:
        router.start()
        yield router
    finally:
        router.kill()


def _of(addresses: Sequence[str], family: int) -> list[str]:
    return [each for each in addresses if ipaddress.ip_address(each).version == family]
