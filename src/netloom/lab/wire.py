"""What is on a cable: a capture by tcpdump, decoded as far as a tunnel's two layers go.

::

    with Capture(host, "ens33", "udp port 8472") as capture:
        container.pings(far.address)
        capture.until(lambda frames: len(frames) >= 2, "request and reply")
    for frame in capture.frames:
        print(frame)

Formats: the pcap file of tcpdump -w (pcap-savefile(5)), VXLAN (RFC 7348), IPIP (RFC 2003).
"""

from __future__ import annotations

import ipaddress
import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from netloom.lab.listening import Listening
from netloom.lab.place import Place
from netloom.lab.waiting import wait_until
from netloom.model.addr import IPAddress
from netloom.model.errors import InvalidConfig

T = TypeVar("T")

#: The ports by which VXLAN is recognised: Linux's and flannel's, and IANA's.
VXLAN_PORTS = (8472, 4789)
#: The port of backend udp, flannel's: a datagram is an IPv4 packet and nothing else.
UDP_TUNNEL_PORT = 8285
PATIENCE_S = 30.0
_IPV4, _IPV6, _ARP = 0x0800, 0x86DD, 0x0806
_PROTOCOLS = {1: "ICMP", 4: "IPIP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}
_ICMP = {
    (1, 8): "echo request",
    (1, 0): "echo reply",
    (58, 128): "echo request",
    (58, 129): "echo reply",
    (58, 135): "neighbour solicitation",
    (58, 136): "neighbour advertisement",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. Addresses are None for what is neither IP nor ARP.

    ``what`` is the protocol in words; ``ports`` is (0, 0) where there are none. ``vni`` is that of
    a VXLAN packet, ``inner`` what is in a tunnel's packet: where that is no frame, without MACs.
    """

    source_mac: str
    destination_mac: str
    length_bytes: int
    what: str
    source: IPAddress | None = None
    destination: IPAddress | None = None
    ttl: int = 0
    ports: tuple[int, int] = (0, 0)
    vni: int | None = None
    inner: Frame | None = None

    def __str__(self) -> str:
        ends = f"{self.source} → {self.destination}" if self.source else self.source_mac
        if self.inner is None:
            return f"{ends} {self.what}"
        tunnel = self.what.split()[0] if self.vni is None else f"VXLAN vni {self.vni}"
        return f"{ends} {tunnel} [ {self.inner} ]"


class Capture(Listening):
    """tcpdump on one interface of a place; ``frames`` is what it has seen so far.

    Entered when tcpdump listens, so that nothing sent inside the ``with`` is missed. What is seen
    arrives a moment later: wait for the last frame that must come with :meth:`until`; that another
    did not come is known once a later one has. Raises InvalidConfig when tcpdump is not installed
    or does not understand ``expression``.
    """

    def __init__(self, place: Place, ifname: str, expression: str = "") -> None:
        self._place = place
        self._argv = ["tcpdump", "-i", ifname, "-n", "-U", "--immediate-mode", "-w", "-"]
        self._argv += expression.split()
        self._process: subprocess.Popen[bytes] | None = None
        self._captured = bytearray()
        super().__init__()

    def begin(self) -> None:
        """Start tcpdump and wait until it listens."""
        self._process = subprocess.Popen(
            self._place.command(self._argv),
            env=self._place.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stderr is not None
        said = b""
        while b"listening on" not in said:
            line = self._process.stderr.readline()
            if not line:
                raise InvalidConfig(
                    f"tcpdump: {said.decode(errors='replace').strip()}",
                    hint="apt-get install tcpdump",
                )
            said += line
        self.reader.start()

    def end(self) -> None:
        """End tcpdump; ``frames`` stays."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self.join()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    @property
    def frames(self) -> list[Frame]:
        """The frames so far, decoded, in the order of the wire."""
        return [decode(frame) for frame in read_pcap(bytes(self._captured))]

    def until(
        self, condition: Callable[[list[Frame]], T], what: str, patience_s: float = PATIENCE_S
    ) -> T:
        """Return the first true value of ``condition`` of the frames. Raises Unavailable."""
        return wait_until(lambda: condition(self.frames), deadline_s=patience_s, what=what)

    def read(self) -> None:
        """Gather tcpdump's output."""
        assert self._process is not None
        assert self._process.stdout is not None
        while data := os.read(self._process.stdout.fileno(), 1 << 16):
            self._captured += data


def read_pcap(data: bytes) -> Iterator[bytes]:
    """Yield the frames of a pcap file; a last one that is cut short is left out."""
    if len(data) < 24:
        return
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    at = 24
    while at + 16 <= len(data):
        (length,) = struct.unpack_from(f"{order}I", data, at + 8)
        at += 16
        if at + length <= len(data):
            yield data[at : at + length]
        at += length


def decode(frame: bytes) -> Frame:
    """Decode one Ethernet frame, and the one inside it if it is VXLAN."""
    target, source = _mac(frame[0:6]), _mac(frame[6:12])
    (kind,) = struct.unpack_from("!H", frame, 12)
    payload = frame[14:]
    if kind == _IPV4 and len(payload) >= 20:
        return _ipv4(source, target, len(frame), payload)
    if kind == _IPV6 and len(payload) >= 40:
        return _ipv6(source, target, len(frame), payload)
    if kind == _ARP and len(payload) >= 28:
        asks = "who has it?" if payload[7] == 1 else f"it is at {_mac(payload[8:14])}"
        ends = ipaddress.IPv4Address(payload[14:18]), ipaddress.IPv4Address(payload[24:28])
        return Frame(source, target, len(frame), f"ARP {asks}", *ends)
    return Frame(source, target, len(frame), f"ethertype {kind:#06x}")


def _ipv4(source: str, target: str, length: int, packet: bytes) -> Frame:
    header = (packet[0] & 15) * 4
    ends = ipaddress.IPv4Address(packet[12:16]), ipaddress.IPv4Address(packet[16:20])
    return _transport((source, target, length), ends, packet[8], packet[9], packet[header:])


def _ipv6(source: str, target: str, length: int, packet: bytes) -> Frame:
    ends = ipaddress.IPv6Address(packet[8:24]), ipaddress.IPv6Address(packet[24:40])
    return _transport((source, target, length), ends, packet[7], packet[6], packet[40:])


def _transport(
    ethernet: tuple[str, str, int],
    ends: tuple[IPAddress, IPAddress],
    ttl: int,
    protocol: int,
    payload: bytes,
) -> Frame:
    what = _PROTOCOLS.get(protocol, f"IP protocol {protocol}")
    if protocol in (1, 58) and payload:
        told = _ICMP.get((protocol, payload[0]), f"type {payload[0]}")
        return Frame(*ethernet, f"{what} {told}", *ends, ttl)
    if protocol == 4 and len(payload) >= 20:
        return Frame(*ethernet, what, *ends, ttl, inner=_ipv4("", "", len(payload), payload))
    if protocol not in (6, 17) or len(payload) < 8:
        return Frame(*ethernet, what, *ends, ttl)
    ports = struct.unpack_from("!HH", payload)
    if protocol == 17 and ports[1] in VXLAN_PORTS and len(payload) >= 8 + 8 + 14:
        vni = int.from_bytes(payload[12:15], "big")
        return Frame(*ethernet, "VXLAN", *ends, ttl, ports, vni, decode(payload[16:]))
    inner = None
    if protocol == 17 and ports[1] == UDP_TUNNEL_PORT and len(payload) >= 8 + 20:
        packet = payload[8:]
        inner = _ipv4("", "", len(packet), packet) if packet[0] >> 4 == 4 else None
    words = f"{what} {ports[0]} → {ports[1]}"
    return Frame(*ethernet, words, *ends, ttl, ports, inner=inner)


def _mac(data: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in data)
