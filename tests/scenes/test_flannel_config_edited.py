"""flannel's configuration is edited in etcd while containers talk: hosts move, nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.scenes.test_flanneld_command import PREFIX, lab, problems, ready, start, until
from tests.scenes.test_switching import lab_up_router

from netloom.lab.host import LabHost
from netloom.lab.lab import Lab
from netloom.lab.traffic import Pings
from netloom.model.datastore import Put, Transaction

__all__ = ["lab"]
NETWORK = {"Network": "10.244.0.0/16"}


def edit(lab: Lab, backend: dict[str, object]) -> None:
    store = lab.store()
    value = json.dumps({**NETWORK, "Backend": backend}).encode()
    store.commit(Transaction([Put(f"{PREFIX}/config", value)]))
    store.close()


def moved(lab: Lab) -> bool:
    """Tell whether the note of the backend in use says that none retires any more."""
    store = lab.store()
    entry = store.get(f"{PREFIX}/netloom/backend")
    store.close()
    return entry is not None and not json.loads(entry.value)["retiring"]


def devices(host: LabHost) -> set[str]:
    links = host.json(["ip", "-j", "link", "show"])
    return {link["ifname"] for link in links if link["ifname"].startswith("flannel")}


def test_an_edited_backend_moves_the_hosts_without_losing_a_packet(
    lab: Lab, tmp_path: Path
) -> None:
    edit(lab, {"Type": "udp"})
    for host in lab.hosts:
        start(lab, host, tmp_path)
    for host in lab.hosts:
        until(lambda: ready(host), f"{host.name} to be ready")  # noqa: B023
    first, second = lab.hosts
    near, far = first.run("a"), second.run("b")
    with Pings(near, far.address, 0.005) as there, Pings(far, near.address, 0.005) as back:
        for backend, left in (
            ({"Type": "vxlan"}, {"flannel.1"}),
            ({"Type": "host-gw"}, set()),
            ({"Type": "vxlan", "VNI": 7}, {"flannel.7"}),
            ({"Type": "udp"}, {"flannel0"}),
        ):
            edit(lab, backend)
            for host in lab.hosts:
                until(lambda: devices(host) == left, f"{host.name} to have {left}")  # noqa: B023
            until(lambda: moved(lab), "the move's end")
    assert (there.lost, back.lost) == (0, 0)


@pytest.mark.parametrize("text", ['{"Network": "10.244.0.0/16", "Backend": {"Type": "vx', ""])
def test_a_configuration_that_turns_bad_is_told_and_moves_nothing(
    lab: Lab, tmp_path: Path, text: str
) -> None:
    edit(lab, {"Type": "vxlan"})
    for host in lab.hosts:
        start(lab, host, tmp_path)
    for host in lab.hosts:
        until(lambda: ready(host), f"{host.name} to be ready")  # noqa: B023
    first, second = lab.hosts
    near, far = first.run("a"), second.run("b")
    with Pings(near, far.address) as pings:
        store = lab.store()
        store.commit(Transaction([Put(f"{PREFIX}/config", text.encode())]))
        store.close()
        until(lambda: f"{PREFIX}/config: not JSON" in str(first.status()["problems"]), "the error")
    assert pings.lost == 0


def test_an_edit_that_cannot_work_leaves_the_old_way_and_each_host_says_so(
    lab_up: Callable[..., Lab], tmp_path: Path
) -> None:
    """host-gw between hosts with a router in between: nobody was asked before it was written."""
    lab = lab_up_router(lab_up, (), run_agents=False, etcd_members=1)
    edit(lab, {"Type": "vxlan"})
    for host in lab.hosts:
        start(lab, host, tmp_path)
    for host in lab.hosts:
        until(lambda: ready(host), f"{host.name} to be ready")  # noqa: B023
    first, second = lab.hosts
    near, far = first.run("a"), second.run("b")
    until(lambda: near.pings(far.address), "a to reach b")
    with Pings(near, far.address, 0.005) as there, Pings(far, near.address, 0.005) as back:
        edit(lab, {"Type": "host-gw"})
        for host in lab.hosts:
            until(lambda: "on-link" in problems(host), f"{host.name} to say so")  # noqa: B023
        assert not moved(lab)
        for host, other in ((first, second), (second, first)):
            (route,) = host.json(["ip", "-j", "route", "show", *other.blocks()])
            assert route["dev"] == "flannel.1"
        edit(lab, {"Type": "vxlan"})
        for host in lab.hosts:
            until(lambda: not problems(host), f"{host.name} to be well")  # noqa: B023
        until(lambda: moved(lab), "the move's end")
    assert (there.lost, back.lost) == (0, 0)
