"""flannel's configuration: what works with flannel works here, what does not says why."""

from __future__ import annotations

import json

import pytest

from netloom.model.errors import InvalidConfig
from netloom.model.network import Choice, Network
from netloom.store.flannel.config import FlannelConfig, render


def parse(text: str) -> Network:
    return FlannelConfig.parse(text).network("default")


def test_a_config_without_a_backend_means_udp_as_in_flannels_code():
    network = parse('{ "Network": "172.20.0.0/16" }')
    assert network.backend == Choice("udp", {"port": 8285})
    assert [(str(p.cidr), p.block_size) for p in network.pools] == [("172.20.0.0/16", 24)]
    assert network.addressing.mode == "host-block"


def test_every_key_is_read():
    config = FlannelConfig.parse(
        json.dumps(
            {
                "Network": "10.0.0.0/8",
                "SubnetLen": 20,
                "SubnetMin": "10.10.0.0",
                "SubnetMax": "10.99.0.0",
                "EnableIPv4": True,
                "EnableIPv6": True,
                "IPv6Network": "fd00:10::/48",
                "IPv6SubnetLen": 72,
                "IPv6SubnetMin": "fd00:10:0:1::",
                "IPv6SubnetMax": "fd00:10:0:9::",
                "EnableNFTables": True,
                "Backend": {
                    "Type": "vxlan",
                    "VNI": 7,
                    "Port": 4789,
                    "MTU": 9000,
                    "DirectRouting": True,
                    "GBP": False,
                    "Learning": False,
                },
            }
        )
    )
    network = config.network("default", nat_outgoing=False)
    assert config.nftables
    assert config.vni == 7
    assert [(str(p.cidr), p.block_size, p.nat_outgoing) for p in network.pools] == [
        ("10.0.0.0/8", 20, False),
        ("fd00:10::/48", 72, False),
    ]
    assert network.backend == Choice("vxlan", {"vni": 7, "port": 4789, "directRouting": True})
    assert network.mtu_bytes == 9000 - 70  # flannel's MTU is the underlay's; IPv6 costs 70
    left_out = [str(r.cidr) for r in config.reservations("default")]
    assert left_out[:3] == ["10.0.0.0/13", "10.8.0.0/15", "10.99.16.0/20"]
    assert "fd00:10::/64" in left_out


def test_the_first_block_is_left_out_unless_subnetmin_says_otherwise():
    usual = FlannelConfig.parse('{"Network":"10.244.0.0/16"}')
    all_of_it = FlannelConfig.parse('{"Network":"10.244.0.0/16","SubnetMin":"10.244.0.0"}')
    assert [str(r.cidr) for r in usual.reservations("default")] == ["10.244.0.0/24"]
    assert all_of_it.reservations("default") == ()


@pytest.mark.parametrize(
    ("network", "length"), [("10.0.0.0/22", 24), ("10.0.0.0/23", 25), ("10.0.0.0/28", 30)]
)
def test_a_small_range_is_cut_into_four(network: str, length: int):
    assert parse(json.dumps({"Network": network})).pools[0].block_size == length


def test_keys_match_whatever_their_case_and_the_last_one_counts():
    network = parse('{"NETWORK":"10.1.0.0/16","network":"10.2.0.0/16","BackEnd":{"TYPE":"VXLAN"}}')
    assert str(network.pools[0].cidr) == "10.2.0.0/16"
    assert network.backend.type == "vxlan"


def test_null_means_absent_and_host_bits_are_cut_off_as_go_does():
    network = parse('{"Network":"10.1.2.3/16","SubnetLen":null,"Backend":null}')
    assert str(network.pools[0].cidr) == "10.1.0.0/16"
    assert network.backend.type == "udp"


def test_an_unknown_key_is_left_alone_and_named():
    config = FlannelConfig.parse('{"Network":"10.1.0.0/16","Subnetlen":25,"Netwrk":1}')
    assert config.ignored == ("Netwrk",)
    assert config.spans[0].length == 25


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('{"Network": "10.0.0.0/8",}', "line 1 column 26", "commas"),
        ('{\n "Network": 10.0.0.0/8\n}', r"line 2 column 17.*before '\.0\.0/8'", "commas"),
        ("", "not JSON: .* at line 1 column 1", "braces"),
        ("[1]", "expected an object", ""),
        ("{}", "Network: missing", '"Network": "10.244.0.0/16"'),
        ('{"Network":"10.0.0.0"}', "not an IPv4 range", "10.244.0.0/16"),
        ('{"Network":"fd00::/48"}', "not an IPv4 range", "10.244.0.0/16"),
        ('{"Network":7}', "Network: 7 is not a text", "a text"),
        ('{"Network":"10.0.0.0/16","SubnetLen":"24"}', '"24" is not a whole number', "quotes"),
        ('{"Network":"10.0.0.0/16","SubnetLen":true}', "not a whole number", "quotes"),
        ('{"Network":"10.0.0.0/16","SubnetLen":17}', "/17 blocks do not fit", "from 18 to 30"),
        ('{"Network":"10.0.0.0/16","SubnetLen":31}', "/31 blocks do not fit", "from 18 to 30"),
        ('{"Network":"10.0.0.0/16","SubnetLen":-1}', "do not fit", "from 18 to 30"),
        ('{"Network":"10.0.0.0/29"}', "too small for four blocks", "/28"),
        ('{"Network":"10.0.0.0/16","SubnetMin":"10.1.0.0"}', "not in 10.0.0.0/16", ""),
        ('{"Network":"10.0.0.0/16","SubnetMin":"10.0.1.1"}', "block begins", "10.0.1.0?"),
        ('{"Network":"10.0.0.0/16","SubnetMax":"10.0.x"}', "not an address", "10.0.0.0"),
        (
            '{"Network":"10.0.0.0/16","SubnetMin":"10.0.9.0","SubnetMax":"10.0.2.0"}',
            "10.0.9.0 is above SubnetMax 10.0.2.0",
            "at most 10.0.2.0",
        ),
        ('{"Network":"10.0.0.0/16","Backend":{}}', "Backend.Type: missing", "vxlan"),
        ('{"Network":"10.0.0.0/16","Backend":{"Type":"vxlam"}}', "unknown", "'vxlan'"),
        ('{"Network":"10.0.0.0/16","Backend":{"Type":"ipsec"}}', "not one of ours", "vxlan"),
        ('{"Network":"10.0.0.0/16","Backend":"vxlan"}', "not an object", "object"),
        ('{"Network":"10.0.0.0/16","Backend":{"Type":"vxlan","VNI":0}}', "out of range", "1"),
        ('{"Network":"10.0.0.0/16","Backend":{"Type":"vxlan","Learning":true}}', "learned", ""),
        ('{"Network":"10.0.0.0/16","EnableIPv4":false}', "begins with an IPv4 block", ""),
        ('{"Network":"10.0.0.0/16","EnableIPv6":true}', "IPv6Network: missing", "EnableIPv6"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place_and_remedy(text: str, message: str, hint: str):
    with pytest.raises(InvalidConfig, match=message) as caught:
        FlannelConfig.parse(text)
    assert hint in caught.value.hint


def test_bytes_that_are_not_utf8_are_named_by_their_place():
    with pytest.raises(InvalidConfig, match="byte 12 is 0xff"):
        FlannelConfig.parse(b'{"Network":"\xff"}')


def test_what_is_rendered_means_the_same_network():
    for text in (
        '{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan","VNI":3,"MTU":1400}}',
        '{"Network":"10.244.0.0/16","SubnetLen":26,"Backend":{"Type":"host-gw"}}',
        '{"Network":"10.244.0.0/16","Backend":{"Type":"udp","Port":9000}}',
        '{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48",'
        '"Backend":{"Type":"vxlan"}}',
    ):
        network = parse(text)
        assert FlannelConfig.parse(render(network)).network("default") == network


def test_rendering_over_a_config_keeps_what_it_does_not_mean_to_change():
    before = (
        b'{"network":"10.1.0.0/16","SubnetMin":"10.1.4.0","Note":"ours","Backend":{"Type":"udp"}}'
    )
    network = FlannelConfig.parse('{"Network":"10.1.0.0/16","Backend":{"Type":"host-gw"}}')
    after = json.loads(render(network.network("default"), before))
    assert after == {
        "Network": "10.1.0.0/16",
        "SubnetMin": "10.1.4.0",
        "SubnetLen": 24,
        "Backend": {"Type": "host-gw"},
        "Note": "ours",
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"attachment": "routed"}, "attachment.type"),
        ({"addressing": "on-demand"}, "addressing.mode"),
        ({"pools": ["10.1.0.0/16", "10.2.0.0/16"]}, "pools"),
        ({"pools": ["fd00::/48"]}, "pools"),
        ({"backend": "host-gw", "mtu": 1300}, "mtu"),
        ({"backend": {"type": "vxlan", "device": "x0"}}, "backend.device"),
        ({"backend": "wireguard"}, "backend.type"),
    ],
)
def test_what_flannels_config_has_no_place_for_is_refused_by_name(
    change: dict[str, object], field: str
):
    network = Network.parse({"name": "default", "pools": ["10.1.0.0/16"], **change})
    with pytest.raises(InvalidConfig) as caught:
        render(network)
    assert caught.value.field == field
    assert caught.value.hint
