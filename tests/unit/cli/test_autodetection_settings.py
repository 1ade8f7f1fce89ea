"""Calico's variables of autodetection are settings, below our own."""

from __future__ import annotations

import pytest

from netloom.cli.settings import load_settings
from netloom.model.errors import InvalidConfig


def test_each_familys_method_is_taken() -> None:
    env = {"IP_AUTODETECTION_METHOD": "interface=ens33,eth0", "IP6_AUTODETECTION_METHOD": "none"}
    settings = load_settings({}, env)
    assert settings.interface == "4:interface=ens33,eth0;6:none"
    assert settings.origins["interface"] == "IP_AUTODETECTION_METHOD and IP6_AUTODETECTION_METHOD"


def test_a_method_for_ipv6_alone_leaves_ipv4_to_be_found_as_calicos_users_expect() -> None:
    settings = load_settings({}, {"IP6_AUTODETECTION_METHOD": "cidr=fd00::/8;interface=ens3.*"})
    assert settings.interface == "4:first-found;6:cidr=fd00::/8;6:interface=ens3.*"
    assert load_settings({}, {"IP6_AUTODETECTION_METHOD": "none"}).interface == "6:none"


def test_our_own_setting_wins() -> None:
    env = {"IP_AUTODETECTION_METHOD": "first-found", "NETLOOM_INTERFACE": "ens32"}
    assert load_settings({}, env).interface == "ens32"


def test_an_unknown_method_is_refused_by_the_variables_name() -> None:
    with pytest.raises(InvalidConfig, match="is no way to choose one") as caught:
        load_settings({}, {"IP_AUTODETECTION_METHOD": "can-raech=192.168.30.1"})
    assert caught.value.hint == "did you mean 'can-reach'?"
