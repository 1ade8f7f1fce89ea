"""Both fronts when the other side fails: gone, dead halfway, silent, foreign, full."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from netloom.agent.http import serve
from netloom.drivers.cni import build, codes, front
from netloom.drivers.cni.server import ANSWER_TYPE, routes
from netloom.drivers.cni.versions import SUPPORTED

from .conftest import CONFIG, Caller, Memory

OK = b"HTTP/1.1 200 OK\r\nContent-Type: " + ANSWER_TYPE.encode() + b"\r\n"


class Scripted:
    """A listener that reads a request's head, sends what it was told, and closes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answer = b""
        self.silent = False
        self.seen = b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._ended = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(BrokenPipeError):
                self.seen = connection.recv(1 << 16)
                if self.silent:
                    self._ended.wait(30)
                connection.sendall(self.answer)

    def close(self) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Scripted]:
    listener = Scripted(tmp_path / "scripted.sock")
    yield listener
    listener.close()


@pytest.fixture
def alone(front: tuple[str, ...], tmp_path: Path) -> Caller:
    """Return a runtime whose agent is not there."""
    return Caller(front, tmp_path / "scripted.sock", "/run/netns/nl-none")


def test_the_three_lists_of_versions_are_one() -> None:
    source = build.SOURCE.read_text()
    assert "".join(f'\\"{version}\\",' for version in SUPPORTED).rstrip(",") in source
    assert front.SUPPORTED == SUPPORTED
    assert ANSWER_TYPE in source
    assert ANSWER_TYPE.encode() == front.ANSWER_TYPE


def test_every_error_code_is_in_the_published_table() -> None:
    page = Path(__file__).parents[3] / "docs" / "cni.md"
    rows = {line.split("|")[1].strip() for line in page.read_text().splitlines() if "|" in line}
    known = {str(value) for value in vars(codes).values() if isinstance(value, int)}
    assert known <= rows


def test_version_is_answered_without_an_agent(alone: Caller) -> None:
    answer = alone("VERSION", CNI_CONTAINERID=None, CNI_NETNS=None, CNI_IFNAME=None)
    assert answer.code == 0
    assert answer.document == {"cniVersion": "1.1.0", "supportedVersions": list(SUPPORTED)}
    assert alone("VERSION", {"cniVersion": "0.4.0"}).document["cniVersion"] == "0.4.0"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"cniVersion": "1\\"0"}', b"\x00\xff"])
def test_version_does_not_depend_on_stdin(alone: Caller, body: bytes) -> None:
    answer = alone("VERSION", body)
    assert (answer.code, answer.document["cniVersion"]) == (0, "1.1.0")


@pytest.mark.parametrize(
    ("command", "code"), [("ADD", 11), ("DEL", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50)]
)
def test_without_an_agent_the_socket_and_the_remedy_are_named(
    alone: Caller, command: str, code: int
) -> None:
    answer = alone(command, {"cniVersion": "1.0.0"})
    assert answer.code == 1
    assert answer.document["cniVersion"] == "1.0.0"
    assert answer.document["code"] == code
    assert str(alone.socket) in answer.document["msg"]
    assert "systemctl status netloom" in answer.document["details"]


def test_a_socket_that_nobody_listens_on_any_more_is_no_other_case(alone: Caller) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(alone.socket))
    stale.close()
    assert alone("ADD").document["code"] == 11


@pytest.mark.parametrize("stale", [True, False], ids=["killed", "stopped"])
def test_an_agent_that_is_being_restarted_is_waited_for(
    alone: Caller, memory: Memory, stale: bool
) -> None:
    """The call begins while nobody listens and ends well, since the agent comes back."""
    if stale:
        left_behind = socket.socket(socket.AF_UNIX)
        left_behind.bind(str(alone.socket))
        left_behind.close()
    process = subprocess.Popen(
        alone.command,
        env=alone.variables("DEL", NETLOOM_CNI_PATIENCE="60"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(CONFIG).encode())
    process.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    with serve(alone.socket, routes(memory)):
        assert process.wait(60) == 0


def test_a_caller_without_rights_is_told_to_be_root(
    compiled_front: Path, tmp_path: Path, agent: Path
) -> None:
    """Both fronts, as user nobody, against the real server's socket of mode 0600."""
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    copy = tmp_path / "netloom-cni"
    copy.write_bytes(compiled_front.read_bytes())
    copy.chmod(0o755)
    script = tmp_path / "front.py"
    script.write_bytes(build.FALLBACK.read_bytes())
    for command in ([str(copy)], ["/usr/bin/python3", "-I", "-S", str(script)]):
        answer = Caller((*as_nobody, *command), agent, "")("STATUS")
        assert answer.document["code"] == 102
        assert str(agent) in answer.document["msg"]


HALVES = [
    b"",
    b"HTTP/1.1 200 OK\r\n",
    OK + b"Content-Length: 5\r\n\r\n",
    OK + b"Content-Length: 5\r\n\r\nabcd",
    OK + b"Content-Length: 5\r\n\r\nabcdef",
    OK + b"Content-Length: x\r\n\r\n",
    OK + b"\r\n",
    OK + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
    b"nonsense\r\n\r\n",
    b"\x00\x00\r\n\r\n",
]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(("command", "code"), [("ADD", 11), ("STATUS", 50)])
def test_an_answer_that_is_not_whole_is_never_taken_for_one(
    alone: Caller, scripted: Scripted, half: bytes, command: str, code: int
) -> None:
    scripted.answer = half
    answer = alone(command)
    assert answer.code == 1
    assert answer.document["code"] == code
    assert "went away" in answer.document["msg"]


def test_an_agent_that_keeps_silent_is_waited_for_within_the_limit(
    alone: Caller, scripted: Scripted
) -> None:
    scripted.silent = True
    for command, code in (("ADD", 11), ("STATUS", 50)):
        answer = alone(command, {"cniVersion": "0.4.0"}, NETLOOM_CNI_TIMEOUT="1")
        assert answer.code == 1
        assert answer.document["code"] == code
        assert answer.document["cniVersion"] in ("0.4.0", "1.1.0")
        assert "1 s" in answer.document["msg"]


def test_a_runtime_that_never_ends_stdin_is_waited_for_within_the_limit(alone: Caller) -> None:
    reader, writer = os.pipe()
    done = subprocess.run(
        alone.command,
        stdin=reader,
        env=alone.variables("ADD", NETLOOM_CNI_TIMEOUT="1"),
        capture_output=True,
        timeout=60,
        check=False,
    )
    os.close(reader)
    os.close(writer)
    assert json.loads(done.stdout)["code"] == 11


@pytest.mark.parametrize(("status", "code"), [(403, 102), (404, 999), (500, 999)])
def test_an_answer_that_is_not_cnis_becomes_an_error_that_is(
    alone: Caller, scripted: Scripted, status: int, code: int
) -> None:
    body = b'{"error": "no \\"such\\" \xc3\xbc path"}\n'
    head = b"HTTP/1.1 %d Odd\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    scripted.answer = head % (status, len(body)) + body
    answer = alone("ADD")
    assert (answer.code, answer.document["code"]) == (1, code)
    assert f"HTTP {status}" in answer.document["msg"]
    assert "such" in answer.document["msg"]


def test_a_large_answer_arrives_whole(alone: Caller, scripted: Scripted) -> None:
    body = json.dumps({"x": "y" * 3_000_000}).encode()
    scripted.answer = OK + b"content-length: %d\r\n\r\n" % len(body) + body
    answer = alone("ADD")
    assert (answer.code, answer.text.encode()) == (0, body)


def test_a_large_configuration_arrives_whole(call: Caller) -> None:
    padding = {"padding": "x" * 2_000_000, "name": "net"}
    assert call("ADD", padding).code == 0


def test_a_configuration_beyond_all_measure_is_refused(call: Caller) -> None:
    answer = call("ADD", b" " * ((8 << 20) + 1))
    assert answer.code == 1
    assert answer.document["code"] == 5


@pytest.mark.parametrize("text", ['"%s"', '"\\u002f%s"', '"\\/%s"'])
def test_the_socket_may_be_named_by_the_configuration(
    alone: Caller, scripted: Scripted, text: str
) -> None:
    scripted.answer = OK + b"Content-Length: 0\r\n\r\n"
    path = text % str(scripted.path).removeprefix("/" if "\\" in text else "")
    body = b'{"a": {"agentSocket": "/wrong"}, "b": "agentSocket", "agentSocket" : %s}'
    answer = alone("DEL", body % path.encode(), NETLOOM_SOCKET=None)
    assert (answer.code, answer.text) == (0, "")
    assert scripted.seen.startswith(b"POST /cni/DEL HTTP/1.1\r\n")


def test_the_environments_socket_beats_the_configurations(
    alone: Caller, scripted: Scripted
) -> None:
    scripted.answer = OK + b"Content-Length: 0\r\n\r\n"
    assert alone("DEL", {"agentSocket": "/wrong"}).code == 0


@pytest.mark.parametrize(
    ("config", "variable", "code"),
    [({"agentSocket": "/" + "x" * 107}, None, 7), ({}, "/" + "x" * 107, 4), ({}, "/x" * 9999, 4)],
)
def test_a_socket_path_longer_than_the_kernel_takes_is_named(
    alone: Caller, config: dict[str, str], variable: str | None, code: int
) -> None:
    document = alone("ADD", config, NETLOOM_SOCKET=variable).document
    assert document["code"] == code
    assert ("NETLOOM_SOCKET" if variable else "agentSocket") in document["msg"]


def test_a_socket_path_as_long_as_the_kernel_takes_is_used(alone: Caller) -> None:
    path = "/" + "x" * 106
    document = alone("ADD", NETLOOM_SOCKET=path).document
    assert document["code"] == 11
    assert path in document["msg"]


def test_both_fronts_send_the_same_bytes(
    compiled_front: Path, scripted: Scripted, tmp_path: Path
) -> None:
    scripted.answer = OK + b"Content-Length: 0\r\n\r\n"
    sent = []
    python = (sys.executable, "-I", "-S", str(build.FALLBACK))
    for command in ((str(compiled_front),), python):
        caller = Caller(command, scripted.path, "/proc/1/ns/net")
        caller("ADD", CNI_ARGS="a=b;c=%\r\n\u00fc\x7f ", TRACESTATE="x=1", BAGGAGE="k=v,l=w")
        sent.append(scripted.seen)
    assert sent[0] == sent[1]
    assert sent[0].endswith(json.dumps(CONFIG).encode())


def test_the_python_front_loads_nothing_that_is_slow() -> None:
    """Its whole purpose is a start like a bare interpreter's: no json, re, os or socket."""
    program = (
        "import sys; before = set(sys.modules); sys.argv = ['front']\n"
        f"source = open({str(build.FALLBACK)!r}).read()\n"
        "exec(compile(source, 'front', 'exec'), {'__name__': 'front'})\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"_socket", "_signal", "time"}


def test_what_is_installed_starts_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for compiled in (build.COMPILED, tmp_path / "absent"):
        monkeypatch.setattr(build, "COMPILED", compiled)
        target = build.install(tmp_path / "bin" / "netloom-cni")
        env = {"CNI_COMMAND": "VERSION"}
        done = subprocess.run(
            [target], env=env, stdin=subprocess.DEVNULL, capture_output=True, check=True
        )
        assert json.loads(done.stdout)["supportedVersions"] == list(SUPPORTED)
        assert [path.name for path in target.parent.iterdir()] == ["netloom-cni"]


def test_without_a_compiler_the_build_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "/nonexistent/cc")
    assert "nonexistent" in build.compile_front(tmp_path / "out")
    monkeypatch.setenv("CC", "false")
    assert build.compile_front(tmp_path / "out")
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "compiler" in build.compile_front(tmp_path / "out")
    assert not (tmp_path / "out").exists()
