"""A field that has to be there, and stands there misspelt: it is named, and what is meant."""

from __future__ import annotations

import pytest

from netloom.cli.resources import files
from netloom.core.definition import parse
from netloom.model.errors import InvalidConfig


@pytest.mark.parametrize(
    ("text", "field", "meant"),
    [
        ("kind: IPPool\nmetadata: {name: a}\nspec: {cird: 10.0.0.0/16}", "spec.cird", "cidr"),
        ("kind: IPPool\nmetadata: {name: a}\nspec: {CIDR: 10.0.0.0/16}", "spec.CIDR", "cidr"),
        (
            "kind: BGPFilter\nmetadata: {name: a}\nspec: {exportV4: [{acton: Accept}]}",
            "spec.exportV4[0].acton",
            "action",
        ),
        *(
            (
                f"kind: IPPool\nmetadata: {{name: a}}\nspec: {{cidr: 10.0.0.0/16, {wrong}: a}}",
                f"spec.{wrong}",
                right,
            )
            for wrong, right in (
                ("ipipmode", "ipipMode"),
                ("vxlanMod", "vxlanMode"),
                ("allowedUse", "allowedUses"),
            )
        ),
        (
            "kind: Node\nmetadata: {name: a, annotations: {netloom/ip-autodetection-methd: x}}",
            "metadata.annotations.netloom/ip-autodetection-methd",
            "netloom/ip-autodetection-method",
        ),
        ("kind: BGPFilter\nmetadata: {nmae: a}\nspec: {}", "metadata.nmae", "name"),
        ("kind: BGPFilter\nmetadat: {name: a}\nspec: {}", "metadat", "metadata"),
        ("knd: BGPFilter\nmetadata: {name: a}\nspec: {}", "knd", "kind"),
        ("apiVersion: v1\nkind: ipPool\nmetadata: {cird: 10.0.0.0/16}", "metadata.cird", "cidr"),
        (
            "kind: HostEndpoint\nmetadata: {name: a}\nspec: {node: h, interfacName: e}",
            "spec.interfacName",
            "interfaceName",
        ),
        (
            "kind: BGPConfiguration\nmetadata: {name: default}\n"
            "spec: {nodeMeshPassword: {secretKeyRf: {name: a, key: b}}}",
            "spec.nodeMeshPassword.secretKeyRf",
            "secretKeyRef",
        ),
    ],
)
def test_it_is_named_with_what_is_meant(text: str, field: str, meant: str) -> None:
    with pytest.raises(InvalidConfig, match=r"unknown (field|annotation)") as caught:
        list(files.parse(text, "f"))
    assert (caught.value.field, caught.value.hint) == (field, f"did you mean {meant!r}?")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("kind: IPPool\nmetadata: {name: a}\nspec: {blockSize: 26}", "spec.cidr"),
        ("kind: IPPool\nmetadata: {namespace: a}\nspec: {}", "metadata.name"),
        ("kind: IPPool\nspec: {}", "metadata"),
        ("metadata: {name: a}\nspec: {}", "kind"),
    ],
)
def test_what_only_is_not_there_is_called_missing(text: str, field: str) -> None:
    with pytest.raises(InvalidConfig, match=f"{field}: missing") as caught:
        list(files.parse(text, "f"))
    assert caught.value.field == field


def test_so_it_is_with_a_networks_definition() -> None:
    with pytest.raises(InvalidConfig, match="pols: unknown field") as caught:
        parse({"name": "blue", "pols": ["10.1.0.0/16"]})
    assert caught.value.hint == "did you mean 'pools'?"
    with pytest.raises(InvalidConfig, match=r"pools\[0\]\.cdir: unknown field"):
        parse({"name": "blue", "pools": [{"cdir": "10.1.0.0/16"}]})


def test_a_pools_name_stands_in_its_metadata_alone() -> None:
    text = "kind: IPPool\nmetadata: {name: a}\nspec: {cidr: 10.0.0.0/16, name: b}"
    with pytest.raises(InvalidConfig, match=r"spec\.name: unknown field"):
        list(files.parse(text, "f"))
