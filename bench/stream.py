"""What a way costs in bulk: one thread sends a piece of a TCP stream, and receives it.

All of the way is done in its system calls, the acknowledgement's as well, so the quickest of many
batches is what the processor does for it, whatever else the machine does. A stream between two
threads also waits: for the other processor, and for its congestion control.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from netloom.kernel.namespaces import in_namespace, path
from netloom.lab.place import Place

#: Full packets in a piece: as many as leave a sender at once.
_PACKETS = 40
_WARM_UP, _BATCHES, _BATCH = 400, 100, 20


class Stream:
    """A TCP connection: the ends at which is sent and received."""

    def __init__(self, mouth: socket.socket, ear: socket.socket) -> None:
        self._mouth, self._ear = mouth, ear
        mouth.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = mouth.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) * _PACKETS
        self._piece, self._buffer = bytes(size), bytearray(size)
        self._carry(_WARM_UP)

    def quickest_us(self) -> float:
        """Return what one piece takes in the quickest batch."""
        quickest = float("inf")
        for _ in range(_BATCHES):
            begun = time.perf_counter()
            self._carry(_BATCH)
            quickest = min(quickest, (time.perf_counter() - begun) / _BATCH * 1e6)
        return quickest

    def _carry(self, pieces: int) -> None:
        for _ in range(pieces):
            self._mouth.sendall(self._piece)
            left = len(self._piece)
            while left:
                left -= self._ear.recv_into(self._buffer)


@contextmanager
def streaming(client: Place, server: Place, address: str) -> Iterator[Stream]:
    """Connect two places."""

    def there() -> socket.socket:
        return socket.create_server((address, 0))

    with in_namespace(path(server.namespace), there) as listener:
        place = listener.getsockname()[:2]
        mouth = in_namespace(path(client.namespace), lambda: socket.create_connection(place))
        with mouth, listener.accept()[0] as ear:
            yield Stream(mouth, ear)
