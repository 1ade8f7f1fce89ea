"""A card that takes small pieces at once gets such from containers: nobody has to cut them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from netloom.kernel.namespaces import in_namespace, path
from netloom.lab.documents import default_document
from netloom.lab.host import LabHost
from netloom.lab.lab import Lab
from netloom.lab.place import Place
from netloom.lab.waiting import wait_until

#: A bulk, and what the card takes of it at once: some 13 packets.
BULK, AT_ONCE = 20_000_000, 20_000
PORT = 7070
LabUp = Callable[..., Lab]


def packets_of_card(host: LabHost) -> int:
    (card,) = host.json(["ip", "-s", "-j", "link", "show", "ens33"])
    return int(card["stats64"]["tx"]["packets"])


def send_bulk(client: Place, server: Place, address: str) -> None:
    def tcp(place: Place) -> socket.socket:
        return in_namespace(path(place.namespace), lambda: socket.create_server((address, PORT)))

    def drain(listener: socket.socket) -> int:
        accepted, _ = listener.accept()
        with accepted:
            return sum(iter(lambda: len(accepted.recv(1 << 20)), 0))

    with tcp(server) as listener, ThreadPoolExecutor(1) as other:
        drained = other.submit(drain, listener)
        mouth = in_namespace(
            path(client.namespace), lambda: socket.create_connection((address, PORT))
        )
        with mouth:
            mouth.sendall(bytes(BULK))
        assert drained.result() == BULK


def test_what_containers_send_in_bulk_goes_to_the_card_in_pieces_as_large_as_it_takes(
    lab_up: LabUp,
) -> None:
    """A larger piece is cut into packets before the card, which counts each of them then."""
    kinds = {"host-gw": "routed", "vxlan": "bridge"}
    networks = [
        {"name": name, "pools": [f"10.{number}.0.0/16"], "attachment": kind, "backend": name}
        for number, (name, kind) in enumerate(kinds.items(), 11)
    ]
    document = {**default_document(hosts=2, network=None), "networks": networks}
    lab = lab_up(document, run_agents=False)
    for host in lab.hosts:
        host.exec(["ip", "link", "set", "ens33", "gso_max_size", str(AT_ONCE)])
        host.start_agent()
    lab.settle()
    h1, h2 = lab.hosts
    for name in kinds:
        client, server = h1.run(f"{name}-c", networks=[name]), h2.run(f"{name}-s", networks=[name])
        address = server.address
        wait_until(lambda: client.pings(address), deadline_s=60, what=f"{name}")  # noqa: B023
        before = packets_of_card(h1)
        send_bulk(client, server, address)
        in_one = BULK / (packets_of_card(h1) - before)
        assert 3 * 1500 < in_one <= AT_ONCE, f"{name}: {in_one:.0f} bytes in a piece"
