"""``can-reach`` with a host's name: asked of the system while agents run, kept when nobody answers.

The hosts have an /etc of their own, in a mount namespace: a file of hosts that the test writes, and
a name server that never answers.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from netloom.lab.documents import DEFAULT_NETWORK, load_document
from netloom.lab.host import LabHost
from netloom.lab.lab import Lab
from netloom.lab.waiting import wait_until

LabUp = Callable[..., Lab]
GATEWAY = "gateway.example.org"
FRONT, BACK = "192.168.26.71 on ens32", "192.168.30.71 on ens33"
PATIENCE_S = 90.0
_OWN_ETC = """
mount --bind "$0/hosts" /etc/hosts
mount --bind "$0/resolv.conf" /etc/resolv.conf
exec "$@"
"""


class NamedHost:
    """A host whose agent finds names in a file of the test's."""

    def __init__(self, host: LabHost, folder: Path) -> None:
        self.host = host
        self.folder = folder
        self.tell("")
        silent = "nameserver 192.168.26.250\noptions timeout:1 attempts:1\n"
        (folder / "resolv.conf").write_text(silent)

    def tell(self, address: str) -> None:
        """Give the name an address, in place: what is mounted is this very file."""
        (self.folder / "hosts").write_text(f"{address} {GATEWAY}\n" if address else "\n")

    def start(self) -> None:
        own_etc = ["unshare", "-m", "--propagation", "private", "sh", "-ec", _OWN_ETC]
        run = ["netloom", "node", "run", "--log-dir", str(self.folder)]
        method = f"--ip-autodetection-method=can-reach={GATEWAY}"
        asking = ["env", "NETLOOM_AUDIT_INTERVAL=1"]
        self.host.exec([*asking, *own_etc, str(self.folder), *run, method])

    def kill(self) -> None:
        pid = self.host.status()["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), deadline_s=PATIENCE_S, what="the end")

    def uses(self, place: str, *words: str) -> None:
        """Wait for an underlay, and words of the reason for it."""
        wait_until(
            lambda: (
                self.host.status()["underlay"].get("ipv4") == place
                and all(word in self.host.status()["underlay_reason"] for word in words)
            ),
            deadline_s=PATIENCE_S,
            what=f"{place} because of {words}",
        )


@pytest.fixture
def named(lab_up: LabUp, tmp_path: Path) -> NamedHost:
    document = load_document("scene3")
    del document["hosts"][1]["blocks"]
    lab = lab_up({**document, "networks": [dict(DEFAULT_NETWORK)]}, run_agents=False)
    return NamedHost(lab.host("vms71"), tmp_path)


def test_a_name_is_followed_and_its_last_address_kept_when_nobody_knows_it(
    named: NamedHost,
) -> None:
    host = named.host
    named.tell("192.168.26.1")
    named.start()
    named.uses(FRONT, f"by can-reach {GATEWAY} (192.168.26.1)")
    named.tell("192.168.30.1")
    named.uses(BACK, "(192.168.30.1)")
    wait_until(lambda: bool(host.status()["well"]), deadline_s=PATIENCE_S, what="all well")

    named.tell("")
    named.uses(BACK, "192.168.30.1 as last known: Temporary failure in name resolution")
    told = "what was last known is used: 192.168.30.1"
    wait_until(
        lambda: [told in problem["text"] for problem in host.status()["problems"]] == [True],
        deadline_s=PATIENCE_S,
        what="the problem, and no other",
    )
    assert "as last known" in host.exec(["netloom", "node", "status"])
    shown = host.exec(["netloom", "host", "show", "vms71"]).splitlines()
    rows = {line.split()[0]: line for line in shown if line.startswith("ens3")}
    assert "as last known: Temporary failure" in rows["ens33"]
    assert f"not chosen by IPv4: can-reach {GATEWAY}" in rows["ens32"]

    named.kill()
    named.start()
    named.uses(BACK, "192.168.30.1 as last known")
    named.tell("192.168.26.1")
    named.uses(FRONT, "(192.168.26.1)")
    wait_until(lambda: bool(host.status()["well"]), deadline_s=PATIENCE_S, what="all well again")


def test_a_name_that_nobody_knows_moves_nothing_and_is_told(named: NamedHost) -> None:
    host = named.host
    named.tell("192.168.26.1")
    named.start()
    named.uses(FRONT)
    method = "netloom/ip-autodetection-method"
    patch = f'{{"metadata": {{"annotations": {{"{method}": "can-reach=nosuch.example.org"}}}}}}'
    host.exec(["netloom", "patch", "node", "vms71", "-p", patch])
    wait_until(
        lambda: any(
            "can-reach 'nosuch.example.org' (Temporary failure in name resolution)" in p["text"]
            for p in host.status()["problems"]
        ),
        deadline_s=PATIENCE_S,
        what="the problem",
    )
    named.uses(FRONT)
