"""Servers that tell each asker which source address they saw, and asking them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from netloom.kernel.namespaces import in_namespace

_LIMIT_S = 60.0


@contextmanager
def server(netns: str, port: int, kind: int = socket.SOCK_STREAM) -> Iterator[None]:
    """Tell every asker on ``port`` inside ``netns``, of both families, its source address."""
    listener = in_namespace(netns, lambda: _listener(port, kind))
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                if kind == socket.SOCK_STREAM:
                    channel, peer = listener.accept()
                    with channel:
                        channel.sendall(peer[0].encode())
                else:
                    _, peer = listener.recvfrom(100)
                    listener.sendto(peer[0].encode(), peer)
            except TimeoutError:
                continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        listener.close()


def _listener(port: int, kind: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6, kind)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::", port))
    listener.settimeout(0.1)
    if kind == socket.SOCK_STREAM:
        listener.listen(16)
    return listener


def ask(
    netns: str, address: str, port: int, *, source: str = "", kind: int = socket.SOCK_STREAM
) -> str:
    """Ask from inside ``netns``; return the source that was seen. OSError when unreachable."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def go() -> str:
        with socket.socket(family, kind) as channel:
            channel.settimeout(_LIMIT_S)
            if source:
                channel.bind((source, 0))
            channel.connect((address, port))
            channel.send(b"?")
            return channel.recv(100).decode().removeprefix("::ffff:")

    return in_namespace(netns, go)
