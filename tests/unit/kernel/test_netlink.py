"""The netlink socket against a scripted kernel: what a real one does once in a thousand times.

A pair of datagram sockets: one end is the kernel's, with its answers ready before it is asked, as
the answers of the real one are when ``send`` returns.
"""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from netloom.kernel import encode_link
from netloom.kernel.netlink import Ack, Netlink
from netloom.kernel.wire import (
    HEADER,
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    RTM_NEWLINK,
    number,
    text,
)
from netloom.model.errors import Bug, KernelRejected, Unavailable

REQUEST = encode_link.dump()


def message(kind, sequence, payload, flags=0):
    padded = payload + bytes(-len(payload) % 4)
    return HEADER.pack(16 + len(payload), kind, flags, sequence, 0) + padded


def item(sequence, payload, flags=0):
    return message(RTM_NEWLINK, sequence, payload, flags)


def done(sequence, error=0, flags=0):
    return message(NLMSG_DONE, sequence, struct.pack("=i", -error), flags)


def ack(sequence, error=0, *, said=b"", whole=b""):
    """Return an answer; ``whole`` is the request when the kernel repeats all of it."""
    request = whole or HEADER.pack(16, RTM_NEWLINK, 0, sequence, 0)
    flags = (0 if whole else NLM_F_CAPPED) | (NLM_F_ACK_TLVS if said else 0)
    return message(NLMSG_ERROR, sequence, struct.pack("=i", -error) + request + said, flags)


@pytest.fixture
def kernel():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with theirs, Netlink(ours) as netlink:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 50_000))

        def answer(*datagrams):
            for datagram in datagrams:
                theirs.send(datagram)
            return netlink

        yield answer


def test_a_disturbed_dump_is_made_again(kernel):
    netlink = kernel(
        item(1, b"lost") + item(1, b"twic", NLM_F_DUMP_INTR) + item(1, b"twic"),
        done(1),
        item(2, b"true") + done(2),
    )
    assert netlink.dump(REQUEST, "links") == [b"true"]


def test_a_disturbance_that_only_the_end_tells_of_counts(kernel):
    netlink = kernel(item(1, b"lost") + done(1, flags=NLM_F_DUMP_INTR), item(2, b"true"), done(2))
    assert netlink.dump(REQUEST, "links") == [b"true"]


def test_a_dump_that_is_disturbed_each_time_is_unavailable(kernel):
    netlink = kernel(*(done(number, flags=NLM_F_DUMP_INTR) for number in range(1, 20)))
    with pytest.raises(Unavailable, match="links change faster"):
        netlink.dump(REQUEST, "links")


def test_a_dump_without_an_end_is_made_again(kernel):
    netlink = kernel(item(1, b"half"))
    with pytest.raises(Unavailable):
        netlink.dump(REQUEST, "links")


def test_a_dump_that_fails_at_its_end_is_an_error_and_not_a_short_list(kernel):
    netlink = kernel(item(1, b"half"), done(1, errno.ENOMEM))
    with pytest.raises(KernelRejected, match="ENOMEM"):
        netlink.dump(REQUEST, "links")


def test_what_is_left_of_an_earlier_dump_is_passed_over(kernel):
    netlink = kernel(item(9, b"old!") + done(9), item(1, b"mine") + done(1))
    assert netlink.dump(REQUEST, "links") == [b"mine"]


def test_answers_count_by_number_and_not_by_order(kernel):
    netlink = kernel(ack(3, errno.EEXIST), ack(99, errno.EIO), ack(1), ack(2, errno.ENOENT))
    answers = netlink.send([REQUEST] * 3)
    assert [answer.errno for answer in answers] == [0, errno.ENOENT, errno.EEXIST]


def test_several_answers_in_one_datagram_are_all_read(kernel):
    netlink = kernel(ack(1) + ack(2, errno.EEXIST))
    assert [answer.errno for answer in netlink.send([REQUEST] * 2)] == [0, errno.EEXIST]


def test_an_answer_that_never_comes_is_not_a_yes(kernel):
    netlink = kernel(ack(1), ack(3))
    first, second, third = netlink.send([REQUEST] * 3)
    assert (first, third) == (Ack(), Ack())
    assert second.errno == errno.ENOBUFS


@pytest.mark.parametrize("whole", [b"", REQUEST], ids=["capped", "whole request"])
def test_the_extended_text_is_found_behind_the_request(kernel, whole):
    said = text(1, "no such thing") + number(2, 24)
    netlink = kernel(ack(1, errno.EINVAL, said=said, whole=whole))
    assert netlink.send([REQUEST]) == [Ack(errno.EINVAL, "no such thing", 24)]


def test_a_datagram_cut_short_is_a_bug_and_not_a_guess(kernel):
    netlink = kernel(ack(1)[:-8])
    with pytest.raises(Bug):
        netlink.send([REQUEST])
