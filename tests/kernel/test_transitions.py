"""From any definition of a network to any other on a real kernel: one step, and nothing is left."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from tests.unit.views import block, host, network, view

from netloom.core.desired import Memory, desired
from netloom.core.underlay import facts
from netloom.kernel.compose import HostKernel
from netloom.kernel.namespaces import in_namespace
from netloom.model.kernel import KINDS, KernelObject
from netloom.reconcile.loop import Actual, Reconciler

POOLS = ("10.244.0.0/16", "fd00:10::/48")
NETWORKS = {
    "vxlan": network("blue", *POOLS),
    "renamed": network("blue", *POOLS, backend={"type": "vxlan", "device": "tun0"}),
    "other vni": network("blue", *POOLS, backend={"type": "vxlan", "vni": 7}),
    "direct": network("blue", *POOLS, backend={"type": "vxlan", "directRouting": True}),
    "ipv4": network("blue", POOLS[0]),
    "ipv6": network("blue", POOLS[1]),
    "host-gw": network("blue", *POOLS, backend="host-gw"),
    "routed": network("blue", *POOLS, backend="host-gw", attachment="routed"),
}
HOSTS = [host("h2", "192.168.31.63", "fd31::63"), host("h3", "192.168.30.72")]
BLOCKS = [
    each
    for number in (1, 2, 3)
    for each in (
        block(f"10.244.{number}.0/24", f"h{number}"),
        block(f"fd00:10:0:{number}::/64", f"h{number}"),
    )
]
#: A walk that takes every step that ever went wrong, there and back.
WALK = ("vxlan", "host-gw", "vxlan", "ipv4", "routed", "vxlan", "renamed", "direct", "other vni")
WALK += ("ipv6", "routed", "ipv4", "ipv6", "host-gw", "renamed")


def base(actual: Actual) -> list[KernelObject]:
    return [obj for kind in ("link", "address", "route") for obj in actual[kind].values()]


@pytest.mark.parametrize("damage", ["", "link del flannel.1", "link set ens33 down"])
def test_a_network_changes_into_another_in_one_step(two_hosts, damage):
    """A second plan is empty, no change stays refused, and in the end nothing of ours is left."""
    name, path = two_hosts[0].name, two_hosts[0].path

    def ip(command: str, *, check: bool = True) -> None:
        subprocess.run(["ip", "-n", name, *command.split()], check=check, capture_output=True)

    def harm() -> None:
        ip(damage, check=False)
        ip("link set ens33 up")
        ip("-6 addr replace fd31::62/64 dev ens33 nodad")

    def run() -> None:
        kernel = HostKernel()
        try:
            walk(Reconciler(kernel, time.monotonic), harm if damage else lambda: None)
        finally:
            kernel.close()

    in_namespace(path, run)


def walk(reconciler: Reconciler, harm: Callable[[], None]) -> None:
    memory = Memory()
    own = facts(base(reconciler.actual()))
    before = {obj.key for obj in base(reconciler.actual())}
    for former, name in pairwise(("", *WALK)):
        wanted = view([NETWORKS[name]], HOSTS, BLOCKS, own=own, admitted=["blue"])
        reconciler.step(lambda _, wanted=wanted: desired(wanted, memory))
        assert not reconciler.failing, f"{former} → {name}"
        _, plan = reconciler.preview(lambda _, wanted=wanted: desired(wanted, memory))
        assert not plan, f"{former} → {name}"
        harm()
        reconciler.mark(KINDS)
    empty = view([], HOSTS, BLOCKS, own=own)
    reconciler.step(lambda _: desired(empty, memory))
    reconciler.mark(KINDS)
    left = {obj.key for obj in base(reconciler.actual())}
    assert left <= before
