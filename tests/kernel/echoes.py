"""Numbered echo requests whose answers are all waited for. Not a test.

ping(8) gives its last answers twice the longest round trip that it saw: too little for a machine
that is busy with something else just then.
"""

from __future__ import annotations

import socket
import struct
import threading
import time

from tests.conftest import Netns

COUNT, APART_S = 400, 0.005
_REQUEST, _REPLY = 8, 0
_IDENT = 0x4E4C
_SO_RCVBUFFORCE = 33


class Echoes:
    """``COUNT`` requests from a namespace to an address, ``APART_S`` or more apart; it begins."""

    def __init__(self, place: Netns, target: str) -> None:
        self._socket = place.call(
            lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        )
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 4 << 20)
        self._socket.connect((target, 0))
        self._sender = threading.Thread(target=self._send, daemon=True)
        self._sender.start()

    def lost(self, patience_s: float) -> set[int]:
        """Return the numbers that were not answered, once there are none or time is over."""
        self._sender.join()
        left, deadline = set(range(COUNT)), time.monotonic() + patience_s
        with self._socket:
            while left and (left_s := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left_s)
                try:
                    data = self._socket.recv(2048)
                except TimeoutError:
                    break
                kind, _, _, ident, number = struct.unpack_from("!BBHHH", data, (data[0] & 15) * 4)
                if (kind, ident) == (_REPLY, _IDENT):
                    left.discard(number)
        return left

    def _send(self) -> None:
        for number in range(COUNT):
            # The sum over the header alone: it has no data.
            total = (_REQUEST << 8) + _IDENT + number
            checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
            self._socket.send(struct.pack("!BBHHH", _REQUEST, 0, checksum, _IDENT, number))
            time.sleep(APART_S)
