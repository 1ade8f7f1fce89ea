"""Frames as they are on a cable, taken apart."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from netloom.lab.wire import decode, read_pcap

INNER_MACS = bytes.fromhex("0242ac1100020242ac110003")
OUTER_MACS = bytes.fromhex("aa0000000002aa0000000001")


def ipv4(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    ends = ip_address(source).packed + ip_address(destination).packed
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 63, protocol, 0)
    return b"\x08\x00" + head + ends + payload


def vxlan(vni: int, frame: bytes) -> bytes:
    header = struct.pack("!BBHI", 8, 0, 0, vni << 8)
    udp = struct.pack("!HHHH", 40000, 8472, 8 + len(header) + len(frame), 0)
    return udp + header + frame


def test_a_ping_inside_a_tunnel_shows_both_layers_and_the_network() -> None:
    echo = INNER_MACS + ipv4("10.244.0.2", "10.244.1.2", 1, bytes([8, 0]) + bytes(6))
    outer = OUTER_MACS + ipv4("192.168.31.62", "192.168.31.63", 17, vxlan(7, echo))
    frame = decode(outer)
    assert (str(frame.source), str(frame.destination)) == ("192.168.31.62", "192.168.31.63")
    assert frame.vni == 7
    assert frame.inner is not None
    assert frame.inner.destination == ip_address("10.244.1.2")
    assert frame.inner.what == "ICMP echo request"
    assert frame.inner.source_mac == "02:42:ac:11:00:03"
    assert str(frame) == (
        "192.168.31.62 → 192.168.31.63 VXLAN vni 7 [ 10.244.0.2 → 10.244.1.2 ICMP echo request ]"
    )


def test_a_packet_inside_a_packet_shows_both_without_macs() -> None:
    echo = ipv4("10.244.0.2", "10.244.1.2", 1, bytes([8, 0]) + bytes(6))[2:]
    frame = decode(OUTER_MACS + ipv4("192.168.31.62", "192.168.31.63", 4, echo))
    assert frame.inner is not None
    assert str(frame) == (
        "192.168.31.62 → 192.168.31.63 IPIP [ 10.244.0.2 → 10.244.1.2 ICMP echo request ]"
    )


def test_a_plain_ping_has_no_inner_frame() -> None:
    echo = INNER_MACS + ipv4("10.244.0.2", "10.244.1.2", 1, bytes([0, 0]) + bytes(6))
    frame = decode(echo)
    assert (frame.vni, frame.inner, frame.ttl) == (None, None, 63)
    assert frame.what == "ICMP echo reply"


def test_tcp_shows_its_ports() -> None:
    frame = decode(
        INNER_MACS + ipv4("10.0.0.1", "10.0.0.2", 6, struct.pack("!HH", 5, 80) + bytes(16))
    )
    assert frame.ports == (5, 80)


def test_a_capture_that_was_cut_short_gives_its_whole_frames() -> None:
    frame = INNER_MACS + ipv4("10.0.0.1", "10.0.0.2", 1, bytes(8))
    record = struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame
    head = b"\xd4\xc3\xb2\xa1" + bytes(20)
    assert list(read_pcap(head + record + record[:-1])) == [frame]
    assert list(read_pcap(b"")) == []
