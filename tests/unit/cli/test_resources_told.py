"""Kinds that tell more than they change: ClusterInformation, Profile, IPAMConfiguration, Felix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
    said = apply(text.replace("true", "false"))
    assert said.err == (
        "note: IPAMConfiguration(default): spec.strictAffinity has no effect here: no host ever "
        "borrows addresses of another's block\n"
    )


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
