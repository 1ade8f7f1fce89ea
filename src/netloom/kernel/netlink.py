"""One netlink socket: bulk requests with every acknowledgement checked, queries and dumps.

The kernel works on requests inside ``send`` itself and in order. Hundreds of them in one send cost
one system call, and the answer to each waits in the receive buffer when ``send`` returns. The
buffer is therefore made large; where the system does not allow that, sends are made smaller.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from netloom.kernel.namespaces import in_namespace
from netloom.kernel.wire import (
    HEADER,
    NLM_F_ACK,
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    U32,
    attributes,
    string,
)
from netloom.model.errors import Bug, KernelRejected, Unavailable

NETLINK_ROUTE = 0
_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 10, 11, 12
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33

_BUFFER_BYTES = 4 << 20
_DATAGRAM_BYTES = 256 << 10  # dumps come in up to 32 KiB, one link with many VFs may be larger
_BATCH_MESSAGES = 300  # more gains nothing measurable
_BATCH_BYTES = 128 << 10
_ACK_BYTES = 2048  # what one answer takes of the receive buffer, generously
_DUMP_ATTEMPTS = 10
_ANSWER_LIMIT = struct.pack("@ll", 5, 0)  # an answer is there when send returns: a safety net

_ERROR = struct.Struct("=i")
_MESSAGE_TEXT, _MESSAGE_OFFSET = 1, 2  # NLMSGERR_ATTR_MSG, NLMSGERR_ATTR_OFFS


@dataclass(frozen=True, slots=True)
class Ack:
    """The kernel's answer to one request: ``errno`` 0 is yes.

    ``text`` and ``offset`` (of the attribute complained about; -1 for none) are the extended
    acknowledgement.
    """

    errno: int = 0
    text: str = ""
    offset: int = -1


_YES = Ack()
_LOST = Ack(errno.ENOBUFS, "the acknowledgement was lost")


def _tune(sock: socket.socket) -> None:
    """Give a netlink socket large buffers, as far as the system allows."""
    for force, ordinary in (
        (_SO_SNDBUFFORCE, socket.SO_SNDBUF),
        (_SO_RCVBUFFORCE, socket.SO_RCVBUF),
    ):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, _BUFFER_BYTES)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, ordinary, _BUFFER_BYTES)


def open_socket(protocol: int = NETLINK_ROUTE, groups: Iterable[int] = ()) -> socket.socket:
    """Open a bound netlink socket in this thread's namespace and join ``groups``."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    try:
        _tune(sock)
        sock.bind((0, 0))
        for group in groups:
            sock.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
    except BaseException:
        sock.close()
        raise
    return sock


class Netlink:
    """Requests over one socket, for one thread at a time.

    Without ``sock`` (see :func:`open_socket`) it opens one in this thread's namespace. Either way
    the socket is closed with this object, and any thread may use it.
    """

    def __init__(self, sock: socket.socket | None = None) -> None:
        sock = open_socket() if sock is None else sock
        self._socket = sock
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            try:
                sock.setsockopt(_SOL_NETLINK, option, 1)
            except OSError:
                continue  # a kernel before 4.20: less detail in errors, more to sift in dumps
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _ANSWER_LIMIT)
        room = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self._batch = max(8, min(_BATCH_MESSAGES, room // _ACK_BYTES))
        self._sequence = 0
        self._buffer = bytearray(_DATAGRAM_BYTES)
        self._overrun = False

    @classmethod
    def inside(cls, netns: str | os.PathLike[str]) -> Netlink:
        """Open a socket inside the namespace at ``netns``, where it stays."""
        return in_namespace(netns, cls)

    @property
    def port(self) -> int:
        """The port id under which the kernel reports what we changed."""
        port: int = self._socket.getsockname()[0]
        return port

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; idempotent."""
        self._socket.close()

    def send(self, messages: Sequence[bytes]) -> list[Ack]:
        """Send all requests in order and return one answer for each, in the same order.

        A request that the kernel refuses does not stop the ones after it.
        """
        acks: list[Ack] = []
        for batch in self._batches(messages):
            first = self._transmit(batch)
            acks.extend(self._collect(first, len(batch)))
        return acks

    def query(self, request: bytes) -> tuple[Ack, list[bytes]]:
        """Send one request for data; return its answer and the payloads that came before it."""
        first = self._transmit([request])
        payloads: list[bytes] = []
        for kind, flags, sequence, payload in self._messages():
            if sequence != first:
                continue
            if kind == NLMSG_ERROR:
                return _ack(kind, flags, payload), payloads
            payloads.append(payload)
        return _LOST, payloads

    def dump(self, request: bytes, subject: str) -> list[bytes]:
        """Return the payload of every object that ``request`` asks for; ``subject`` names them.

        A dump that a change disturbed may lack objects or hold one twice, so it is made again.
        Raises KernelRejected, or Unavailable when it is disturbed each time.
        """
        length, kind, flags, _, _ = HEADER.unpack_from(request)
        whole = HEADER.pack(length, kind, flags & ~NLM_F_ACK | NLM_F_DUMP, 0, 0) + request[16:]
        for _ in range(_DUMP_ATTEMPTS):
            payloads = self._dump_once(whole, subject)
            if payloads is not None:
                return payloads
        raise Unavailable(
            f"the kernel's {subject} change faster than they can be read",
            hint="find out what changes them: `ip monitor`",
        )

    def _dump_once(self, request: bytes, subject: str) -> list[bytes] | None:
        first = self._transmit([request])
        payloads: list[bytes] = []
        disturbed = False
        for kind, flags, sequence, payload in self._messages():
            if sequence != first:
                continue
            if flags & NLM_F_DUMP_INTR and kind != NLMSG_ERROR:
                disturbed = True
            if kind > NLMSG_DONE:
                payloads.append(payload)
                continue
            ack = _ack(kind, flags, payload)
            if ack.errno:
                raise KernelRejected("read", subject, ack.errno, ack.text)
            return None if disturbed or self._overrun else payloads
        return None

    def _batches(self, messages: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
        start = size = 0
        for index, one in enumerate(messages):
            if index > start and (index - start == self._batch or size + len(one) > _BATCH_BYTES):
                yield messages[start:index]
                start, size = index, 0
            size += len(one)
        if start < len(messages):
            yield messages[start:]

    def _transmit(self, messages: Sequence[bytes]) -> int:
        """Number the requests, send them in one go and return the first one's number."""
        if self._sequence > 0xF0000000:
            self._sequence = 0  # before it could wrap inside a send
        first = self._sequence + 1
        parts: list[bytes] = []
        for one in messages:
            self._sequence += 1
            parts += (one[:8], U32.pack(self._sequence), one[12:])
        data = b"".join(parts)
        if self._socket.send(data) != len(data):
            raise Bug(f"netlink took a part of {len(data)} bytes")
        return first

    def _collect(self, first: int, count: int) -> list[Ack]:
        acks: list[Ack | None] = [None] * count
        missing = count
        for kind, flags, sequence, payload in self._messages():
            place = sequence - first
            if kind == NLMSG_ERROR and 0 <= place < count and acks[place] is None:
                acks[place] = _ack(kind, flags, payload)
                missing -= 1
                if not missing:
                    break
        return [_LOST if ack is None else ack for ack in acks]

    def _messages(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield (type, flags, sequence, payload) as they come; end when nothing more will.

        After an overrun what is in the buffer is still good: it is yielded, without waiting.
        """
        self._overrun = False
        view = memoryview(self._buffer)
        while True:
            try:
                how = socket.MSG_DONTWAIT if self._overrun else 0
                size, _, flags, _ = self._socket.recvmsg_into([view], 0, how)
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    self._overrun = True
                    continue
                if error.errno == errno.EAGAIN:
                    return
                raise
            if flags & socket.MSG_TRUNC:
                raise Bug(f"a netlink datagram is larger than {_DATAGRAM_BYTES} bytes")
            yield from split(bytes(view[:size]))


def split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield (type, flags, sequence, payload) of each message in a datagram."""
    position, end = 0, len(data)
    unpack = HEADER.unpack_from
    while position + 16 <= end:
        length, kind, flags, sequence, _ = unpack(data, position)
        if length < 16 or position + length > end:
            raise Bug(f"a netlink message of {length} bytes in a datagram of {end}")
        yield kind, flags, sequence, data[position + 16 : position + length]
        position += (length + 3) & ~3


def _ack(kind: int, flags: int, payload: bytes) -> Ack:
    """Read an error or end-of-dump message: a negative errno, then what the request was."""
    if len(payload) < 4:
        return _YES
    (number,) = _ERROR.unpack_from(payload)
    if not number:
        return _YES
    text, offset = "", -1
    if flags & NLM_F_ACK_TLVS:
        start = 4
        if kind == NLMSG_ERROR:
            (length,) = U32.unpack_from(payload, 4)
            start += HEADER.size if flags & NLM_F_CAPPED else (length + 3) & ~3
        for what, value in attributes(payload, start):
            if what == _MESSAGE_TEXT:
                text = string(value)
            elif what == _MESSAGE_OFFSET:
                (offset,) = U32.unpack_from(value)
    return Ack(-number, text, offset)
