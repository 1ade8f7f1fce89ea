"""An annotation for one family leaves the other to the host's own settings."""

from __future__ import annotations

import pytest

from netloom.core.selection import parse
from netloom.core.selection_merge import by_family, merged


@pytest.mark.parametrize(
    ("said", "own", "both"),
    [
        ("", "interface=ens33;public=203.0.113.7", "interface=ens33;public=203.0.113.7"),
        ("4:cidr=10.0.0.0/8", "", "4:cidr=10.0.0.0/8"),
        ("6:cidr=fd00::/8", "ens33", "6:cidr=fd00::/8;4:interface=ens33"),
        (
            "6:first-found",
            "interface=ens33;can-reach=192.0.2.1;public=203.0.113.7",
            "6:first-found;4:interface=ens33;4:can-reach=192.0.2.1;public=203.0.113.7",
        ),
        ("6:none", "4:first-found;6:cidr=fd00::/8", "6:none;4:first-found"),
        ("4:interface=a;6:interface=b", "ens33", "4:interface=a;6:interface=b"),
        ("cidr=10.0.0.0/8", "ens33", "cidr=10.0.0.0/8"),
        ("6:wrong", "ens33", "6:wrong"),
    ],
)
def test_what_the_store_says_comes_first_family_by_family(said: str, own: str, both: str) -> None:
    assert merged(said, own) == both
    if "wrong" not in both and both:
        parse(both)


@pytest.mark.parametrize(
    ("four", "six", "both"),
    [
        ("", "", ""),
        ("ens33", "", "4:interface=ens33"),
        ("cidr=10.0.0.0/8;first-found", "", "4:cidr=10.0.0.0/8;4:first-found"),
        ("first-found", "none", "4:first-found;6:none"),
        ("wrong=1", "first-found", "4:wrong=1;6:first-found"),
    ],
)
def test_every_part_of_an_annotation_is_for_its_family_alone(
    four: str, six: str, both: str
) -> None:
    assert by_family({4: four, 6: six}) == both
