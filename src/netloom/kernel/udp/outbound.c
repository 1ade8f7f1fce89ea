/* From the device to the peers: what a router does to a packet, and a card to a large one. */
#define _GNU_SOURCE
#include "proxy.h"
#include "checksum.h"
#include <errno.h>
#include <linux/virtio_net.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

enum { AT_ONCE_NS = 3000 }; /* a read that took less did not wait: there is a queue */

/* A TCP packet that stands for many: `head` bytes of headers, then `payload`. */
struct large { const struct peer *peer; uint8_t *packet; size_t head; uint32_t payload; };

/* Post the piece at `offset`, `number` pieces after the first; false when there is no room. */
static bool post_piece(const struct large *all, uint16_t number, uint32_t offset, uint32_t size)
{
    uint8_t *own = batch_head(all->head);
    if (!own)
        return false;
    memcpy(own, all->packet, all->head);
    struct iphdr *ip = (struct iphdr *)(void *)own;
    size_t ip_head = (size_t)ip->ihl * 4;
    struct tcphdr *tcp = (struct tcphdr *)(void *)(own + ip_head);
    uint32_t transport = (uint32_t)(all->head - ip_head) + size;
    ip->tot_len = htons((uint16_t)(all->head + size));
    ip->id = htons((uint16_t)(ntohs(ip->id) + number));
    sum_header(ip);
    tcp->seq = htonl(ntohl(tcp->seq) + offset);
    if (offset + size < all->payload) {
        tcp->fin = 0;
        tcp->psh = 0;
    }
    if (offset)
        own[ip_head + 13] &= 0x7f; /* CWR is said once */
    tcp->check = 0;
    uint8_t *body = all->packet + all->head + offset;
    uint64_t sum = add(pseudo(ip, transport), tcp, transport - size);
    tcp->check = (uint16_t)~fold(add(sum, body, size));
    post(all->peer, own, all->head, body, size);
    return true;
}

/* Cut a TCP packet that stands for many into those (what a card does for TSO). */
static void cut(const struct peer *peer, uint8_t *packet, size_t length, uint32_t segment)
{
    size_t head = (size_t)((struct iphdr *)(void *)packet)->ihl * 4;
    struct tcphdr *tcp = (struct tcphdr *)(void *)(packet + head);
    if (!segment || length < head + sizeof *tcp || length <= head + (size_t)tcp->doff * 4
        || tcp->doff < 5) {
        counters[MALFORMED]++;
        return;
    }
    head += (size_t)tcp->doff * 4;
    struct large all = { peer, packet, head, (uint32_t)(length - head) };
    uint16_t number = 0;
    for (uint32_t offset = 0; offset < all.payload; offset += segment) {
        uint32_t left = all.payload - offset;
        if (!post_piece(&all, number++, offset, left < segment ? left : segment)) {
            counters[SEND_FAILED]++;
            return;
        }
    }
}

/* Take care of one packet that lies at the end of the arena. */
static void route(const struct virtio_net_hdr *about, uint8_t *packet, size_t length)
{
    struct iphdr *ip = (struct iphdr *)(void *)packet;
    if (length < sizeof *ip || ip->version != 4)
        return; /* IPv6's own chatter on every device */
    if (ip->ihl < 5 || (size_t)ip->ihl * 4 > length || ntohs(ip->tot_len) != length) {
        counters[MALFORMED]++;
        return;
    }
    size_t start = about->csum_start, place = start + about->csum_offset;
    if (about->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && place + 2 > length) {
        counters[MALFORMED]++;
        return;
    }
    struct peer peer;
    if (!find(ntohl(ip->daddr), &peer)) {
        counters[NO_PEER]++;
        complain(ip, length, ICMP_DEST_UNREACH, ICMP_NET_UNREACH);
        return;
    }
    if (ip->ttl <= 1) {
        counters[EXPIRED]++;
        complain(ip, length, ICMP_TIME_EXCEEDED, ICMP_EXC_TTL);
        return;
    }
    ip->ttl--;
    if ((about->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_TCPV4) {
        cut(&peer, packet, length, about->gso_size);
        return;
    }
    sum_header(ip);
    if (about->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        uint16_t sum = (uint16_t)~fold(add(0, packet + start, length - start));
        if (!sum && ip->protocol == IPPROTO_UDP)
            sum = 0xffff;
        memcpy(packet + place, &sum, 2);
    }
    post(&peer, packet, length, NULL, 0);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Read one packet and take care of it; false when there is none, or no more room for the next. */
static bool take_packet(void)
{
    struct virtio_net_hdr about;
    uint8_t *packet = batch_end();
    struct iovec parts[2] = { { &about, sizeof about }, { packet, PACKET } };
    ssize_t got = readv(tun, parts, 2);
    if (got < 0 && (errno == EBADFD || errno == EBADF || errno == EFAULT))
        lose_device();
    if (got < 0 && errno == EAGAIN)
        waits(tun, LINGER_MS); /* another that takes over has set it so */
    if (got < (ssize_t)sizeof about)
        return false;
    size_t length = (size_t)got - sizeof about;
    batch_keep(length);
    route(&about, packet, length);
    return batch_has_room();
}

/*
 * Carry what comes out of the device. A single packet leaves at once; where they queue up, which
 * shows in that a read does not wait, all that is there leaves together.
 */
static void *outbound(void *nothing)
{
    while (!leaving) {
        int64_t began = now_ns();
        bool room = take_packet();
        if (now_ns() - began < AT_ONCE_NS)
            while (room && waits(tun, 0))
                room = take_packet();
        flush_batch();
    }
    return nothing;
}

/* Until there is a table packets wait in the device: nobody shall hear that there is no way. */
bool begin_outbound(void)
{
    static bool begun;
    begun = begun || begin(outbound);
    return begun;
}
