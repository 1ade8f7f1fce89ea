"""A BGPPeer that is wrong about a host of ours is refused at its field, before it is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netloom.model import keys
from netloom.model.addr import parse_address
from netloom.model.host import Host

Apply = Callable[..., Any]
PEER = """\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: wrong}
spec:
  peerIP: 192.168.26.1
  asNumber: 64512
"""
NODE = """\
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: h1}
spec: {bgp: {asNumber: 64600}}
"""


@pytest.fixture
def apply(netloom: Callable[..., Any], put: Callable[[str, Any], int], tmp_path: Path) -> Apply:
    """Apply a text, in a cluster of two hosts."""
    for number in (1, 2):
        address = parse_address(f"192.168.26.{number}", "")
        put(keys.host_key(f"id{number}"), Host(f"id{number}", f"h{number}", address).render())

    def call(text: str) -> Any:
        path = tmp_path / "peer.yaml"
        path.write_text(text)
        return netloom("apply", "-f", str(path))

    return call


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{PEER}  node: h1\n", "peer.yaml:5: spec.peerIP: 192.168.26.1 is h1's own address"),
        (
            PEER.replace("64512", "65000"),
            "peer.yaml:6: spec.asNumber: 192.168.26.1 is host h1, of AS 64512 and not 65000",
        ),
        (
            PEER.replace("26.1", "26.1:1790"),
            "peer.yaml:5: spec.peerIP: 192.168.26.1 is host h1, which listens at port 179 and not "
            "1790",
        ),
        (
            PEER.replace("192.168.26.1", "fe80::1"),
            "peer.yaml:5: spec.peerIP: fe80::1 is link-local, and means another machine on each "
            "interface",
        ),
        (
            PEER + NODE,
            "peer.yaml:6: spec.asNumber: 192.168.26.1 is host h1, of AS 64600 and not 64512",
        ),
    ],
)
def test_what_is_wrong_about_a_host_is_refused_and_nothing_is_written(
    apply: Apply, netloom: Callable[..., Any], text: str, words: str
) -> None:
    said = apply(text)
    assert said.code == 3
    assert words in said.err
    assert netloom("get", "bgppeers", "-o", "name").out == ""


@pytest.mark.parametrize(
    "text",
    [
        PEER,
        f"{PEER}  node: h2\n",
        PEER.replace("26.1", "26.254").replace("64512", "65000"),
        PEER.replace("64512", "64600") + NODE,
    ],
)
def test_what_is_right_is_written_whatever_the_order_of_documents(apply: Apply, text: str) -> None:
    said = apply(text)
    assert (said.code, said.err) == (0, "")


def test_what_turns_wrong_by_another_change_is_noted(apply: Apply) -> None:
    """The change may be the first of two steps: it is made, and the second one is told."""
    assert apply(PEER).code == 0
    said = apply(NODE)
    assert said.code == 0
    assert said.err == (
        "note: BGPPeer(wrong): spec.asNumber: 192.168.26.1 is host h1, of AS 64600 and not 64512; "
        "write asNumber: 64600\n"
    )
    assert apply(NODE).err == "", "once"


def test_a_patch_is_held_against_the_hosts_too(apply: Apply, netloom: Callable[..., Any]) -> None:
    assert apply(PEER).code == 0
    said = netloom("patch", "bgppeer", "wrong", "-p", '{"spec": {"asNumber": 65000}}')
    assert said.code == 3
    assert "spec.asNumber: 192.168.26.1 is host h1, of AS 64512 and not 65000" in said.err
