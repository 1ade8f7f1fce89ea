"""Names of namespaces say whose they are, and nothing else does."""

from __future__ import annotations

import pytest

from netloom.lab.names import (
    NamespaceName,
    parse_container_name,
    parse_ifname,
    parse_lab_name,
    parse_namespace,
    parse_node_name,
    port_name,
)
from netloom.model.errors import InvalidConfig


@pytest.mark.parametrize(
    "name",
    [
        NamespaceName("lab", "h1"),
        NamespaceName("my-lab", "h1"),
        NamespaceName("my-lab-2", "node_1", "web"),
        NamespaceName("a", "h1", "web-1"),
    ],
)
def test_a_namespace_name_is_read_back_as_it_was_made(name: NamespaceName) -> None:
    assert parse_namespace(str(name)) == name


def test_a_lab_is_never_taken_for_another_whose_name_begins_alike() -> None:
    assert parse_namespace("nl-my-lab-h1") == NamespaceName("my-lab", "h1")
    assert parse_namespace("nl-my-h1") == NamespaceName("my", "h1")


@pytest.mark.parametrize("foreign", ["h1", "nl-", "nl-x", "cni-1234", "nl--", "xnl-a-b"])
def test_namespaces_of_others_have_no_lab(foreign: str) -> None:
    assert parse_namespace(foreign) is None


@pytest.mark.parametrize(
    ("parse", "bad"),
    [
        (parse_lab_name, "Lab"),
        (parse_lab_name, "-lab"),
        (parse_lab_name, "lab/x"),
        (parse_lab_name, "x" * 33),
        (parse_lab_name, ""),
        (parse_lab_name, None),
        (parse_node_name, "h-1"),
        (parse_node_name, "h.1"),
        (parse_node_name, "h1/web"),
        (parse_container_name, "web/x"),
        (parse_container_name, "a.b"),
        (parse_ifname, "sixteen-letters-"),
        (parse_ifname, "a b"),
        (parse_ifname, "a:b"),
        (parse_ifname, ".."),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_field_and_remedy(parse, bad) -> None:
    with pytest.raises(InvalidConfig) as caught:
        parse(bad, "where")
    assert caught.value.field == "where"
    assert caught.value.hint


def test_a_cable_is_named_after_what_it_leads_to() -> None:
    assert port_name("h1", "ens33") == "h1-ens33"


def test_long_cable_names_stay_within_the_kernels_limit_and_differ() -> None:
    one, two = port_name("longhostname", "enp1s0f0"), port_name("longhostname", "enp1s0f1")
    assert max(len(one), len(two)) <= 15
    assert one != two
