#!/usr/bin/env -S python3 -I -S
"""netloom-cni in Python: what front.c does, for machines without a C compiler.

A runtime starts it once per container, so it imports only what is built into the interpreter
(``_socket`` instead of ``socket``, ``posix`` instead of ``os``) and nothing of Netloom: most of its
time is the interpreter's own start. ``json`` is loaded where something is unusual: an error, or a
configuration that names its own socket. One table of tests holds the two fronts together.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub for it
import _socket
import posix
import sys
import time

SUPPORTED = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
COMMANDS = (b"ADD", b"DEL", b"CHECK", b"GC", b"STATUS", b"VERSION")
DEFAULT_SOCKET = b"/run/netloom/agent.sock"
ANSWER_TYPE = b"application/vnd.netloom.cni+json"
LOOK = "is it running? look with: systemctl status netloom"
LIMIT_BYTES = 8 << 20
LIMIT_S = 60
PATIENCE_S = 2  # an agent that is being upgraded is back within it
MAX_SOCKET_PATH = 107  # sun_path holds 108 bytes and ends in NUL

BAD_ENVIRONMENT, IO_FAILURE, INVALID_CONFIG, TRY_AGAIN_LATER = 4, 5, 7, 11
NOT_AVAILABLE, NOT_PERMITTED, BUG = 50, 102, 999

_HEADERS = (
    (b"CNI_CONTAINERID", b"X-CNI-ContainerID"),
    (b"CNI_NETNS", b"X-CNI-NetNS"),
    (b"CNI_IFNAME", b"X-CNI-IfName"),
    (b"CNI_ARGS", b"X-CNI-Args"),
    (b"CNI_PATH", b"X-CNI-Path"),
    (b"CNI_NETNS_OVERRIDE", b"X-CNI-NetNS-Override"),
    (b"TRACEPARENT", b"Traceparent"),
    (b"TRACESTATE", b"Tracestate"),
    (b"BAGGAGE", b"Baggage"),
)
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/:=,;@+")


class Failed(Exception):
    """The call ends with a CNI error: code, message, details."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(code, message, details)
        self.code = code
        self.message = message
        self.details = details


def read_all(fd: int, what: str) -> bytes:
    """Read to the end. Raises OSError; Failed when there is more than the limit."""
    chunks = []
    size = 0
    while chunk := posix.read(fd, 1 << 16):
        chunks.append(chunk)
        size += len(chunk)
        if size > LIMIT_BYTES:
            raise Failed(IO_FAILURE, f"{what} has more than {LIMIT_BYTES} bytes")
    return b"".join(chunks)


def write_all(data: bytes) -> None:
    """Print ``data``; a reader that went away ends the program."""
    try:
        while data:
            data = data[posix.write(1, data) :]
    except OSError:
        posix._exit(1)


def find_string(config: bytes, key: str) -> str | None:
    """Return a string of the outermost object; what is not JSON is for the agent to refuse."""
    if key.encode() not in config:
        return None
    import json  # noqa: PLC0415  # 5 ms that an ordinary call does not pay

    try:
        document = json.loads(config)
    except (ValueError, RecursionError):
        return None
    value = document.get(key) if isinstance(document, dict) else None
    return value if isinstance(value, str) else None


def version_of(config: bytes) -> str:
    """Return the version that an answer of our own is written in."""
    version = find_string(config, "cniVersion") or ""
    return version if 0 < len(version) < 16 and not version.strip("0123456789.") else SUPPORTED[-1]


def header(name: bytes, value: bytes) -> bytes:
    """Render a header; every byte that is not plain is percent-encoded."""
    coded = b"".join(bytes((b,)) if b in _PLAIN else b"%%%02X" % b for b in value)
    return name + b": " + coded + b"\r\n"


def build_request(command: bytes, environ: dict[bytes, bytes], config: bytes) -> bytes:
    """Render the HTTP request that carries the call to the agent."""
    lines = [b"POST /cni/%s HTTP/1.1\r\nHost: netloom\r\n" % command]
    lines += [header(to, value) for name, to in _HEADERS if (value := environ.get(name, b""))]
    try:  # which namespace the path means to us: the agent may see another one
        netns = posix.stat(environ.get(b"CNI_NETNS", b""))
        lines.append(b"X-CNI-NetNS-Inode: %d:%d\r\n" % (netns.st_dev, netns.st_ino))
    except OSError:
        pass
    lines.append(b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(config))
    return b"".join(lines) + b"Connection: close\r\n\r\n" + config


def find_socket(environ: dict[bytes, bytes], config: bytes) -> bytes:
    """Return the agent's socket: environment, configuration, default. Raises Failed."""
    wanted = environ.get(b"NETLOOM_SOCKET", b"")
    path = wanted or (find_string(config, "agentSocket") or "").encode() or DEFAULT_SOCKET
    if len(path) > MAX_SOCKET_PATH or b"\0" in path:
        name, code = ("NETLOOM_SOCKET", BAD_ENVIRONMENT) if wanted else ("agentSocket", 7)
        raise Failed(code, f"{name}: not a path of at most {MAX_SOCKET_PATH} bytes")
    return path


def number(environ: dict[bytes, bytes], name: bytes, low: int, high: int, fallback: int) -> int:
    """Return a whole number of the environment; ``fallback`` unless it is in ``low..high``."""
    text = environ.get(name, b"")
    value = int(text) if text.isdigit() and len(text) < 10 else -1
    return value if low <= value <= high else fallback


def reach(path: bytes, tries: int, away: int) -> _socket.socket:
    """Connect; where nobody listens, look again ``tries`` times. Raises Failed."""
    shown = path.decode("ascii", "replace")
    while True:
        agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            agent.connect(path)
            return agent
        except PermissionError:
            text = f"may not use the agent's socket {shown}"
            raise Failed(NOT_PERMITTED, text, "run it as root") from None
        except OSError as error:
            absent = isinstance(error, (FileNotFoundError, ConnectionRefusedError))
            if not absent or tries <= 0:
                text = f"cannot reach Netloom's agent at {shown}: {error.strerror}"
                raise Failed(away, text, LOOK) from None
        agent.close()
        tries -= 1
        time.sleep(0.02)


def exchange(agent: _socket.socket, request: bytes) -> bytes:
    """Send the request and return the answer, or as much of it as came."""
    try:  # noqa: SIM105  # contextlib is an import; an agent that refuses early has answered
        agent.sendall(request)
    except OSError:
        pass
    chunks = []
    try:
        while chunk := agent.recv(1 << 16):
            chunks.append(chunk)
    except OSError:
        pass  # what is missing is noticed by the answer's length
    return b"".join(chunks)


def take_apart(answer: bytes, path: bytes, away: int) -> tuple[int, bytes]:
    """Return the exit code and the body to print. Raises Failed when the answer is not whole."""
    shown = path.decode("ascii", "replace")
    head, end, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    words = status.split()
    if not end or len(words) < 2 or not words[1].isdigit():
        raise Failed(away, f"the agent at {shown} went away before it had answered", LOOK)
    fields = {name.lower(): value.strip() for name, _, value in (x.partition(b":") for x in lines)}
    if fields.get(b"content-length", b"") != b"%d" % len(body):
        raise Failed(away, f"the agent at {shown} went away in the middle of its answer", LOOK)
    if not fields.get(b"content-type", b"").startswith(ANSWER_TYPE):
        said = body[:200].decode("utf-8", "replace")
        text = f"the agent at {shown} answered HTTP {int(words[1])}: {said}"
        code = NOT_PERMITTED if words[1] == b"403" else BUG
        raise Failed(code, text, "is the agent of the same version?")
    return (0 if words[1] == b"200" else 1), body


def answer_version() -> bytes:
    """Return the answer to VERSION; it does not depend on stdin, so a terminal is not read."""
    config = b"" if posix.isatty(0) else read_all(0, "stdin")
    listed = ",".join(f'"{version}"' for version in SUPPORTED)
    text = f'{{"cniVersion":"{version_of(config)}","supportedVersions":[{listed}]}}\n'
    return text.encode()


def call(command: bytes, environ: dict[bytes, bytes], config: list[bytes]) -> tuple[int, bytes]:
    """Do the call; ``config`` receives what was read, for errors that are answered above."""
    if not command:
        text = "required environment variable CNI_COMMAND is missing"
        raise Failed(
            BAD_ENVIRONMENT, text, "container runtimes call this program; see `netloom install`"
        )
    if command not in COMMANDS:
        raise Failed(BAD_ENVIRONMENT, f"unknown CNI_COMMAND: {command.decode('ascii', 'replace')}")
    limit_s = number(environ, b"NETLOOM_CNI_TIMEOUT", 1, 3600, LIMIT_S)
    away = NOT_AVAILABLE if command == b"STATUS" else TRY_AGAIN_LATER

    def too_late(signal_number: int, frame: object) -> None:
        raise Failed(away, f"no answer within {limit_s} s", LOOK)

    _signal.signal(_signal.SIGALRM, too_late)
    _signal.alarm(limit_s)
    if command == b"VERSION":
        return 0, answer_version()
    try:
        config.append(read_all(0, "the configuration"))
    except OSError as error:
        text = f"cannot read the configuration from stdin: {error.strerror}"
        raise Failed(IO_FAILURE, text) from None
    path = find_socket(environ, config[0])
    patience_s = number(environ, b"NETLOOM_CNI_PATIENCE", 0, LIMIT_S, PATIENCE_S)
    agent = reach(path, 0 if command == b"STATUS" else patience_s * 50, away)
    answer = exchange(agent, build_request(command, environ, config[0]))
    return take_apart(answer, path, away)


def main() -> int:
    """Serve one call of a runtime and return the exit code."""
    environ: dict[bytes, bytes] = posix.environ
    config: list[bytes] = []
    try:
        code, answer = call(environ.get(b"CNI_COMMAND", b""), environ, config)
    except Failed as failed:
        import json  # noqa: PLC0415  # only errors pay for it

        document = {
            "cniVersion": version_of(b"".join(config)),
            "code": failed.code,
            "msg": failed.message,
            "details": failed.details,
        }
        code, answer = 1, json.dumps(document).encode() + b"\n"
    _signal.alarm(0)  # from here on nobody but the reader of our output can keep us
    write_all(answer)
    return code


if __name__ == "__main__":
    sys.exit(main())
