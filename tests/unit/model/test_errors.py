"""What an error shows of the value that it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from netloom.model.addr import parse_network
from netloom.model.errors import InvalidConfig
from netloom.model.fields import Fields

LONG = "9" * 5000


@pytest.mark.parametrize("value", [LONG, ["a"] * 2000, int("9" * 400), {"a": LONG}])
def test_a_long_value_is_shown_by_its_beginning(value: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"^mtu: .*… \(\d+ characters\) is not true") as raised:
        Fields({"mtu": value}, "").take_bool("mtu", False)
    assert len(str(raised.value)) < 150
    assert raised.value.value == value


def test_of_a_value_that_is_read_again_the_rest_of_the_sentence_stays() -> None:
    with pytest.raises(InvalidConfig) as raised:
        parse_network(f"10.0.0.0/{LONG}", "cidr")
    assert len(str(raised.value)) < 400
    assert str(raised.value).startswith("cidr: '10.0.0.0/999")


def test_a_value_that_is_not_long_is_shown_whole() -> None:
    name = "a" * 150  # as paths may be
    assert str(InvalidConfig(f"name: {name!r} is taken", value=name)) == f"name: {name!r} is taken"


def test_a_number_of_so_many_digits_that_nobody_writes_them_is_no_trouble() -> None:
    error = InvalidConfig("mtu: out of range " + "x" * 200, value=10**5000)
    assert str(error).startswith("mtu: out of range")
