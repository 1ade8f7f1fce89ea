"""subnet.env follows the host's block, and stays when there is nothing better to say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.unit.views import block, host, network, view

from netloom.agent.subnet_file import SubnetFile
from netloom.core.desired import Desired, desired
from netloom.model.host import Block
from netloom.model.network import Network

BLUE = network("blue", "10.244.0.0/16")


def desired_of(*blocks: Block, networks: tuple[Network, ...] = (BLUE,)) -> Desired:
    return desired(view(list(networks), [host("h2", "192.168.31.63")], list(blocks)))


OWN = block("10.244.1.0/24", "h1")


def test_the_file_says_block_mtu_and_masquerading(tmp_path: Path):
    path = tmp_path / "flannel" / "subnet.env"
    SubnetFile(path, "blue").update(desired_of(OWN))
    assert path.read_text() == (
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n"
        "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
    )


def test_with_two_families_nothing_is_said_before_both_blocks_are_there(tmp_path: Path):
    path = tmp_path / "subnet.env"
    pools = ["10.244.0.0/16", {"cidr": "fd00:10::/48", "natOutgoing": False}]
    dual = network("blue", *pools)  # type: ignore[arg-type]
    writer = SubnetFile(path, "blue")
    writer.update(desired_of(OWN, networks=(dual,)))
    assert not path.exists()
    writer.update(desired_of(OWN, block("fd00:10:0:1::/64", "h1"), networks=(dual,)))
    assert "FLANNEL_IPV6_SUBNET=fd00:10:0:1::1/64\n" in path.read_text()


def test_it_is_written_when_it_changes_or_is_lost_and_only_then(tmp_path: Path):
    path = tmp_path / "subnet.env"
    writer = SubnetFile(path, "blue")
    writer.update(desired_of(OWN))
    first = path.stat().st_ino
    writer.update(desired_of(OWN))
    assert path.stat().st_ino == first
    writer.update(desired_of())  # the block is gone for a moment: what was said stays
    assert "10.244.1.1/24" in path.read_text()
    path.unlink()
    writer.update(desired_of(OWN))
    assert "10.244.1.1/24" in path.read_text()
    writer.update(desired_of(block("10.244.9.0/24", "h1")))
    assert "10.244.9.1/24" in path.read_text()


def test_of_several_blocks_the_one_that_is_not_drained_is_told_with_its_pool(tmp_path: Path):
    path = tmp_path / "subnet.env"
    pools = [{"cidr": "10.244.0.0/16", "disabled": True}, {"cidr": "10.245.0.0/16"}]
    moved = network("blue", *pools)  # type: ignore[arg-type]
    SubnetFile(path, "blue").update(
        desired_of(OWN, block("10.245.3.0/24", "h1"), networks=(moved,))
    )
    assert path.read_text().startswith(
        "FLANNEL_NETWORK=10.245.0.0/16\nFLANNEL_SUBNET=10.245.3.1/24\n"
    )


def test_a_block_that_the_host_is_to_leave_or_that_lies_in_no_pool_is_not_told(tmp_path: Path):
    path = tmp_path / "subnet.env"
    pools = [{"cidr": "10.244.0.0/16", "nodeSelector": "rack == '1'"}, {"cidr": "10.245.0.0/16"}]
    racks = network("blue", *pools)  # type: ignore[arg-type]
    held = desired_of(
        block("10.2.0.0/24", "h1"), OWN, block("10.245.3.0/24", "h1"), networks=(racks,)
    )
    writer = SubnetFile(path, "blue")
    for labels, subnet in (
        ({"rack": "1"}, "10.244.1.1/24"),
        ({"rack": "2"}, "10.245.3.1/24"),
        (None, "10.244.1.1/24"),
    ):
        writer.update(held, labels)
        assert f"FLANNEL_SUBNET={subnet}\n" in path.read_text()


def test_an_address_that_is_borrowed_is_no_subnet(tmp_path: Path):
    path = tmp_path / "subnet.env"
    loan = replace(block("10.244.0.7/32", "h1"), lender="h2")
    writer = SubnetFile(path, "blue")
    writer.update(desired_of(loan))
    assert not path.exists()
    writer.update(desired_of(loan, OWN))
    assert "FLANNEL_SUBNET=10.244.1.1/24\n" in path.read_text()


def test_without_a_network_of_the_name_the_only_one_that_deals_a_block_per_host_is_meant(
    tmp_path: Path,
):
    path = tmp_path / "subnet.env"
    demand = network(
        "red", "10.9.0.0/16", addressing="on-demand", backend="host-gw", attachment="routed"
    )
    SubnetFile(path, "default").update(desired_of(OWN, networks=(BLUE, demand)))
    assert "FLANNEL_NETWORK=10.244.0.0/16" in path.read_text()


def test_a_file_that_cannot_be_written_is_a_problem_until_it_can(tmp_path: Path):
    (tmp_path / "f").write_text("")
    writer = SubnetFile(tmp_path / "f" / "subnet.env", "blue")
    writer.update(desired_of(OWN))
    assert str(tmp_path / "f" / "subnet.env") in writer.problems[0].text
    (tmp_path / "f").unlink()
    writer.update(desired_of(OWN))
    assert writer.problems == ()
