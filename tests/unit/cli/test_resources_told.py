"""Kinds that tell more than they change: ClusterInformation, Profile, IPAMConfiguration, Felix."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netloom.cli.resources import files
from netloom.cli.resources.editor import Editor, edit
from netloom.cli.settings import load_settings
from netloom.model.errors import Conflict

Netloom = Callable[..., Any]
HEAD = "apiVersion: projectcalico.org/v3\nkind: "


@pytest.fixture
def apply(netloom: Netloom, tmp_path: Path) -> Callable[[str], Any]:
    def call(text: str) -> Any:
        path = tmp_path / "f.yaml"
        path.write_text(HEAD + text)
        return netloom("apply", "-f", str(path))

    return call


def test_the_cluster_tells_what_it_is_and_is_not_told(
    netloom: Netloom, apply: Callable[[str], Any]
) -> None:
    netloom("network", "create", "blue", "--preset", "flannel")
    (heading, row, _) = netloom("get", "clusterinfo").out.splitlines()
    assert heading.split() == [
        "NAME",
        "CLUSTERGUID",
        "CLUSTERTYPE",
        "CALICOVERSION",
        "DATASTOREREADY",
    ]
    assert row.split()[0::2] == ["default", "netloom,vxlan", "true"]
    said = apply("ClusterInformation\nmetadata: {name: default}\nspec: {datastoreReady: false}\n")
    assert (said.code, "stop them on their hosts" in said.err) == (4, True)
    assert netloom("delete", "clusterinformation", "default").code == 4


def test_a_profile_is_kept_and_its_rules_are_said_to_do_nothing(
    netloom: Netloom, apply: Callable[[str], Any]
) -> None:
    profile = "Profile\nmetadata: {name: web}\nspec:\n  labelsToApply: {role: web}\n"
    assert apply(f"{profile}  ingress: [{{action: Allow}}]\n").err == (
        "note: Profile(web): spec.ingress has no effect here\n"
    )
    assert netloom("get", "profiles", "-o", "wide").out == (
        "NAME   LABELS     \nweb    role=web   \n\n"
    )
    for wrong in ("  ingress: [7]\n", "  egress: [{action: Alow}]\n", "  ingress: {}\n"):
        assert apply(profile + wrong).code == 3
    assert apply(profile.replace("role: web", "role: 7")).code == 3


def test_an_ipam_configuration_is_shown_as_calicoctls_users_know_it(
    netloom: Netloom, apply: Callable[[str], Any]
) -> None:
    text = "IPAMConfiguration\nmetadata: {name: default}\nspec: {strictAffinity: true}\n"
    assert (apply(text).code, apply(text).err) == (0, "")
    assert netloom("get", "ipamconfig", "-o", "wide").out == (
        "NAME      STRICTAFFINITY   AUTOALLOCATEBLOCKS   MAXBLOCKSPERHOST   \n"
        "default   true             true                 0                  \n\n"
    )
    assert apply(text.replace("true", "false")).err == ""


def test_of_felixs_settings_those_that_are_elsewhere_are_named_with_the_place(
    apply: Callable[[str], Any],
) -> None:
    felix = "FelixConfiguration\nmetadata: {name: default}\nspec: {%s}\n"
    said = apply(felix % "ipipMTU: 1400, bpfEnabled: true, vxlanEnabled: true")
    assert said.err == (
        "note: FelixConfiguration(default): spec.bpfEnabled has no effect here\n"
        "note: FelixConfiguration(default): spec.ipipMTU has no effect here: say `netloom network "
        "set NAME mtu=1400`\n"
    )
    for wrong in ("ipipMTU: big", "vxlanVNI: 16777216", "vxlanPort: 0", "ipipEnabled: maybe"):
        assert apply(felix % wrong).code == 3


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("bpfEnbled: true", "did you mean 'bpfEnabled'?"),
        ("ipipMtu: 1400", "did you mean 'ipipMTU'?"),
        ("logSeverityScren: Info", "did you mean 'logSeverityScreen'?"),
        ("xyzzy: 1", "none of the"),
    ],
)
def test_a_field_that_felix_does_not_have_is_refused_with_the_nearest(
    netloom: Netloom, apply: Callable[[str], Any], field: str, hint: str
) -> None:
    text = "FelixConfiguration\nmetadata: {name: default}\nspec:\n  ipipEnabled: true\n"
    apply(text)
    said = apply(f"{text}  {field}\n")
    name = field.partition(":")[0]
    assert (said.code, f"f.yaml:6: spec.{name}: unknown field" in said.err) == (3, True), said.err
    assert hint in said.err
    assert len(said.err) < 400, "a list of all fields is read by nobody"
    kept = netloom("get", "felixconfig", "default", "-o", "json").data
    assert kept["spec"] == {"ipipEnabled": True}, "nothing was written"


@pytest.mark.parametrize(
    "field", ["wireguardKeepAlive", "xdpRefreshInterval", "iptablesLockTimeout", "cgroupV2Path"]
)
def test_a_field_of_felixs_that_does_nothing_here_is_taken_and_named(
    apply: Callable[[str], Any], field: str
) -> None:
    said = apply(f"FelixConfiguration\nmetadata: {{name: default}}\nspec: {{{field}: 10s}}\n")
    note = f"note: FelixConfiguration(default): spec.{field} has no effect here\n"
    assert (said.code, said.err) == (0, note)


PEER = """BGPPeer
metadata: {name: tor, labels: {rack: a.b}}
spec: {peerIP: 192.0.2.1, asNumber: 64513, filters: [one]}
"""


@pytest.mark.parametrize(
    "operations",
    [
        '[{"op": "replace", "path": "/spec/asNumber", "value": 64514}]',
        '[{"op": "test", "path": "/spec/asNumber", "value": 64513},'
        ' {"op": "remove", "path": "/spec/asNumber"},'
        ' {"op": "add", "path": "/spec/asNumber", "value": "64514"}]',
        "- {op: replace, path: /spec/asNumber, value: 64514}",
    ],
)
def test_a_patch_of_operations_changes_a_resource(
    netloom: Netloom, apply: Callable[[str], Any], operations: str
) -> None:
    apply(PEER)
    assert netloom("patch", "bgppeer", "tor", "--type", "json", "-p", operations).code == 0
    got = netloom("get", "bgppeer", "tor", "-o", "json").data
    assert str(got["spec"]["asNumber"]) == "64514"
    assert got["spec"]["filters"] == ["one"]


@pytest.mark.parametrize(
    "operations",
    [
        "{}",
        "7",
        "[7]",
        '[{"op": "replace"}]',
        '[{"op": "spin", "path": "/spec"}]',
        '[{"op": "test", "path": "/spec/asNumber", "value": 1}]',
        '[{"op": "remove", "path": "/spec/nothing"}]',
        '[{"op": "remove", "path": "spec"}]',
        '[{"op": "add", "path": "/spec/filters/9", "value": "x"}]',
        '[{"op": "add", "path": "/spec/asNumber/x", "value": 1}]',
        '[{"op": "replace", "path": "", "value": 7}]',
        '[{"op": "replace", "path": "", "value": []}]',
        '[{"op": "remove", "path": ""}]',
        '[{"op": "remove", "path": "/metadata"}]',
        '[{"op": "replace", "path": "/kind", "value": "Node"}]',
        '[{"op": "replace", "path": "/metadata/name", "value": "other"}]',
        '[{"op": "move", "from": "/spec", "path": "/spec/inside"}]',
        '[{"op": "replace", "path": "/spec/asNumber", "value": 0}]',
        "[",
        "",
    ],
)
def test_a_patch_that_does_not_fit_changes_nothing(
    netloom: Netloom, apply: Callable[[str], Any], operations: str
) -> None:
    apply(PEER)
    before = netloom("get", "bgppeer", "tor", "-o", "yaml").out
    said = netloom("patch", "bgppeer", "tor", "--type", "json", "-p", operations)
    assert (said.code, said.err.startswith("error: ")) == (3, True), said.err
    assert netloom("get", "bgppeer", "tor", "-o", "yaml").out == before


def test_who_asks_for_no_version_is_not_troubled_by_others_writes(
    netloom: Netloom, apply: Callable[[str], Any], put: Callable[[str, Any], int], url: str
) -> None:
    """An agent writes its host's record at any moment; that is no reason to refuse a label."""
    settings = load_settings({}, os.environ)
    key, host = "/netloom/v1/cluster/hosts/h1", {"id": "h1", "name": "h1"}
    put(key, host)
    rounds = 0

    def change(editor: Editor) -> None:
        nonlocal rounds
        rounds += 1
        editor.apply(document("rack", str(rounds)))
        if rounds < 3:
            put(key, {**host, "underlay": {"ipv4": f"192.0.2.{rounds}", "ipv6": None}})

    edit(settings, change)
    assert rounds == 3
    got = netloom("get", "node", "h1", "-o", "json").data
    assert got["metadata"]["labels"] == {"rack": "3"}
    assert got["spec"]["bgp"] == {"ipv4Address": "192.0.2.2/32"}


def test_who_is_always_overtaken_is_told_in_the_end(
    put: Callable[[str, Any], int], url: str
) -> None:
    key, host = "/netloom/v1/cluster/hosts/h1", {"id": "h1", "name": "h1"}
    put(key, host)

    def change(editor: Editor) -> None:
        editor.apply(document("rack", "1"))
        put(key, host)

    with pytest.raises(Conflict, match="nothing was written"):
        edit(load_settings({}, os.environ), change)


def document(label: str, value: str) -> files.Document:
    metadata = {"name": "h1", "labels": {label: value}}
    return files.document({"kind": "Node", "metadata": metadata, "spec": {}}, "", {})
