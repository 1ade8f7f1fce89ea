"""The local API's server, spoken to over real sockets by real processes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from netloom.agent.contracts import Request, Response
from netloom.agent.http import Server, parse_listen, serve, serve_public
from netloom.agent.talk import MAX_BODY_BYTES
from netloom.agent.wire import parse_error
from netloom.model.errors import (
    Bug,
    Conflict,
    Exhausted,
    InvalidConfig,
    KernelRejected,
    NetloomError,
    NotPermitted,
    Unavailable,
)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def echo(request: Request) -> Response:
    return Response(
        data={
            "query": request.query,
            "body": request.body.decode(),
            "uid": request.uid,
            "pid": request.pid,
        }
    )


def raises(error: Exception) -> Callable[[Request], Response]:
    def handler(request: Request) -> Response:
        raise error

    return handler


@pytest.fixture
def server(run_dir: Path) -> Iterator[Server]:
    with serve(run_dir / "a.sock", {("POST", "/echo"): echo, ("GET", "/echo"): echo}) as running:
        yield running


def call(
    path: Path, method: str, url: str, body: bytes | None = None
) -> tuple[int, dict[str, Any]]:
    connection = UnixConnection(path)
    try:
        connection.request(method, url, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def raw(path: Path, data: bytes) -> bytes:
    """Send ``data``, end the sending side, return all that comes back."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(str(path))
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        parts = []
        while part := sock.recv(65536):
            parts.append(part)
        return b"".join(parts)


def test_a_handler_gets_query_body_and_who_calls(server: Server) -> None:
    status, data = call(server.address, "POST", "/echo?a=1&b=%20x&c=", b"hello")
    assert status == 200
    assert data == {
        "query": {"a": "1", "b": " x", "c": ""},
        "body": "hello",
        "uid": os.getuid(),
        "pid": os.getpid(),
    }


def test_the_socket_is_open_to_its_owner_alone_from_its_first_moment(run_dir: Path) -> None:
    bound = serve(run_dir / "sub" / "a.sock", {})
    try:
        assert bound.address.stat().st_mode & 0o777 == 0o600
    finally:
        bound.stop()


def test_one_connection_carries_many_calls(server: Server) -> None:
    connection = UnixConnection(server.address)
    for number in range(3):
        connection.request("POST", "/echo", str(number).encode())
        first = connection.sock
        assert json.loads(connection.getresponse().read())["body"] == str(number)
        assert connection.sock is first
    connection.close()


def test_connection_close_is_honoured(server: Server) -> None:
    answer = raw(server.address, b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head = answer.split(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in head


def test_sixty_four_callers_at_once_are_all_in_their_handlers_together(run_dir: Path) -> None:
    """A barrier passes only when every call is being served at the same time."""
    barrier = threading.Barrier(64)

    def wait(request: Request) -> Response:
        barrier.wait(timeout=60)
        return Response(data={})

    with (
        serve(run_dir / "a.sock", {("GET", "/wait"): wait}) as running,
        ThreadPoolExecutor(64) as pool,
    ):
        answers = list(pool.map(lambda _: call(running.address, "GET", "/wait")[0], range(64)))
    assert answers == [200] * 64


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidConfig("bad", field="mtu", value=5, hint="h"), 400),
        (NotPermitted("no"), 403),
        (Conflict("taken"), 409),
        (Exhausted("none left"), 409),
        (Unavailable("away"), 503),
        (KernelRejected("add", "route 10.0.0.0/8", 17, "because"), 502),
        (Bug("broken"), 500),
    ],
)
def test_an_error_arrives_at_the_caller_as_the_same_error(
    run_dir: Path, error: NetloomError, status: int
) -> None:
    with serve(run_dir / "a.sock", {("GET", "/x"): raises(error)}) as running:
        found, document = call(running.address, "GET", "/x")
    again = parse_error(document)
    assert found == status
    assert document["exitCode"] == error.exit_code
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_an_unexpected_exception_is_answered_and_harms_no_other_call(
    run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    routes = {("GET", "/x"): raises(ZeroDivisionError("oops")), ("GET", "/echo"): echo}
    with serve(run_dir / "a.sock", routes) as running:
        connection = UnixConnection(running.address)
        connection.request("GET", "/x")
        answer = connection.getresponse()
        document = json.loads(answer.read())
        assert (answer.status, document["kind"]) == (500, "Bug")
        connection.request("GET", "/echo")
        assert connection.getresponse().status == 200
        connection.close()
    assert "ZeroDivisionError" in caplog.text


def test_an_answer_without_json_form_is_a_bug_and_not_a_hang(run_dir: Path) -> None:
    routes = {("GET", "/x"): lambda request: Response(data={"x": object()})}
    with serve(run_dir / "a.sock", routes) as running:
        status, document = call(running.address, "GET", "/x")
    assert (status, document["kind"]) == (500, "Bug")


def test_unknown_paths_and_methods_are_told_what_there_is(server: Server) -> None:
    status, document = call(server.address, "GET", "/ecco")
    assert (status, document["hint"]) == (404, "did you mean '/echo'?")
    status, document = call(server.address, "DELETE", "/echo")
    assert (status, document["hint"]) == (405, "GET, POST")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"complete garbage and more\r\n\r\n", 400),
        (b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"BREW /echo HTTP/1.1\r\n\r\n", 501),
        (b"POST /echo HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST /echo HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), 413),
    ],
)
def test_malformed_requests_are_answered_in_json_and_the_server_lives(
    server: Server, head: bytes, status: int
) -> None:
    answer = raw(server.address, head)
    line, _, rest = answer.partition(b"\r\n")
    assert line.split()[1] == str(status).encode()
    assert json.loads(rest.partition(b"\r\n\r\n")[2])["exitCode"] == 3
    assert call(server.address, "GET", "/echo")[0] == 200


def test_a_body_too_large_is_refused_while_it_is_still_being_sent(server: Server) -> None:
    head = b"POST /echo HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1)
    answer = raw(server.address, head + b"x" * (MAX_BODY_BYTES + 1))
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_caller_that_dies_halfway_through_its_body_has_nothing_done(run_dir: Path) -> None:
    called = threading.Event()

    def note(request: Request) -> Response:
        called.set()
        return Response(data={})

    with serve(run_dir / "a.sock", {("POST", "/x"): note}) as running:
        answer = raw(running.address, b"POST /x HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf")
    assert answer == b""
    assert not called.is_set()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_is_refused_before_anything_is_done(run_dir: Path) -> None:
    called = threading.Event()

    def note(request: Request) -> Response:
        called.set()
        return Response(data={})

    run_dir.chmod(0o755)
    with serve(run_dir / "a.sock", {("POST", "/x"): note}, mode=0o666) as running:
        stranger = textwrap.dedent(
            f"""
            import socket
            sock = socket.socket(socket.AF_UNIX)
            sock.connect({str(running.address)!r})
            sock.sendall(b"POST /x HTTP/1.1\\r\\nContent-Length: 2\\r\\n\\r\\n{{}}")
            print(sock.makefile().read())
            """
        )
        done = subprocess.run(
            ["/usr/bin/python3", "-I", "-S", "-c", stranger],
            user=65534,
            group=65534,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert done.stdout.startswith("HTTP/1.1 403 ")
    assert "user id 65534" in done.stdout
    assert not called.is_set()


def test_a_second_server_on_the_same_socket_is_refused_and_the_first_lives(server: Server) -> None:
    with pytest.raises(Conflict, match="another process answers"):
        serve(server.address, {})
    assert call(server.address, "GET", "/echo")[0] == 200


def test_a_foreign_listener_is_never_replaced(run_dir: Path) -> None:
    path = run_dir / "a.sock"
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(path))
        foreign.listen()
        with pytest.raises(Conflict, match="another process answers"):
            serve(path, {})
        assert path.is_socket()


def test_a_file_in_the_sockets_place_is_never_deleted(run_dir: Path) -> None:
    path = run_dir / "a.sock"
    path.write_text("precious")
    with pytest.raises(Conflict, match="not a socket"):
        serve(path, {})
    assert path.read_text() == "precious"


def test_the_socket_of_a_killed_server_is_taken_over(run_dir: Path) -> None:
    path = run_dir / "a.sock"
    program = (
        "import sys, signal; from netloom.agent.http import serve; "
        f"server = serve({str(path)!r}, {{}}); server.start(); print('up', flush=True); "
        "signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"up\n"
        with pytest.raises(Conflict):
            serve(path, {})
        first.send_signal(signal.SIGKILL)
        first.wait(timeout=60)
    assert path.is_socket()
    with serve(path, {("GET", "/echo"): echo}) as second:
        assert call(second.address, "GET", "/echo")[0] == 200


def test_of_many_that_start_at_once_over_a_stale_socket_exactly_one_wins(run_dir: Path) -> None:
    path = run_dir / "a.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    def attempt(_: int) -> Server | None:
        try:
            return serve(path, {})
        except Conflict:
            return None

    with ThreadPoolExecutor(8) as pool:
        winners = [one for one in pool.map(attempt, range(8)) if one]
    assert len(winners) == 1
    winners[0].stop()


def test_stop_lets_a_running_call_end_and_takes_the_socket_away(run_dir: Path) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow(request: Request) -> Response:
        inside.set()
        assert go_on.wait(timeout=60)
        return Response(data={"done": True})

    running = serve(run_dir / "a.sock", {("GET", "/slow"): slow})
    running.start()
    idle = UnixConnection(running.address)
    idle.connect()
    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(call, running.address, "GET", "/slow")
        assert inside.wait(timeout=60)
        stopped = pool.submit(running.stop, 60)
        go_on.set()
        assert answer.result(timeout=60) == (200, {"done": True})
        stopped.result(timeout=60)
    assert not (run_dir / "a.sock").exists()
    assert idle.sock.recv(1) == b""
    idle.close()
    running.stop()  # repeats are safe


def test_stop_leaves_a_successors_socket_alone(run_dir: Path) -> None:
    """Somebody moved the file away and another listens there now: that one is not ours."""
    path = run_dir / "a.sock"
    first = serve(path, {})
    path.unlink()
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(path))
        first.stop()
        assert path.is_socket()


def test_a_path_too_long_for_a_socket_is_refused_by_name(run_dir: Path) -> None:
    with pytest.raises(InvalidConfig, match="more than 106 bytes"):
        serve(run_dir / ("x" * 110), {})


def test_the_public_listener_serves_public_paths_only(run_dir: Path) -> None:
    routes = {("GET", "/healthz"): echo, ("GET", "/v1/status"): echo, ("POST", "/metrics"): echo}
    with serve_public("127.0.0.1:0", routes) as running:
        host, port = running.address
        connection = http.client.HTTPConnection(host, port, timeout=60)
        found = {}
        for method, path in routes:
            connection.request(method, path, headers={"Content-Length": "0"})
            answer = connection.getresponse()
            found[path] = answer.status
            answer.read()
        connection.close()
        with pytest.raises(Conflict, match="in use"):
            serve_public(f"{host}:{port}", routes)
    assert found == {"/healthz": 200, "/v1/status": 404, "/metrics": 404}


@pytest.mark.parametrize("text", ["9191", ":9191", "localhost:9191", "127.0.0.1:70000", "::1:80"])
def test_a_listen_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match="ADDRESS:PORT"):
        parse_listen(text)


def test_listen_addresses_of_both_families_are_read() -> None:
    assert parse_listen("127.0.0.1:9191") == ("127.0.0.1", 9191)
    assert parse_listen("[::1]:0") == ("::1", 0)
