"""Which member is asked, what is tried again and what never is, word by word of the protocol.

The members are scripts at the far end of socket pairs: what they say is what etcd was seen to say,
at moments that a real one cannot be brought to.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from netloom.model.errors import InvalidConfig, NetloomError, NotPermitted, Unavailable
from netloom.store.etcd.gateway import Gateway
from netloom.store.etcd.refusals import Refusal
from netloom.store.etcd.url import Endpoint, EtcdUrl

RANGE, TXN, LOGIN = "/v3/kv/range", "/v3/kv/txn", "/v3/auth/authenticate"
HANG_UP = b""
PATIENCE_S = 60.0  # no test waits this long unless it fails
#: What a member answers to a path and its headers: bytes of HTTP, or ``HANG_UP``.
Script = Callable[[str, str], bytes]


def said(data: object, status: str = "200 OK") -> bytes:
    body = json.dumps(data).encode()
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def refusal(code: int, message: str) -> bytes:
    return said({"error": message, "message": message, "code": code}, "503 Service Unavailable")


def well(_path: str, _head: str) -> bytes:
    return said({"header": {"cluster_id": "7", "revision": "3"}})


class Members:
    """Scripted members ``m1``, ``m2``, …; ``asked`` is who was asked for what, in order."""

    def __init__(self, *scripts: Script | None, user: str = "") -> None:
        self.asked: list[tuple[str, str]] = []
        self.connections: list[socket.socket] = []
        self._scripts = {f"m{number}": script for number, script in enumerate(scripts, 1)}
        endpoints = tuple(Endpoint(name, 2379) for name in self._scripts)
        self.gateway = Gateway(EtcdUrl(endpoints, user=user, password="s3cret"), self._dial)

    def _dial(self, endpoint: Endpoint, timeout_s: float) -> socket.socket:
        script = self._scripts[endpoint.host]
        if script is None:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.settimeout(timeout_s)
        self.connections += [ours, theirs]
        threading.Thread(target=self._serve, args=(endpoint.host, theirs), daemon=True).start()
        return ours

    def _serve(self, name: str, connection: socket.socket) -> None:
        script = self._scripts[name]
        assert script is not None
        with connection, connection.makefile("rb") as requests:
            while first := requests.readline():
                head = b"".join(iter(requests.readline, b"\r\n")).decode()
                length = next(
                    line for line in head.splitlines() if "content-length" in line.lower()
                )
                requests.read(int(length.partition(":")[2]))
                path = first.split()[1].decode()
                self.asked.append((name, path))
                answer = script(path, head)
                if answer == HANG_UP:
                    return
                connection.sendall(answer)


@pytest.fixture
def members() -> Iterator[Callable[..., Members]]:
    made: list[Members] = []

    def make(*scripts: Script | None, user: str = "") -> Members:
        made.append(Members(*scripts, user=user))
        return made[-1]

    yield make
    for one in made:
        one.gateway.close()
        for connection in one.connections:
            connection.close()


def in_turn(*answers: bytes | Script) -> Script:
    """Return a script that gives each answer once and the last one for ever."""
    left = list(answers)

    def script(path: str, head: str) -> bytes:
        answer = left.pop(0) if len(left) > 1 else left[0]
        return answer if isinstance(answer, bytes) else answer(path, head)

    return script


def hang_up(_path: str, _head: str) -> bytes:
    return HANG_UP


Make = Callable[..., Members]


def test_the_member_that_answered_last_is_asked_first(members: Make):
    cluster = members(None, well, well)
    for _ in range(3):
        cluster.gateway.call(RANGE, {})
    assert cluster.asked == [("m2", RANGE)] * 3


def test_a_read_goes_on_to_the_next_member_whatever_happened(members: Make):
    away = refusal(14, "etcdserver: request timed out")
    cluster = members(hang_up, in_turn(away), well)
    assert cluster.gateway.call(RANGE, {}).revision == 3
    assert [name for name, _ in cluster.asked] == ["m1", "m2", "m3"]


@pytest.mark.parametrize(
    "script",
    [
        hang_up,
        in_turn(refusal(14, "etcdserver: request timed out")),
        in_turn(refusal(14, "etcdserver: leader changed")),
        in_turn(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhalf"),
        in_turn(b"nonsense\r\n\r\n"),
        in_turn(said("no object")),
    ],
)
def test_a_change_of_unknown_outcome_is_said_to_be_so_and_not_repeated(
    members: Make, script: Script
):
    cluster = members(script, well)
    with pytest.raises(Unavailable, match="whether the change was made is not known") as caught:
        cluster.gateway.call(TXN, {}, repeat=False)
    assert "m1:2379" in str(caught.value)
    assert cluster.asked == [("m1", TXN)]


def test_a_change_that_no_member_can_have_made_is_taken_to_the_next(members: Make):
    cluster = members(None, in_turn(refusal(14, "etcdserver: no leader")), well)
    assert cluster.gateway.call(TXN, {}, repeat=False).endpoint.host == "m3"


def test_an_election_is_waited_for(members: Make):
    electing = refusal(14, "etcdserver: no leader")
    cluster = members(in_turn(electing, electing, well), in_turn(electing))
    assert cluster.gateway.call(TXN, {}, repeat=False).revision == 3


def test_closing_ends_the_wait_for_an_election(members: Make):
    asked = threading.Event()

    def electing(_path: str, _head: str) -> bytes:
        asked.set()
        return refusal(14, "etcdserver: no leader")

    cluster = members(electing)
    errors: list[Unavailable] = []

    def call() -> None:
        with pytest.raises(Unavailable) as caught:
            cluster.gateway.call(RANGE, {})
        errors.append(caught.value)

    caller = threading.Thread(target=call)
    caller.start()
    assert asked.wait(PATIENCE_S)
    cluster.gateway.close()
    before = len(cluster.asked)
    caller.join(PATIENCE_S)
    assert errors
    assert len(cluster.asked) <= before + 1, "it went on asking until its time was over"


def test_a_connection_that_was_closed_while_idle_costs_nothing(members: Make):
    """A change goes over a new connection instead of being of unknown outcome."""
    cluster = members(well)
    cluster.gateway.call(RANGE, {})
    cluster.connections[1].shutdown(socket.SHUT_RDWR)
    assert cluster.gateway.call(TXN, {}, repeat=False).revision == 3
    assert len(cluster.connections) == 4


def test_each_member_is_named_with_its_reason(members: Make):
    cluster = members(None, hang_up, in_turn(refusal(14, "etcdserver: server stopped")))
    with pytest.raises(Unavailable) as caught:
        cluster.gateway.call(RANGE, {})
    for reason in (
        "m1:2379: connection refused",
        "m2:2379: ",
        "m3:2379: etcdserver: server stopped",
    ):
        assert reason in str(caught.value)


def test_what_is_no_etcd_is_told_apart(members: Make):
    no_gateway = b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nNot Found"
    with pytest.raises(InvalidConfig, match="no JSON gateway") as caught:
        members(in_turn(no_gateway)).gateway.call(RANGE, {})
    assert "--enable-grpc-gateway" in caught.value.hint
    proxy = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nsorry"
    with pytest.raises(Unavailable, match="HTTP 502: sorry"):
        members(in_turn(proxy)).gateway.call(RANGE, {})


def test_what_the_caller_may_know_how_to_take_is_handed_on(members: Make):
    gone = refusal(11, "etcdserver: mvcc: required revision has been compacted")
    with pytest.raises(Refusal, match="compacted"):
        members(in_turn(gone), well).gateway.call(RANGE, {})


def logged_in(tokens: list[str], valid: set[str]) -> Script:
    """Return a member that deals ``tokens`` and takes the ``valid`` ones."""

    def script(path: str, head: str) -> bytes:
        if path == LOGIN:
            return said({"token": tokens.pop(0)})
        if any(f"Authorization: {token}\r\n" in head for token in valid):
            return well(path, head)
        return refusal(16, "etcdserver: invalid auth token")

    return script


def test_a_token_that_is_refused_is_renewed_once(members: Make):
    cluster = members(logged_in(["old", "new"], {"new"}), user="ann")
    assert cluster.gateway.call(TXN, {}, repeat=False).revision == 3
    assert [path for _, path in cluster.asked] == [LOGIN, TXN, LOGIN, TXN]


def test_a_token_that_is_refused_again_is_a_missing_right(members: Make):
    cluster = members(logged_in(["a", "b", "c"], set()), user="ann")
    with pytest.raises(NotPermitted, match="'ann'"):
        cluster.gateway.call(RANGE, {})


def test_one_token_serves_all_threads_that_come_at_once(members: Make):
    cluster = members(logged_in([f"t{n}" for n in range(20)], {"t0"}), user="ann")
    threads = [threading.Thread(target=cluster.gateway.call, args=(RANGE, {})) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert cluster.asked.count(("m1", LOGIN)) == 1
    assert cluster.asked.count(("m1", RANGE)) == 8


@pytest.mark.parametrize(
    ("code", "message", "kind", "hint"),
    [
        (7, "etcdserver: permission denied", NotPermitted, "grant-permission"),
        (8, "etcdserver: mvcc: database space exceeded", Unavailable, "etcdctl alarm disarm"),
        (3, "etcdserver: too many operations in txn request", InvalidConfig, "--max-txn-ops"),
        (3, "etcdserver: user name is empty", InvalidConfig, "?user="),
    ],
)
def test_what_etcd_refuses_is_said_with_the_remedy(
    members: Make, code: int, message: str, kind: type[NetloomError], hint: str
):
    with pytest.raises(kind) as caught:
        members(in_turn(refusal(code, message)), well).gateway.call(TXN, {}, repeat=False)
    assert hint in caught.value.hint
