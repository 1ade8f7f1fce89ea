"""A socket filter that drops notifications inside the kernel, before they wake or cost anything.

Thousands of our own writes come back as notifications, and every ARP entry tells of each change of
its state. Classic BPF over the bytes of one netlink message; loads are big-endian.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import Iterable

from netloom.kernel import wire

_SO_ATTACH_FILTER = 26
_LOAD_WORD, _LOAD_BYTE, _IF_EQUAL, _IF_ANY_BIT, _RETURN = 0x20, 0x30, 0x15, 0x45, 0x06
_INSTRUCTION = struct.Struct("=HBBI")
_KEEP, _DROP = 0xFFFFFFFF, 0

_LOW_BYTE = 0 if sys.byteorder == "little" else 1  # of a 16-bit number
_PORT, _TYPE = 12, 4 + _LOW_BYTE
_NEIGHBOUR_FAMILY, _NEIGHBOUR_STATE = 16, 24 + _LOW_BYTE
_ROUTE_TABLE, _ROUTE_PROTOCOL = 20, 21

#: An instruction, or a label. Jumps name labels; "" is the next instruction.
_Line = tuple[int, int, str, str] | str


def attach(sock: socket.socket, own_ports: Iterable[int]) -> None:
    """Let through only what may be news.

    Dropped: the echo of requests from ``own_ports``; state changes of learned neighbours;
    routes of other tables and those that the kernel makes itself (addresses tell of them); traffic
    control set up by the kernel itself.
    """
    program = _assemble(_program(own_ports))
    code = ctypes.create_string_buffer(program, len(program))
    count = len(program) // _INSTRUCTION.size
    pointer = struct.pack("@HP", count, ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)


def _program(own_ports: Iterable[int]) -> list[_Line]:
    lines: list[_Line] = [(_LOAD_WORD, _PORT, "", "")]
    for port in own_ports:
        seen = int.from_bytes(port.to_bytes(4, sys.byteorder), "big")
        lines.append((_IF_EQUAL, seen, "drop", ""))
    lines.append((_LOAD_BYTE, _TYPE, "", ""))
    for kind in (wire.RTM_NEWNEIGH, wire.RTM_DELNEIGH):
        lines.append((_IF_EQUAL, kind, "neighbour", ""))
    for kind in (wire.RTM_NEWROUTE, wire.RTM_DELROUTE):
        lines.append((_IF_EQUAL, kind, "route", ""))
    for kind in range(wire.RTM_NEWQDISC, wire.RTM_DELTFILTER + 1):
        lines.append((_IF_EQUAL, kind, "by a process", ""))
    return [
        *lines,
        (_RETURN, _KEEP, "", ""),
        "neighbour",
        (_LOAD_BYTE, _NEIGHBOUR_FAMILY, "", ""),
        (_IF_EQUAL, wire.AF_BRIDGE, "keep", ""),
        (_LOAD_BYTE, _NEIGHBOUR_STATE, "", ""),
        (_IF_ANY_BIT, wire.NUD_PERMANENT, "keep", ""),
        "by a process",  # the kernel's own notifications have port 0
        (_LOAD_WORD, _PORT, "", ""),
        (_IF_EQUAL, 0, "drop", "keep"),
        "route",
        (_LOAD_BYTE, _ROUTE_TABLE, "", ""),
        (_IF_EQUAL, wire.RT_TABLE_MAIN, "", "drop"),
        (_LOAD_BYTE, _ROUTE_PROTOCOL, "", ""),
        (_IF_EQUAL, wire.RTPROT_KERNEL, "drop", "keep"),
        "keep",
        (_RETURN, _KEEP, "", ""),
        "drop",
        (_RETURN, _DROP, "", ""),
    ]


def _assemble(lines: Iterable[_Line]) -> bytes:
    labels: dict[str, int] = {}
    instructions: list[tuple[int, int, str, str]] = []
    for line in lines:
        if isinstance(line, str):
            labels[line] = len(instructions)
        else:
            instructions.append(line)
    code = b""
    for place, (operation, operand, yes, no) in enumerate(instructions):
        jumps = [labels[label] - place - 1 if label else 0 for label in (yes, no)]
        code += _INSTRUCTION.pack(operation, *jumps, operand)
    return code
