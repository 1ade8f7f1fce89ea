"""The proxy in Python, for machines without a C compiler: what proxy.c does, packet by packet.

Run by path, ``python -IS proxy.py DEVICE LOCAL PORT DIRECTORY VERSION [plain] [take-over]``: it
imports the standard library alone. proxy.c says what the words mean and what is said on
stdout; control.py has the protocol of the control socket.
"""

from __future__ import annotations

import array
import errno
import fcntl
import ipaddress
import os
import select
import signal
import socket
import struct
import sys
import time
from bisect import bisect_right
from contextlib import suppress

MAGIC = 0x4E4C5531
STATUS, GET, SET, HAND_OVER = range(1, 5)
SENT, RECEIVED, NO_PEER, EXPIRED, MALFORMED, SEND_FAILED, WRITE_FAILED = range(7)
HEAD = struct.Struct("!II")
GENERATION = struct.Struct("!Q")
ENTRY = struct.Struct("!I4sHBx")  # the last byte is of the shortcut, which is not to be had here
STATUS_BODY = struct.Struct("!I4sHH4xQ7Q16s32s")
TUNSETIFF, TUNSETOFFLOAD, SIOCGIFADDR = 0x400454CA, 0x400454D0, 0x8915
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
UDP_GRO = 104
NO_HEADER = bytes(10)
MOST_PEERS = 65536
MESSAGE_BYTES = 16 + ENTRY.size * MOST_PEERS
BATCH = 64
#: An ending proxy carries what is still on its way: until it is quiet, and no longer than this.
QUIET_S, LINGER_S = 0.1, 0.5
ICMP_BURST, ICMP_PER_S = 50.0, 1000.0
#: ICMP messages that may be answered by an error: echo, echo reply, timestamp.
QUESTIONS = (0, 8, 13)


class Table:
    """Which host has which block. Entries may lie inside others: the narrowest counts."""

    def __init__(self) -> None:
        self.generation = 0
        self.body = b""
        self._starts: list[int] = []
        self._entries: list[tuple[int, int, tuple[str, int]]] = []

    def replace(self, generation: int, body: bytes) -> bool:
        """Take a table over as a whole; False when it does not parse: nothing is taken then."""
        if len(body) % ENTRY.size or len(body) > ENTRY.size * MOST_PEERS:
            return False
        entries = []
        for first, host, port, length in ENTRY.iter_unpack(body):
            rest = (1 << max(0, 32 - length)) - 1
            if length > 32 or not any(host) or not port or first & rest:
                return False
            entries.append((first, first | rest, (socket.inet_ntoa(host), port)))
        entries.sort(key=lambda entry: (entry[0], -entry[1]))
        self._entries = entries
        self._starts = [entry[0] for entry in entries]
        self.generation, self.body = generation, body
        return True

    def find(self, address: int) -> tuple[str, int] | None:
        """Return the host that has ``address``, and its port."""
        place = bisect_right(self._starts, address) - 1
        while place >= 0:
            _, last, peer = self._entries[place]
            if address <= last:
                return peer
            place -= 1
        return None


class Start(Exception):
    """The proxy cannot start: the kernel's number, and what it would not do."""


class Proxy:
    """One device, one UDP socket, and the table between them."""

    def __init__(self, words: list[str]) -> None:
        self.device, local, port, directory, self.version = words[:5]
        self.place = (local, int(port))
        self.shortcut_wanted = "plain" not in words[5:]
        os.chdir(directory)
        self.table = Table()
        self.counters = [0] * 7
        self.clients: dict[int, socket.socket] = {}
        self.tokens, self.complained_at_s = ICMP_BURST, time.monotonic()
        self.udp: socket.socket | None = None
        self.poll = select.epoll()
        self.sending = False
        if "take-over" in words[5:]:
            self._take_over()
        else:
            self.tun = self._open_tun()
        # Whatever comes out is then one packet of its own, with its checksums in place.
        fcntl.ioctl(self.tun, TUNSETOFFLOAD, 0)
        os.set_blocking(self.tun, False)
        if self.udp is None:
            self.udp = self._bind()
        with suppress(OSError):
            self.udp.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 0)
        self.udp.setblocking(False)
        self.raw: socket.socket | None = None
        with suppress(OSError):  # without the right there are no ICMP errors
            self.raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.control = self._listen()

    def _open_tun(self) -> int:
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR
        request = struct.pack("16sH22x", self.device.encode(), flags)
        socket.if_nametoindex(self.device)  # else the kernel would make one
        _patiently("take the device", lambda: fcntl.ioctl(tun, TUNSETIFF, request))
        return tun

    def _bind(self) -> socket.socket:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        _patiently("bind", lambda: udp.bind(self.place))
        return udp

    def _listen(self) -> socket.socket:
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        os.umask(0o177)
        name = f"{self.device}.sock"
        with suppress(FileNotFoundError):
            os.unlink(f"{name}.new")
        control.bind(f"{name}.new")
        control.listen(8)
        os.rename(f"{name}.new", name)
        control.setblocking(False)
        return control

    def _take_over(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
            other.settimeout(2.0)
            other.connect(f"{self.device}.sock")
            other.send(HEAD.pack(MAGIC, HAND_OVER))
            room = socket.CMSG_SPACE(8)
            answer, notes, _, _ = other.recvmsg(MESSAGE_BYTES, room)
        files = array.array("i")
        for _, _, data in notes:
            files.frombytes(data)
        if len(files) != 2 or len(answer) < 16:
            raise Start(errno.EPROTO, "take over from the proxy before")
        self.tun = files[0]
        udp = socket.socket(fileno=files[1])
        if udp.getsockname() == self.place:
            self.udp = udp
        else:
            udp.close()
        (generation,) = GENERATION.unpack_from(answer, 8)
        self.table.replace(generation, answer[16:])

    def run(self) -> None:
        """Carry packets until the device is gone, or SIGTERM came and all is quiet."""
        assert self.udp is not None
        bell, ring = os.pipe()
        os.set_blocking(ring, False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(ring)
        for file in (bell, self.udp.fileno(), self.control.fileno()):
            self.poll.register(file, select.EPOLLIN)
        if self.table.generation:
            self._begin_outbound()
        deadline_s = None
        while deadline_s is None or time.monotonic() < deadline_s:
            events = self.poll.poll(None if deadline_s is None else QUIET_S)
            if not events:
                return
            for file, _ in events:
                if file == bell:
                    self.poll.unregister(bell)
                    deadline_s = time.monotonic() + LINGER_S
                elif file == self.tun:
                    self._outbound()
                elif file == self.udp.fileno():
                    self._inbound()
                elif file == self.control.fileno():
                    self._greet()
                else:
                    self._answer(self.clients[file])

    def _begin_outbound(self) -> None:
        """Read the device from now on; until there is a table packets wait in it."""
        self.sending = True
        self.poll.register(self.tun, select.EPOLLIN)

    def _outbound(self) -> None:
        for _ in range(BATCH):
            try:
                packet = bytearray(os.read(self.tun, 65600)[len(NO_HEADER) :])
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.EIO:  # it is down
                    return
                sys.exit(f"netloom-udp: {self.device} is gone: {error}")
            if len(packet) >= 20 and packet[0] >> 4 == 4:
                self._route(packet)

    def _route(self, packet: bytearray) -> None:
        head = (packet[0] & 15) * 4
        if head < 20 or head > len(packet) or int.from_bytes(packet[2:4], "big") != len(packet):
            self.counters[MALFORMED] += 1
            return
        peer = self.table.find(int.from_bytes(packet[16:20], "big"))
        if peer is None:
            self.counters[NO_PEER] += 1
            self._complain(packet, head, 3, 0)
        elif packet[8] <= 1:
            self.counters[EXPIRED] += 1
            self._complain(packet, head, 11, 0)
        else:
            packet[8] -= 1
            packet[10:12] = b"\0\0"
            packet[10:12] = _checksum(packet[:head])
            self._send(packet, peer)

    def _send(self, packet: bytearray, peer: tuple[str, int]) -> None:
        assert self.udp is not None
        try:
            self.udp.sendto(packet, peer)
            self.counters[SENT] += 1
        except OSError:
            self.counters[SEND_FAILED] += 1

    def _inbound(self) -> None:
        assert self.udp is not None
        for _ in range(BATCH):
            try:
                packet = self.udp.recv(65600)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error about something sent before
            length = int.from_bytes(packet[2:4], "big")
            head = (packet[0] & 15) * 4 if packet else 0
            if len(packet) < 20 or packet[0] >> 4 != 4 or not 20 <= head <= length <= len(packet):
                self.counters[MALFORMED] += 1
                continue
            try:
                os.write(self.tun, NO_HEADER + packet[:length])
                self.counters[RECEIVED] += 1
            except OSError as error:
                if error.errno in (errno.EBADF, errno.EBADFD):
                    sys.exit(f"netloom-udp: {self.device} is gone: {error}")
                self.counters[WRITE_FAILED] += 1

    def _complain(self, about: bytearray, head: int, kind: int, code: int) -> None:
        """Send an ICMP error (RFC 792) where RFC 1812 §4.3.2 allows one, and not too many."""
        source, target = about[12], about[16]
        silent = source >= 224 or source in (0, 127) or 224 <= target < 240 or target == 255
        fragment = int.from_bytes(about[6:8], "big") & 0x1FFF
        icmp = about[9] == 1 and (len(about) <= head or about[head] not in QUESTIONS)
        if self.raw is None or silent or fragment or icmp or not self._may_complain():
            return
        body = struct.pack("!BBHI", kind, code, 0, 0) + bytes(about[: head + 64])
        body = body[:2] + _checksum(body) + body[4:]
        length = 20 + len(body)
        ip = struct.pack("!BBHHHBBH", 0x45, 0xC0, length, 0, 0, 64, 1, 0) + self._own_address()
        with suppress(OSError):
            self.raw.sendto(ip + about[12:16] + body, (socket.inet_ntoa(about[12:16]), 0))

    def _may_complain(self) -> bool:
        now = time.monotonic()
        gained = (now - self.complained_at_s) * ICMP_PER_S
        self.tokens, self.complained_at_s = min(ICMP_BURST, self.tokens + gained), now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def _own_address(self) -> bytes:
        assert self.udp is not None
        request = struct.pack("16sH22x", self.device.encode(), socket.AF_INET)
        try:
            return bytes(fcntl.ioctl(self.udp, SIOCGIFADDR, request)[20:24])
        except OSError:
            return socket.inet_aton(self.place[0])

    def _greet(self) -> None:
        with suppress(BlockingIOError):
            client, _ = self.control.accept()
            client.setsockopt(socket.SOL_SOCKET, 32, 2 * MESSAGE_BYTES)  # SO_SNDBUFFORCE
            client.setblocking(False)
            self.clients[client.fileno()] = client
            self.poll.register(client, select.EPOLLIN)

    def _answer(self, client: socket.socket) -> None:
        try:
            request = client.recv(MESSAGE_BYTES + 1)
            if request:
                self._obey(client, request)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.poll.unregister(client)
        del self.clients[client.fileno()]
        client.close()

    def _obey(self, client: socket.socket, request: bytes) -> None:
        known = HEAD.size <= len(request) <= MESSAGE_BYTES
        magic, verb = HEAD.unpack_from(request) if known else (0, 0)
        number, body = 0, b""
        if magic != MAGIC:
            number = errno.EPROTO
        elif verb == STATUS:
            body = self._status()
        elif verb in (GET, HAND_OVER):
            body = GENERATION.pack(self.table.generation) + self.table.body
        elif verb != SET:
            number = errno.ENOSYS
        elif len(request) < 16 or not self.table.replace(
            int.from_bytes(request[8:16], "big"), request[16:]
        ):
            number = errno.EINVAL
        elif not self.sending:
            self._begin_outbound()
        answer = HEAD.pack(MAGIC, number) + body
        if verb == HAND_OVER and not number:
            assert self.udp is not None
            socket.send_fds(client, [answer], [self.tun, self.udp.fileno()])
            os._exit(0)  # another carries the packets now
        client.send(answer)

    def _status(self) -> bytes:
        host, port = self.place
        names = self.device.encode(), self.version.encode()
        local, generation = socket.inet_aton(host), self.table.generation
        head = os.getpid(), local, port, self.shortcut_wanted, generation
        return STATUS_BODY.pack(*head, *self.counters, *names)


def _patiently(what: str, step: object) -> None:
    """Repeat for a second what a proxy that is just ending may hold."""
    assert callable(step)
    for attempt in range(100):
        try:
            step()
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EADDRINUSE) or attempt == 99:
                raise Start(error.errno, what) from None
            time.sleep(0.01)
        else:
            return


def _checksum(data: bytes | bytearray) -> bytes:
    """Return the ones' complement sum (RFC 1071)."""
    padded = bytes(data) + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


def main() -> None:
    """Start, say so, and carry packets."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        ipaddress.IPv4Address(sys.argv[2])
        proxy = Proxy(sys.argv[1:])
    except Start as error:
        said = "{} {}".format(*error.args)
    except OSError as error:
        said = f"{error.errno or errno.EIO} start: {error}"
    except (IndexError, ValueError) as error:
        said = f"{errno.EINVAL} understand its arguments: {error}"
    else:
        os.write(1, b"ready\n")
        os.close(1)
        proxy.run()
        return
    os.write(1, f"{said}\n".encode())
    sys.exit(1)


if __name__ == "__main__":
    main()
