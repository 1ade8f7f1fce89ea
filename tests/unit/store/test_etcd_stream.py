"""A stream's lines come out whole, however the network cuts them; its end and its errors are told.

The other end is a real socket.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator

import pytest

from netloom.store.etcd.stream import LineStream, Wake
from netloom.store.etcd.transport import Lost
from netloom.store.etcd.url import Endpoint

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def wake() -> Iterator[Wake]:
    wake = Wake()
    yield wake
    wake.close()


@pytest.fixture
def ends() -> Iterator[tuple[LineStream, socket.socket]]:
    ours, theirs = socket.socketpair()
    stream = LineStream(ours, Endpoint("h", 1))
    stream.send("/v3/watch", b"{}", {})
    theirs.recv(1000)
    yield stream, theirs
    stream.close()
    theirs.close()


def drain(stream: LineStream, wake: Wake) -> None:
    while True:
        stream.receive(5, wake)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_lines_come_out_whole_however_they_were_cut(
    ends: tuple[LineStream, socket.socket], wake: Wake
):
    stream, far = ends
    chance = random.Random(3)
    lines = [b'{"n": %d, "pad": "%s"}' % (n, b"x" * chance.randint(0, 300)) for n in range(60)]
    text = b"\n".join(lines) + b"\n"
    data = HEAD
    while text:
        size = chance.randint(1, 400)
        data, text = data + chunk(text[:size]), text[size:]
    came: list[bytes] = []
    while data:
        size = chance.randint(1, 90)
        far.sendall(data[:size])
        data = data[size:]
        came += stream.receive(5, wake)
    assert came == lines
    assert stream.status == 200


def test_silence_and_waking_both_end_the_wait(ends: tuple[LineStream, socket.socket], wake: Wake):
    stream, _ = ends
    assert stream.receive(0.01, wake) == []
    wake.set()
    assert stream.receive(60, wake) == []


def test_an_answer_that_is_an_error_comes_as_a_line_with_its_status(
    ends: tuple[LineStream, socket.socket], wake: Wake
):
    stream, far = ends
    body = json.dumps({"error": "etcdserver: no leader", "code": 14}).encode()
    far.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n" % len(body))
    far.sendall(body)
    lines: list[bytes] = []
    while not lines:
        lines = stream.receive(5, wake)
    assert lines == [body]
    assert stream.status == 503


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"", "closed the connection"),
        (HEAD[:20], "closed the connection"),
        (HEAD + b"5\r\n{", "closed the connection"),
        (HEAD + b"0\r\n\r\n", "ended the watch"),
        (HEAD + b"zz\r\n", "no chunk size"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not speak HTTP"),
    ],
)
def test_an_end_of_any_kind_is_told(
    ends: tuple[LineStream, socket.socket], wake: Wake, sent: bytes, why: str
):
    stream, far = ends
    far.sendall(sent)
    far.shutdown(socket.SHUT_WR)
    with pytest.raises(Lost, match=why):
        drain(stream, wake)
