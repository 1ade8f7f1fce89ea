"""The client against a real server, and against what may stand in a server's place."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from netloom.agent.contracts import Request, Response
from netloom.agent.http import serve
from netloom.cli.client import Client
from netloom.model.errors import Bug, Exhausted, InvalidConfig, Unavailable


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nl-") as folder:
        yield Path(folder)


def test_data_goes_there_and_back(run_dir: Path) -> None:
    def echo(request: Request) -> Response:
        return Response(body=request.body)

    with serve(run_dir / "a.sock", {("POST", "/x"): echo}):
        assert Client(run_dir / "a.sock").post("/x", {"a": [1]}) == {"a": [1]}


def test_the_agents_error_is_raised_here_as_the_same_error(run_dir: Path) -> None:
    def refuse(request: Request) -> Response:
        raise Exhausted("no address left in 10.0.0.0/30", hint="add a pool")

    with (
        serve(run_dir / "a.sock", {("GET", "/x"): refuse}),
        pytest.raises(Exhausted, match="no address left") as caught,
    ):
        Client(run_dir / "a.sock").get("/x")
    assert (caught.value.hint, caught.value.exit_code) == ("add a pool", 4)


def test_an_unknown_path_is_an_error_too(run_dir: Path) -> None:
    with serve(run_dir / "a.sock", {}), pytest.raises(InvalidConfig, match="no such path"):
        Client(run_dir / "a.sock").get("/x")


def test_no_agent_is_unavailable_with_the_path_and_the_remedy(run_dir: Path) -> None:
    path = run_dir / "a.sock"
    with pytest.raises(Unavailable, match="no such socket") as caught:
        Client(path).get("/x")
    assert str(path) in str(caught.value)
    assert "systemctl start netloom" in caught.value.hint
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(Unavailable, match="nobody listens"):
        Client(path).get("/x")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", Unavailable),
        (b"SSH-2.0-OpenSSH\r\n", Unavailable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", Unavailable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<ht>", Bug),
    ],
)
def test_an_agent_that_dies_or_is_none_is_told_apart(
    run_dir: Path, answer: bytes, error: type[Exception]
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run_dir / "a.sock"))
        listener.listen()

        def once() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=once)
        thread.start()
        with pytest.raises(error):
            Client(run_dir / "a.sock", timeout_s=60).get("/x")
        thread.join()


def test_an_agent_that_is_wedged_is_unavailable_after_the_time_limit(run_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run_dir / "a.sock"))
        listener.listen()
        with pytest.raises(Unavailable, match=r"did not answer within 0.2 s"):
            Client(run_dir / "a.sock", timeout_s=0.2).get("/x")


def test_who_listens_is_known_whether_or_not_he_answers(run_dir: Path) -> None:
    client = Client(run_dir / "a.sock", timeout_s=20)
    assert not client.listened(), "no socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run_dir / "a.sock"))
        assert not client.listened(), "one that nobody listens on"
        listener.listen()
        assert client.listened()
    assert not client.listened(), "one whose listener is gone"


def test_who_has_no_room_for_another_call_listens(run_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as waiting:
        listener.bind(str(run_dir / "a.sock"))
        listener.listen(0)
        for _ in range(2):
            one = waiting.enter_context(socket.socket(socket.AF_UNIX))
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(str(run_dir / "a.sock"))
        assert Client(run_dir / "a.sock", timeout_s=0.1).listened()
