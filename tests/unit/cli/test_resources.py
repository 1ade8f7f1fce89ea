"""The verbs on resources, on a real store: what calicoctl's users type, and what goes wrong."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netloom.model.keys import host_key, resource_key

Netloom = Callable[..., Any]

PEER = """\
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata:
  name: tor
spec:
  peerIP: 192.0.2.1
  asNumber: 64513
"""
TWO = f"""\
{PEER}---
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: {{name: shop}}
spec: {{nets: [10.0.0.0/8, 192.0.2.1]}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "resources.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_what_was_applied_is_got_and_applied_again(
    netloom: Netloom, file: Callable[[str], str]
) -> None:
    said = netloom("apply", "-f", file(TWO))
    assert said.out.splitlines() == [
        "Successfully applied 1 'BGPPeer' resource(s)",
        "Successfully applied 1 'NetworkSet' resource(s)",
    ]
    got = netloom("get", "bgppeer", "tor", "-o", "yaml").out
    assert netloom("apply", "-f", file(got)).code == 0
    again = netloom("get", "bgppeer", "tor", "-o", "json").data
    assert again["spec"] == {"peerIP": "192.0.2.1", "asNumber": 64513}
    assert again["metadata"]["uid"] in got


def test_the_table_is_that_of_a_tabwriter(netloom: Netloom, file: Callable[[str], str]) -> None:
    netloom("apply", "-f", file(TWO))
    assert netloom("get", "bgppeers").out == (
        "NAME   PEERIP      NODE       ASN     \ntor    192.0.2.1   (global)   64513   \n\n"
    )
    assert netloom("get", "networkset", "-o", "wide").out == (
        "NAMESPACE   NAME   NETS                   \ndefault     shop   10.0.0.0/8,192.0.2.1   \n\n"
    )
    assert netloom("get", "bgppeers", "-o", "custom-columns=ASN,NAME").out == (
        "ASN     NAME   \n64513   tor    \n\n"
    )
    assert netloom("get", "bgpfilters").out.split() == [
        "NAME",
        "NUMEXPORTV4",
        "NUMIMPORTV4",
        "NUMEXPORTV6",
        "NUMIMPORTV6",
    ]


def test_of_several_documents_none_is_written_when_one_is_wrong(
    netloom: Netloom, file: Callable[[str], str]
) -> None:
    said = netloom("apply", "-f", file(TWO.replace("10.0.0.0/8", "10.0.0.1/8")))
    assert said.code == 3
    assert ":12: spec.nets[0]: '10.0.0.1/8'" in said.err
    assert "did you mean 10.0.0.0/8?" in said.err
    netloom("create", "-f", file(PEER.replace("tor", "other")))
    assert "tor" not in netloom("get", "bgppeers").out.replace("other", "")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (PEER.replace("64513", "4294967296"), 7, "is not an AS number"),
        (PEER.replace("peerIP", "peerIp"), 6, "did you mean 'peerIP'?"),
        (PEER.replace("BGPPeer", "BGPPeers"), 2, "did you mean 'BGPPeer'?"),
        (PEER.replace("/v3", "/v4"), 1, "projectcalico.org/v3"),
        (PEER.replace("name: tor", "name: To_r"), 4, "is not a valid name"),
        (PEER.replace("  asNumber: 64513", ""), 5, "say in which AS 192.0.2.1 is"),
        (PEER.replace("spec:", "spec: 7\nspek:"), 5, "is not an object"),
        (PEER + "---\n" + PEER, 12, "stands in"),
    ],
)
def test_an_error_names_line_field_and_remedy(
    netloom: Netloom, file: Callable[[str], str], text: str, line: int, words: str
) -> None:
    said = netloom("apply", "-f", file(text))
    assert said.code == 3
    assert f"resources.yaml:{line}:" in said.err
    assert words in said.err


def test_what_only_looks_like_a_number_stays_a_text(
    netloom: Netloom, file: Callable[[str], str]
) -> None:
    """YAML 1.1 reads 65001:10 as a number of minutes; the tools of Kubernetes do not."""
    text = """\
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec:
  communities: [{name: blue, value: 65001:10}]
"""
    assert netloom("apply", "-f", file(text)).code == 0
    got = netloom("get", "bgpconfig", "default", "-o", "json").data
    assert got["spec"]["communities"] == [{"name": "blue", "value": "65001:10"}]


def test_a_replacement_of_an_old_version_is_refused(
    netloom: Netloom, file: Callable[[str], str]
) -> None:
    netloom("apply", "-f", file(PEER))
    old = netloom("get", "bgppeer", "tor", "-o", "yaml").out
    assert netloom("replace", "-f", file(old.replace("64513", "64514"))).code == 0
    said = netloom("replace", "-f", file(old.replace("64513", "64515")))
    assert said.code == 4
    assert "somebody has changed it since" in said.err
    assert netloom("get", "bgppeer", "tor", "-o", "json").data["spec"]["asNumber"] == 64514


def test_create_wants_it_absent_and_replace_wants_it_there(
    netloom: Netloom, file: Callable[[str], str]
) -> None:
    netloom("create", "-f", file(TWO))
    assert netloom("create", "-f", file(PEER)).code == 4
    assert netloom("create", "--skip-exists", "-f", file(PEER)).out == "Nothing to do\n"
    said = netloom("replace", "-f", file(PEER.replace("tor", "spine")))
    assert (said.code, "does not exist: BGPPeer(spine)" in said.err) == (3, True)


def test_a_patch_is_merged_and_checked(netloom: Netloom, file: Callable[[str], str]) -> None:
    netloom("apply", "-f", file(PEER))
    assert netloom("patch", "bgppeer", "tor", "-p", '{"spec": {"asNumber": 64514}}').code == 0
    assert netloom("patch", "bgppeer", "tor", "-p", '{"spec": {"asNumber": 0}}').code == 3
    assert netloom("patch", "bgppeer", "tor", "-p", '{"metadata": {"name": "x"}}').code == 3
    assert netloom("patch", "bgppeer", "tor", "-p", "[]").code == 3
    assert netloom("get", "bgppeer", "tor", "-o", "json").data["spec"] == {
        "peerIP": "192.0.2.1",
        "asNumber": 64514,
    }


def test_labels_are_set_kept_and_removed(netloom: Netloom, file: Callable[[str], str]) -> None:
    netloom("apply", "-f", file(PEER))
    assert netloom("label", "bgppeer", "tor", "rack=1", "row=b").code == 0
    assert netloom("label", "bgppeer", "tor", "rack=2").code == 4
    assert netloom("label", "bgppeer", "tor", "rack=2", "--overwrite").code == 0
    assert netloom("label", "bgppeer", "tor", "row", "--remove").code == 0
    got = netloom("get", "bgppeer", "tor", "-o", "json").data
    assert got["metadata"]["labels"] == {"rack": "2"}


def test_delete_says_what_is_not_there(netloom: Netloom, file: Callable[[str], str]) -> None:
    netloom("apply", "-f", file(TWO))
    assert netloom("delete", "bgppeer", "tor", "nobody").code == 3
    assert netloom("get", "bgppeer", "tor").code == 0, "nothing is half done"
    assert netloom("delete", "-f", file(TWO)).code == 0
    assert netloom("delete", "bgppeer", "tor").code == 3
    assert netloom("delete", "--skip-not-exists", "bgppeer", "tor").code == 0


def test_a_dry_run_checks_and_writes_nothing(
    netloom: Netloom, file: Callable[[str], str], tmp_path: Path
) -> None:
    assert netloom("apply", "--dry-run", "-f", file(PEER)).code == 6, "there is no store to ask"
    assert not (tmp_path / "cluster.db").exists()
    netloom("apply", "-f", file(PEER.replace("tor", "spine")))
    assert "would be applied" in netloom("apply", "--dry-run", "-f", file(PEER)).out
    assert netloom("get", "bgppeer", "tor").code == 3


def test_what_has_no_effect_is_said_to_who_writes_it(
    netloom: Netloom, file: Callable[[str], str]
) -> None:
    text = """\
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {bpfEnabled: true, ipipEnabled: true}
"""
    said = netloom("apply", "-f", file(text))
    assert said.code == 0
    assert said.err == "note: FelixConfiguration(default): spec.bpfEnabled has no effect here\n"


def test_documents_come_from_standard_input_and_from_lists(
    netloom: Netloom, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [
        {
            "apiVersion": "projectcalico.org/v3",
            "kind": "BGPPeer",
            "metadata": {"name": n},
            "spec": {"peerSelector": "has(rr)"},
        }
        for n in ("a", "b")
    ]
    listed = json.dumps({"kind": "List", "apiVersion": "v1", "items": items})
    monkeypatch.setattr("sys.stdin", io.StringIO(listed))
    assert "applied 2 'BGPPeer'" in netloom("apply", "-f", "-").out


@pytest.mark.parametrize("form", ["jsn", "go-template={{.}}", "custom-columns=NAME,ASM"])
def test_an_unknown_form_of_output_is_refused(
    netloom: Netloom, file: Callable[[str], str], form: str
) -> None:
    netloom("apply", "-f", file(PEER))
    said = netloom("get", "bgppeers", "-o", form)
    assert said.code == 3
    assert "hint:" in said.err


@pytest.mark.parametrize(
    ("form", "hint"),
    [
        ("custom-columns", "-o custom-columns=NAME,LABELS"),
        ("custom-columns=", "-o custom-columns=NAME,LABELS"),
        ("custom-colums=NAME", "'custom-columns=NAME'"),
        ("=yml", "'yaml'"),
    ],
)
def test_a_form_that_is_nearly_one_is_answered_with_what_to_write(
    netloom: Netloom, form: str, hint: str
) -> None:
    said = netloom("get", "nodes", "-o", form)
    assert (said.code, hint in said.err) == (3, True), said.err


def test_an_equals_sign_after_a_short_option_is_well(
    netloom: Netloom, file: Callable[[str], str]
) -> None:
    netloom("apply", "-f", file(PEER))
    assert netloom("get", "bgppeers", "-o=yaml").out == netloom("get", "bgppeers", "-oyaml").out
    said = netloom("get", "bgppeers", "-o=custom-columns=ASM")
    assert "output: BGPPeer has no column 'ASM'" in said.err


LABELS = [
    ("k=v\nw", "metadata.labels.k: 'v\\nw'"),
    ("k=\033[2Jx", "metadata.labels.k: '\\x1b[2Jx'"),
    ("k=" + "x" * 64, "metadata.labels.k"),
    ("k=-a", "metadata.labels.k"),
    ("a/b/c=x", "metadata.labels: 'a/b/c'"),
    ("-a=x", "metadata.labels: '-a'"),
    ("UPPER.case/b=x", "metadata.labels: 'UPPER.case/b'"),
]


@pytest.mark.parametrize(("label", "words"), LABELS)
def test_a_label_that_kubernetes_has_not_is_refused(
    netloom: Netloom, put: Callable[[str, Any], int], label: str, words: str
) -> None:
    put(host_key("h1"), HOST)
    said = netloom("label", "node", "h1", "--", label)
    assert said.code == 3
    assert words in said.err
    assert not set(said.err) & set("\033\r\x9b")


@pytest.mark.parametrize("label", ["a=", "node-role.kubernetes.io/rr=true", "A_b.c=1.2-3_X"])
def test_a_label_that_kubernetes_has_is_taken(
    netloom: Netloom, put: Callable[[str, Any], int], label: str
) -> None:
    put(host_key("h1"), HOST)
    assert netloom("label", "node", "h1", label).code == 0


def test_what_another_hand_wrote_moves_no_cursor(
    netloom: Netloom, put: Callable[[str, Any], int]
) -> None:
    """Labels, names and texts of a store that somebody else writes to."""
    odd = "x\n\033[2Jy\x9b1m\u202ez"
    put(host_key("h1"), {**HOST, "name": odd})
    node = {"kind": "Node", "metadata": {"name": "h2", "labels": {"rack": odd}}}
    put(resource_key("Node", "", "h2"), node)
    peer = {"kind": "BGPPeer", "metadata": {"name": "p"}, "spec": {"node": odd, "peerIP": odd}}
    put(resource_key("BGPPeer", "", "p"), peer)
    put(host_key(odd), b"{")  # an unreadable record is told with its key
    for words in (
        ("get", "nodes", "-o", "custom-columns=NAME,LABELS"),
        ("get", "bgppeers"),
        ("get", "all", "-o", "wide"),
        ("get", "nodes", "-o", "yaml"),
        ("get", "nodes", "-o", "json"),
        ("host", "list"),
        ("network", "list"),
        ("host", "show", "h1"),
        ("get", "node", odd + "?"),
    ):
        said = netloom(*words)
        assert not set(said.out + said.err) & set("\033\x9b\u202e"), words
    assert "x\\n\\x1b[2Jy\\x9b1m\\u202ez" in netloom("get", "nodes").out


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"peerIP": "192.0.2.1", "asNumber": 1, "filters": ["a\nb"]}, "spec.filters[0]"),
        ({"peerIP": "192.0.2.1", "asNumber": 1, "filters": ["A b"]}, "spec.filters[0]"),
        ({"peerIP": "192.0.2.1", "asNumber": 1, "node": "a\nb"}, "spec.node"),
    ],
)
def test_a_name_that_nothing_can_have_is_refused(
    netloom: Netloom, file: Callable[[str], str], spec: dict[str, Any], field: str
) -> None:
    document = {"kind": "BGPPeer", "metadata": {"name": "p"}, "spec": spec}
    said = netloom("apply", "-f", file(json.dumps(document)))
    assert (said.code, f"{field}: " in said.err) == (3, True), said.err


HOST = {
    "id": "h1",
    "name": "h1",
    "underlay": {"ipv4": "192.168.26.101", "ipv6": None},
    "segments": ["192.168.26.0/24"],
}


def test_a_host_is_a_node_that_people_label_and_number(
    netloom: Netloom, put: Callable[[str, Any], int], file: Callable[[str], str]
) -> None:
    put("/netloom/v1/cluster/hosts/h1", HOST)
    assert netloom("get", "nodes", "-o", "wide").out == (
        "NAME   ASN       IPV4                IPV6   \n"
        "h1     (64512)   192.168.26.101/24          \n\n"
    )
    assert netloom("label", "node", "h1", "rack=1").code == 0
    change = '{"spec": {"bgp": {"asNumber": 64600, "routeReflectorClusterID": "244.0.0.1"}}}'
    assert netloom("patch", "node", "h1", "-p", change).code == 0
    got = netloom("get", "node", "h1", "-o", "json").data
    assert got["metadata"]["labels"] == {"rack": "1"}
    assert got["spec"]["bgp"] == {
        "asNumber": 64600,
        "routeReflectorClusterID": "244.0.0.1",
        "ipv4Address": "192.168.26.101/24",
    }
    assert "64600" in netloom("get", "nodes", "-o", "wide").out
    said = netloom("patch", "node", "h1", "-p", '{"spec": {"bgp": {"ipv4Address": "10.0.0.1"}}}')
    assert "spec.bgp.ipv4Address has no effect here: the host's agent says it" in said.err
    assert netloom("label", "node", "h1", "row=2").err == "", "nobody spoke of the address"
    assert netloom("label", "node", "h1", "row", "--remove").code == 0
    said = netloom("delete", "node", "h1")
    assert (said.code, "netloom host forget h1" in said.err) == (4, True)


@pytest.mark.parametrize(
    ("spec", "note"),
    [
        (
            "{bgp: {ipv4IPIPTunnelAddr: 10.244.0.1}}",
            "spec.bgp.ipv4IPIPTunnelAddr has no effect here: the host's agent takes the tunnel's "
            "address out of the host's own first block; `ip address show tunl0` there tells it",
        ),
        (
            "{ipv4VXLANTunnelAddr: 10.244.0.1}",
            "spec.ipv4VXLANTunnelAddr has no effect here: the host's agent takes the tunnel's "
            "address out of the host's own first block",
        ),
        (
            "{vxlanTunnelMACAddr: '66:00:00:00:00:01'}",
            "spec.vxlanTunnelMACAddr has no effect here: it follows from the host's id",
        ),
        ("{orchRefs: [{orchestrator: k8s}]}", "spec.orchRefs has no effect here"),
    ],
)
def test_what_an_agent_chooses_by_itself_is_said_with_what_it_chooses(
    netloom: Netloom,
    put: Callable[[str, Any], int],
    file: Callable[[str], str],
    spec: str,
    note: str,
) -> None:
    put("/netloom/v1/cluster/hosts/h1", HOST)
    said = netloom("apply", "-f", file(f"{{kind: Node, metadata: {{name: h1}}, spec: {spec}}}"))
    assert (said.code, said.err) == (0, f"note: Node(h1): {note}\n")
    assert "unnel" not in netloom("get", "node", "h1", "-o", "yaml").out


def test_a_node_may_be_described_before_it_is_there(
    netloom: Netloom, put: Callable[[str, Any], int], file: Callable[[str], str]
) -> None:
    text = """\
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: h9, labels: {rack: "9"}}
spec: {bgp: {asNumber: 64999}}
"""
    assert netloom("create", "-f", file(text)).code == 0
    assert netloom("get", "nodes").out.split() == ["NAME", "h9"]
    bad = text.replace("64999", "0")
    assert "resources.yaml:4: spec.bgp.asNumber" in netloom("apply", "-f", file(bad)).err
    assert netloom("delete", "node", "h9").code == 0


def test_containers_are_shown_and_not_written(
    netloom: Netloom, put: Callable[[str, Any], int], file: Callable[[str], str]
) -> None:
    put("/netloom/v1/cluster/hosts/h1", HOST)
    endpoint = {
        "network": "blue",
        "host": "h1",
        "container": "web-1",
        "ifname": "eth0",
        "netns": "/run/netns/x",
        "hostIfname": "cali12345678901",
        "mac": "02:00:00:00:00:01",
        "addresses": ["10.244.0.2"],
        "attached": True,
    }
    put("/netloom/v1/endpoints/h1/blue/web-1/eth0", endpoint)
    assert netloom("get", "wep", "-o", "custom-columns=NAME,WORKLOAD,NODE,NETWORKS").out == (
        "NAME                 WORKLOAD   NODE   NETWORKS        \n"
        "h1-cni-web--1-eth0   web-1      h1     10.244.0.2/32   \n\n"
    )
    assert netloom("delete", "wep", "h1-cni-web--1-eth0").code == 4
