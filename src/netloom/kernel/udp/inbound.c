/* From the peers to the device: TCP packets that follow upon each other go in as one. */
#define _GNU_SOURCE
#include "proxy.h"
#include "checksum.h"
#include <errno.h>
#include <linux/virtio_net.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { RECEIVES = 8 }; /* receives of one batch */

static struct virtio_net_hdr none; /* says: a packet like any other */

/* TCP packets that follow upon each other, to be written as one. */
static struct {
    struct iovec parts[3 + AT_ONCE + 1];
    uint32_t count, head, size, total, next;
    const uint8_t *first;
    bool closed, push;
} chain;

static void put(struct iovec *parts, int count)
{
    if (writev(tun, parts, count) >= 0) {
        counters[RECEIVED]++;
        return;
    }
    if (errno == EBADFD || errno == EBADF)
        lose_device();
    counters[WRITE_FAILED]++; /* such as EINVAL for what is no packet, EIO while it is down */
}

static void flush_chain(void)
{
    if (!chain.count)
        return;
    struct virtio_net_hdr about = { .flags = VIRTIO_NET_HDR_F_DATA_VALID };
    uint8_t head[120];
    chain.parts[0] = (struct iovec){ &about, sizeof about };
    memcpy(head, chain.first, chain.head);
    chain.parts[1] = (struct iovec){ head, chain.head };
    if (chain.count > 1) {
        struct iphdr *ip = (struct iphdr *)(void *)head;
        struct tcphdr *tcp = (struct tcphdr *)(void *)(head + sizeof *ip);
        uint32_t transport = chain.head - (uint32_t)sizeof *ip + chain.total;
        ip->tot_len = htons((uint16_t)(sizeof *ip + transport));
        sum_header(ip);
        tcp->psh = chain.push;
        tcp->check = fold(pseudo(ip, transport));
        about = (struct virtio_net_hdr){
            .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
            .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
            .hdr_len = (uint16_t)chain.head,
            .gso_size = (uint16_t)chain.size,
            .csum_start = sizeof *ip,
            .csum_offset = 16,
        };
    }
    put(chain.parts, (int)chain.count + 2);
    counters[RECEIVED] += chain.count - 1;
    chain.count = 0;
}

/* Tell whether a packet can stand in a chain: plain TCP data whose checksums are right. */
static bool chainable(const uint8_t *packet, size_t length, uint32_t *head)
{
    const struct iphdr *ip = (const void *)packet;
    const struct tcphdr *tcp = (const void *)(packet + sizeof *ip);
    if (length < sizeof *ip + sizeof *tcp || packet[0] != 0x45 || ip->protocol != IPPROTO_TCP
        || (ntohs(ip->frag_off) & (IP_MF | IP_OFFMASK)))
        return false;
    *head = (uint32_t)(sizeof *ip + (size_t)tcp->doff * 4);
    if (tcp->doff < 5 || *head >= length || (packet[sizeof *ip + 13] & ~0x08) != 0x10)
        return false;
    uint32_t transport = (uint32_t)(length - sizeof *ip);
    return fold(add(0, ip, sizeof *ip)) == 0xffff
        && fold(add(pseudo(ip, transport), tcp, transport)) == 0xffff;
}

/* Tell whether a packet differs from the chain's first only in what counts on. */
static bool follows(const uint8_t *packet, uint32_t head, uint32_t payload)
{
    const struct iphdr *ip = (const void *)packet, *first = (const void *)chain.first;
    const struct tcphdr *tcp = (const void *)(ip + 1), *first_tcp = (const void *)(first + 1);
    return chain.count && !chain.closed && chain.count < AT_ONCE && head == chain.head
        && payload <= chain.size && chain.head + chain.total + payload <= 65535
        && ntohl(tcp->seq) == chain.next && ip->saddr == first->saddr && ip->daddr == first->daddr
        && ip->tos == first->tos && ip->ttl == first->ttl && ip->frag_off == first->frag_off
        && !memcmp(tcp, first_tcp, 4) && tcp->ack_seq == first_tcp->ack_seq
        && tcp->window == first_tcp->window
        && !memcmp(tcp + 1, first_tcp + 1, head - sizeof *ip - sizeof *tcp);
}

/* Take in one datagram. Its packet lies there until the chain was flushed. */
static void deliver(uint8_t *packet, size_t length)
{
    struct iphdr *ip = (struct iphdr *)(void *)packet;
    uint32_t head = 0;
    if (length < sizeof *ip || ip->version != 4 || ip->ihl < 5 || ntohs(ip->tot_len) > length
        || ntohs(ip->tot_len) < ip->ihl * 4) {
        counters[MALFORMED]++;
        return;
    }
    length = ntohs(ip->tot_len);
    bool fit = chainable(packet, length, &head);
    uint32_t payload = (uint32_t)length - head;
    if (fit && !follows(packet, head, payload)) {
        flush_chain();
        chain.first = packet;
        chain.head = head;
        chain.size = payload;
        chain.total = 0;
        chain.closed = chain.push = false;
        chain.next = ntohl(((struct tcphdr *)(void *)(ip + 1))->seq);
    }
    if (fit) {
        bool push = packet[sizeof *ip + 13] & 0x08;
        chain.parts[2 + chain.count++] = (struct iovec){ packet + head, payload };
        chain.total += payload;
        chain.next += payload;
        chain.push = push;
        chain.closed = push || payload < chain.size;
        return;
    }
    flush_chain();
    struct iovec parts[2] = { { &none, sizeof none }, { packet, length } };
    put(parts, 2);
}

/* Wait for datagrams and put what is in them into the device. */
static void receive(void)
{
    static uint8_t buffers[RECEIVES][PACKET] __attribute__((aligned(64)));
    static uint8_t notes[RECEIVES][CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    static struct iovec rooms[RECEIVES];
    static struct mmsghdr mails[RECEIVES];
    for (int i = 0; i < RECEIVES; i++) {
        rooms[i] = (struct iovec){ buffers[i], PACKET };
        mails[i].msg_hdr = (struct msghdr){ NULL, 0, &rooms[i], 1, notes[i], sizeof notes[i], 0 };
    }
    int got = recvmmsg(udp, mails, RECEIVES, MSG_WAITFORONE, NULL);
    if (got < 0 && errno == EAGAIN)
        waits(udp, LINGER_MS); /* another that takes over has set it so */
    for (int i = 0; i < got; i++) {
        size_t length = mails[i].msg_len, size = length;
        for (struct cmsghdr *note = CMSG_FIRSTHDR(&mails[i].msg_hdr); note;
             note = CMSG_NXTHDR(&mails[i].msg_hdr, note))
            if (note->cmsg_level == IPPROTO_UDP && note->cmsg_type == UDP_GRO) {
                int each;
                memcpy(&each, CMSG_DATA(note), sizeof each);
                size = each > 0 ? (size_t)each : size;
            }
        if (!length)
            counters[MALFORMED]++;
        for (size_t at = 0; at < length; at += size)
            deliver(buffers[i] + at, length - at < size ? length - at : size);
    }
    flush_chain();
}

static void *inbound(void *nothing)
{
    while (!leaving)
        receive();
    return nothing;
}

bool begin_inbound(void)
{
    return begin(inbound);
}
