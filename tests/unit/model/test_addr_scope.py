"""What stands after a '%' in an address: Python takes any text there, we do not."""

from __future__ import annotations

import pytest

from netloom.model.addr import parse_address, parse_network
from netloom.model.errors import InvalidConfig


@pytest.mark.parametrize("text", ["fe80::1%x; }", "fe80::1%a\nb", "fe80::1%" + "x" * 16])
def test_a_scope_that_is_no_interface_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match="is not an IP address"):
        parse_address(text, "peerIP")


def test_the_scope_of_a_link_local_address_is_its_interface() -> None:
    assert str(parse_address("fe80::1%ens32.7", "gateway")) == "fe80::1%ens32.7"


@pytest.mark.parametrize("text", ["fe80::%eth0/64", "fd00::%x; }/64"])
def test_a_network_has_no_scope(text: str) -> None:
    with pytest.raises(InvalidConfig, match="is not a CIDR"):
        parse_network(text, "cidr")
