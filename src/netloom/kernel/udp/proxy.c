/*
 * netloom-udp: carries the packets of a TUN device in UDP datagrams, one IPv4 packet in each, as
 * flannel's backend "udp" does. The agent starts it and tells it the table of peers over a unix
 * socket; it runs on when the agent ends, and a new one takes its device and socket over.
 *
 *   netloom-udp DEVICE LOCAL PORT DIRECTORY VERSION [take-over]
 *
 * DEVICE is a TUN device that exists. DIRECTORY is where DEVICE.sock shall listen. When it carries
 * packets it says "ready" on stdout, else "ERRNO what failed", and closes stdout. control.py has
 * the protocol of the socket.
 *
 * Packets are big where the kernel lets them be: the TUN device gives us TCP packets of up to 64 kB
 * (IFF_VNET_HDR and TSO), which leave as one send of many datagrams (UDP_SEGMENT), and datagrams
 * that come in one receive (UDP_GRO) go into the device as one packet. On the wire each is a
 * plain packet with its checksums in place: who is at the other end does not matter.
 *
 * Three threads: one waits in a read of the device, one in a receive, and the first one listens to
 * the agent. So a single packet costs two system calls and one wake-up.
 *
 * proxy.py does the same, slowly, for machines without a C compiler; one set of tests holds them
 * together.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
    PACKET = 65536,        /* room for the largest packet and then some */
    RUNS = 64,             /* sends of one batch */
    PIECES = 2048,         /* pieces of memory of one batch */
    AT_ONCE = 64,          /* datagrams of one send: UDP_MAX_SEGMENTS of older kernels */
    SEND_MOST = 65000,     /* bytes of one send */
    ARENA = 640 << 10,     /* packets and headers of one batch */
    RECEIVES = 8,          /* receives of one batch */
    CLIENTS = 8,           /* connections to the control socket */
    MOST_PEERS = 65536,
    MESSAGE = 16 + 12 * MOST_PEERS,
    AT_ONCE_NS = 3000,     /* a read that took less did not wait: there is a queue */
    LINGER_MS = 500,       /* for a packet that is being carried while another takes over */
};

enum { MAGIC = 0x4e4c5531, /* NLU1 */ STATUS = 1, GET = 2, SET = 3, HAND_OVER = 4 };

/* A block and the host that has it. `inside`: the next larger entry that holds it, or -1. */
struct peer { uint32_t first, last, host; int32_t inside; uint16_t port; uint8_t length; };

/* Datagrams to one host, all of `size` bytes except perhaps the last. */
struct run { uint32_t host; uint16_t port, count; uint32_t piece, pieces, size, total; bool closed; };

/* As on the control socket, all in network order. */
struct entry { uint32_t net, host; uint16_t port; uint8_t length, zero; };

enum { SENT, RECEIVED, NO_PEER, EXPIRED, MALFORMED, SEND_FAILED, WRITE_FAILED, COUNTERS };

static struct virtio_net_hdr none; /* says: a packet like any other */
static int tun = -1, udp = -1, raw = -1, control = -1, loop = -1;
static int clients[CLIENTS];
static const char *device, *version;
static struct in_addr local;
static uint16_t port;
static struct peer *peers, *peer_sets[2];
static uint32_t peer_count;
static uint64_t generation;
static _Atomic uint64_t counters[COUNTERS];
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool leaving;
static uint8_t message[MESSAGE + 1];

/* ---- checksums (RFC 1071) ---- */

static uint64_t add(uint64_t sum, const void *data, size_t length)
{
    const uint8_t *at = data;
    uint64_t more = 0;
    for (; length >= 32; at += 32, length -= 32) {
        uint32_t word[8];
        memcpy(word, at, sizeof word);
        sum += (uint64_t)word[0] + word[1] + word[2] + word[3];
        more += (uint64_t)word[4] + word[5] + word[6] + word[7];
    }
    for (; length >= 4; at += 4, length -= 4) {
        uint32_t word;
        memcpy(&word, at, 4);
        sum += word;
    }
    uint8_t rest[4] = { 0 };
    uint32_t word;
    memcpy(rest, at, length);
    memcpy(&word, rest, 4);
    return sum + more + word;
}

static uint16_t fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static uint64_t pseudo(const struct iphdr *ip, uint32_t length)
{
    return (uint64_t)ip->saddr + ip->daddr + htons(ip->protocol) + htons((uint16_t)length);
}

static void sum_header(struct iphdr *ip)
{
    ip->check = 0;
    ip->check = (uint16_t)~fold(add(0, ip, (size_t)ip->ihl * 4));
}

/* ---- the table of peers ---- */

static int by_first(const void *left, const void *right)
{
    const struct peer *a = left, *b = right;
    if (a->first != b->first)
        return a->first < b->first ? -1 : 1;
    return (int)a->length - (int)b->length;
}

/* Take a table over as a whole; false: not one word of it is taken. */
static bool take_table(const uint8_t *data, size_t length)
{
    size_t count = length / sizeof(struct entry);
    struct peer *fresh = peers == peer_sets[0] ? peer_sets[1] : peer_sets[0];
    if (length % sizeof(struct entry) || count > MOST_PEERS)
        return false;
    for (size_t i = 0; i < count; i++) {
        struct entry e;
        memcpy(&e, data + i * sizeof e, sizeof e);
        uint32_t rest = e.length ? (uint32_t)(((uint64_t)1 << (32 - e.length)) - 1) : UINT32_MAX;
        if (e.length > 32 || !e.host || !e.port || (ntohl(e.net) & rest))
            return false;
        fresh[i] = (struct peer){ ntohl(e.net), ntohl(e.net) | rest, e.host, -1, e.port, e.length };
    }
    qsort(fresh, count, sizeof *fresh, by_first);
    int32_t open = -1;
    for (size_t i = 0; i < count; i++) {
        while (open >= 0 && fresh[open].last < fresh[i].first)
            open = fresh[open].inside;
        fresh[i].inside = open;
        open = (int32_t)i;
    }
    pthread_mutex_lock(&table_lock);
    peers = fresh;
    peer_count = (uint32_t)count;
    pthread_mutex_unlock(&table_lock);
    return true;
}

static size_t give_table(uint8_t *data)
{
    for (uint32_t i = 0; i < peer_count; i++) {
        struct peer *p = &peers[i];
        struct entry e = { htonl(p->first), p->host, p->port, p->length, 0 };
        memcpy(data + i * sizeof e, &e, sizeof e);
    }
    return peer_count * sizeof(struct entry);
}

static bool find(uint32_t address, struct peer *found)
{
    pthread_mutex_lock(&table_lock);
    uint32_t low = 0, high = peer_count;
    while (low < high) { /* the last one that begins at or before the address */
        uint32_t middle = (low + high) / 2;
        if (peers[middle].first <= address)
            low = middle + 1;
        else
            high = middle;
    }
    int32_t at = (int32_t)low - 1;
    while (at >= 0 && peers[at].last < address)
        at = peers[at].inside;
    if (at >= 0)
        *found = peers[at];
    pthread_mutex_unlock(&table_lock);
    return at >= 0;
}

/* ---- ICMP errors (RFC 792, RFC 1812 §4.3.2) ---- */

static uint32_t own_address(void)
{
    struct ifreq request = { 0 };
    strncpy(request.ifr_name, device, IFNAMSIZ - 1);
    request.ifr_addr.sa_family = AF_INET;
    if (ioctl(udp, SIOCGIFADDR, &request) < 0)
        return local.s_addr;
    return ((struct sockaddr_in *)(void *)&request.ifr_addr)->sin_addr.s_addr;
}

/* No more than the kernel itself would send (icmp_msgs_per_sec, icmp_msgs_burst). */
static bool may_complain(void)
{
    static double tokens = 50;
    static struct timespec before;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    tokens += 1000 * ((double)(now.tv_sec - before.tv_sec) + 1e-9 * (double)(now.tv_nsec - before.tv_nsec));
    tokens = tokens > 50 ? 50 : tokens;
    before = now;
    if (tokens < 1)
        return false;
    tokens--;
    return true;
}

static void complain(const struct iphdr *about, size_t length, uint8_t type, uint8_t code)
{
    const uint8_t *body = (const uint8_t *)about + about->ihl * 4;
    size_t head = (size_t)about->ihl * 4, quoted = length < head + 64 ? length : head + 64;
    uint8_t packet[sizeof(struct iphdr) + sizeof(struct icmphdr) + 60 + 64] = { 0 };
    struct iphdr *ip = (struct iphdr *)(void *)packet;
    struct icmphdr *icmp = (struct icmphdr *)(void *)(packet + sizeof *ip);
    uint32_t source = ntohl(about->saddr), target = ntohl(about->daddr);

    if (raw < 0 || (ntohs(about->frag_off) & IP_OFFMASK) || source >> 28 >= 14 || !(source >> 24)
        || source >> 24 == 127 || target >> 28 == 14 || target == UINT32_MAX)
        return;
    if (about->protocol == IPPROTO_ICMP
        && (length == head || (*body != ICMP_ECHO && *body != ICMP_ECHOREPLY && *body != ICMP_TIMESTAMP)))
        return;
    if (!may_complain())
        return;
    ip->version = 4;
    ip->ihl = 5;
    ip->tos = 0xc0;
    ip->ttl = 64;
    ip->protocol = IPPROTO_ICMP;
    ip->saddr = own_address();
    ip->daddr = about->saddr;
    icmp->type = type;
    icmp->code = code;
    memcpy(icmp + 1, about, quoted);
    icmp->checksum = (uint16_t)~fold(add(0, icmp, sizeof *icmp + quoted));
    size_t total = sizeof *ip + sizeof *icmp + quoted;
    ip->tot_len = htons((uint16_t)total);
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = ip->daddr };
    sendto(raw, packet, total, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to);
}

/* ---- from the device to the peers ---- */

static uint8_t arena[ARENA] __attribute__((aligned(64)));
static size_t used;
static struct run runs[RUNS];
static uint32_t run_count, piece_count;
static struct iovec pieces[PIECES];

/* Send one by one what could not be sent together, such as over a path that is too narrow. */
static void send_singly(const struct run *run)
{
    struct sockaddr_in to = { AF_INET, run->port, { run->host }, { 0 } };
    uint32_t piece = run->piece;
    for (uint32_t left = run->total; left;) {
        uint32_t size = 0, first = piece, most = left < run->size ? left : run->size;
        while (size < most)
            size += (uint32_t)pieces[piece++].iov_len;
        struct msghdr mail = { &to, sizeof to, &pieces[first], piece - first, NULL, 0, 0 };
        if (sendmsg(udp, &mail, 0) < 0)
            counters[SEND_FAILED]++;
        else
            counters[SENT]++;
        left -= size;
    }
}

static void flush_runs(void)
{
    static struct mmsghdr mails[RUNS];
    static struct sockaddr_in to[RUNS];
    static uint8_t notes[RUNS][CMSG_SPACE(sizeof(uint16_t))] __attribute__((aligned(8)));
    for (uint32_t i = 0; i < run_count; i++) {
        struct run *run = &runs[i];
        to[i] = (struct sockaddr_in){ AF_INET, run->port, { run->host }, { 0 } };
        struct msghdr *mail = &mails[i].msg_hdr;
        *mail = (struct msghdr){ &to[i], sizeof *to, &pieces[run->piece], run->pieces, NULL, 0, 0 };
        if (run->count > 1) {
            mail->msg_control = notes[i];
            mail->msg_controllen = sizeof notes[i];
            struct cmsghdr *note = CMSG_FIRSTHDR(mail);
            note->cmsg_level = IPPROTO_UDP;
            note->cmsg_type = UDP_SEGMENT;
            note->cmsg_len = CMSG_LEN(sizeof(uint16_t));
            uint16_t size = (uint16_t)run->size;
            memcpy(CMSG_DATA(note), &size, sizeof size);
        }
    }
    for (uint32_t done = 0; done < run_count;) {
        int sent = sendmmsg(udp, &mails[done], run_count - done, 0);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0) {
            if (runs[done].count > 1)
                send_singly(&runs[done]);
            else
                counters[SEND_FAILED]++;
            done++;
            continue;
        }
        for (; sent; sent--)
            counters[SENT] += runs[done++].count;
    }
    run_count = piece_count = 0;
    used = 0;
}

/* Add a datagram of one or two pieces to the batch. */
static void post(const struct peer *peer, void *head, size_t head_size, void *body, size_t body_size)
{
    uint32_t size = (uint32_t)(head_size + body_size);
    struct run *run = run_count ? &runs[run_count - 1] : NULL;
    if (!run || run->closed || run->host != peer->host || run->port != peer->port
        || size > run->size || run->count == AT_ONCE || run->total + size > SEND_MOST) {
        run = &runs[run_count++];
        *run = (struct run){ peer->host, peer->port, 0, piece_count, 0, size, 0, false };
    }
    pieces[piece_count++] = (struct iovec){ head, head_size };
    if (body_size)
        pieces[piece_count++] = (struct iovec){ body, body_size };
    run->pieces = piece_count - run->piece;
    run->count++;
    run->total += size;
    run->closed = size < run->size;
}

/* Cut a TCP packet that stands for many into those (what a card does for TSO). */
static void cut(const struct peer *peer, uint8_t *packet, size_t length, uint32_t segment)
{
    struct iphdr *ip = (struct iphdr *)(void *)packet;
    size_t head = (size_t)ip->ihl * 4;
    struct tcphdr *tcp = (struct tcphdr *)(void *)(packet + head);
    if (!segment || length < head + sizeof *tcp || length <= head + (size_t)tcp->doff * 4 || tcp->doff < 5) {
        counters[MALFORMED]++;
        return;
    }
    head += (size_t)tcp->doff * 4;
    uint32_t sequence = ntohl(tcp->seq), offset = 0, payload = (uint32_t)(length - head);
    uint16_t id = ntohs(ip->id);
    for (; offset < payload; offset += segment) {
        uint32_t size = payload - offset < segment ? payload - offset : segment;
        if (run_count >= RUNS - 1 || piece_count >= PIECES - 2 || used + head > ARENA) {
            /* The packet itself lies in the arena, below what is reused: only sends go out here. */
            size_t keep = used;
            flush_runs();
            used = keep;
            if (used + head > ARENA) {
                counters[SEND_FAILED]++;
                return;
            }
        }
        uint8_t *own = arena + used;
        used += (head + 7) & ~(size_t)7;
        memcpy(own, packet, head);
        struct iphdr *own_ip = (struct iphdr *)(void *)own;
        struct tcphdr *own_tcp = (struct tcphdr *)(void *)(own + ip->ihl * 4);
        uint32_t transport = (uint32_t)(head - (size_t)ip->ihl * 4) + size;
        own_ip->tot_len = htons((uint16_t)(head + size));
        own_ip->id = htons(id++);
        sum_header(own_ip);
        own_tcp->seq = htonl(sequence + offset);
        if (offset + size < payload) {
            own_tcp->fin = 0;
            own_tcp->psh = 0;
        }
        if (offset)
            own[ip->ihl * 4 + 13] &= 0x7f; /* CWR is said once */
        own_tcp->check = 0;
        uint64_t sum = add(pseudo(ip, transport), own_tcp, transport - size);
        own_tcp->check = (uint16_t)~fold(add(sum, packet + head + offset, size));
        post(peer, own, head, packet + head + offset, size);
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

static bool waits(int file, int patience_ms)
{
    struct pollfd poll_for = { file, POLLIN, 0 };
    return poll(&poll_for, 1, patience_ms) > 0;
}

/* Say that the device is no more, and end: the agent makes it anew, and us with it. */
static void lose_device(void)
{
    fprintf(stderr, "netloom-udp: %s is gone: %s\n", device, strerror(errno));
    _exit(1);
}

/* Read one packet and take care of it; false when there is none, or no more room for the next. */
static bool take_packet(void)
{
    struct virtio_net_hdr about;
    uint8_t *packet = arena + used;
    struct iovec parts[2] = { { &about, sizeof about }, { packet, PACKET } };
    ssize_t got = readv(tun, parts, 2);
    if (got < 0 && (errno == EBADFD || errno == EBADF || errno == EFAULT))
        lose_device();
    if (got < 0 && errno == EAGAIN)
        waits(tun, LINGER_MS); /* another that takes over has set it so */
    if (got < (ssize_t)sizeof about)
        return false;
    size_t length = (size_t)got - sizeof about;
    used += (length + 7) & ~(size_t)7;
    route(&about, packet, length);
    return ARENA - used >= 3 * PACKET && run_count < RUNS - 2 && piece_count < PIECES - 2;
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
        flush_runs();
    }
    return nothing;
}

/* ---- from the peers to the device ---- */

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

static bool begin(void *(*work)(void *))
{
    pthread_t thread;
    return !(errno = pthread_create(&thread, NULL, work, NULL));
}

/* Until there is a table packets wait in the device: nobody shall hear that there is no way. */
static bool begin_outbound(void)
{
    static bool begun;
    begun = begun || begin(outbound);
    return begun;
}

/* ---- the control socket ---- */

static void answer(int client, uint32_t error, size_t length, const int *files, int file_count)
{
    uint32_t head[2] = { htonl(MAGIC), htonl(error) };
    memcpy(message, head, sizeof head);
    struct iovec part = { message, sizeof head + length };
    union { struct cmsghdr align; uint8_t room[CMSG_SPACE(2 * sizeof(int))]; } note;
    struct msghdr mail = { NULL, 0, &part, 1, NULL, 0, 0 };
    if (file_count) {
        mail.msg_control = &note;
        mail.msg_controllen = CMSG_SPACE((size_t)file_count * sizeof(int));
        struct cmsghdr *head_note = CMSG_FIRSTHDR(&mail);
        head_note->cmsg_level = SOL_SOCKET;
        head_note->cmsg_type = SCM_RIGHTS;
        head_note->cmsg_len = CMSG_LEN((size_t)file_count * sizeof(int));
        memcpy(CMSG_DATA(head_note), files, (size_t)file_count * sizeof(int));
    }
    bool sent = sendmsg(client, &mail, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
    if (sent && file_count) {
        /* Another carries the packets now; what we have read we carry ourselves. */
        leaving = true;
        poll(NULL, 0, LINGER_MS);
        _exit(0);
    }
}

static size_t tell_status(uint8_t *out)
{
    struct { uint32_t pid, local; uint16_t port, zero[3]; uint64_t generation, counters[COUNTERS];
             char device[16], version[32]; } status = { 0 };
    status.pid = htonl((uint32_t)getpid());
    status.local = local.s_addr;
    status.port = htons(port);
    status.generation = htobe64(generation);
    for (int i = 0; i < COUNTERS; i++)
        status.counters[i] = htobe64(counters[i]);
    strncpy(status.device, device, sizeof status.device - 1);
    strncpy(status.version, version, sizeof status.version - 1);
    memcpy(out, &status, sizeof status);
    return sizeof status;
}

static size_t tell_table(uint8_t *out)
{
    uint64_t number = htobe64(generation);
    memcpy(out, &number, sizeof number);
    return sizeof number + give_table(out + sizeof number);
}

static void obey(int client, size_t length)
{
    uint32_t head[2] = { 0 };
    uint8_t *body = message + sizeof head;
    memcpy(head, message, length < sizeof head ? length : sizeof head);
    if (length < sizeof head || length > MESSAGE || ntohl(head[0]) != MAGIC) {
        answer(client, EPROTO, 0, NULL, 0);
        return;
    }
    length -= sizeof head;
    switch (ntohl(head[1])) {
    case STATUS:
        answer(client, 0, tell_status(body), NULL, 0);
        return;
    case GET:
        answer(client, 0, tell_table(body), NULL, 0);
        return;
    case SET:
        if (length < sizeof generation || !take_table(body + sizeof generation, length - sizeof generation)) {
            answer(client, EINVAL, 0, NULL, 0);
            return;
        }
        memcpy(&generation, body, sizeof generation);
        generation = be64toh(generation);
        answer(client, begin_outbound() ? 0 : (uint32_t)errno, 0, NULL, 0);
        return;
    case HAND_OVER: {
        int files[2] = { tun, udp };
        answer(client, 0, tell_table(body), files, 2);
        return;
    }
    default:
        answer(client, ENOSYS, 0, NULL, 0);
    }
}

static void watch(int file)
{
    struct epoll_event event = { EPOLLIN, { .fd = file } };
    if (epoll_ctl(loop, EPOLL_CTL_ADD, file, &event) < 0)
        perror("netloom-udp: epoll_ctl");
}

static void greet(void)
{
    int client = accept4(control, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    for (int i = 0; client >= 0 && i < CLIENTS; i++)
        if (clients[i] < 0) {
            int room = 2 * MESSAGE;
            setsockopt(client, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
            clients[i] = client;
            watch(client);
            return;
        }
    if (client >= 0)
        close(client);
}

static void listen_to(int file)
{
    for (int i = 0; i < CLIENTS; i++) {
        if (clients[i] != file)
            continue;
        ssize_t got = recv(file, message, sizeof message, MSG_DONTWAIT);
        if (got > 0) {
            obey(file, (size_t)got);
        } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            close(file);
            clients[i] = -1;
        }
    }
}

/* ---- start ---- */

static void fail(const char *what)
{
    dprintf(STDOUT_FILENO, "%d %s\n", errno, what);
    exit(1);
}

/* Repeat for a second what a proxy that is just ending may hold. */
static bool again(int *patience)
{
    struct timespec pause = { 0, 10000000 };
    if ((errno != EBUSY && errno != EADDRINUSE) || --*patience < 0)
        return false;
    nanosleep(&pause, NULL);
    return true;
}

static void open_tun(void)
{
    struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR };
    int patience = 100;
    strncpy(request.ifr_name, device, IFNAMSIZ - 1);
    if (!if_nametoindex(device))
        fail("find the device");
    tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (tun < 0)
        fail("open /dev/net/tun");
    while (ioctl(tun, TUNSETIFF, &request) < 0)
        if (!again(&patience))
            fail("take the device");
}

static void open_udp(void)
{
    struct sockaddr_in here = { AF_INET, htons(port), local, { 0 } };
    int patience = 100, room = 4 << 20, on = 1;
    udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (udp < 0)
        fail("make a socket");
    while (bind(udp, (struct sockaddr *)&here, sizeof here) < 0)
        if (!again(&patience))
            fail("bind");
    setsockopt(udp, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    setsockopt(udp, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    setsockopt(udp, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
}

/* Keep a socket that we were handed if it is bound as we want it. */
static void keep_udp(int file)
{
    struct sockaddr_in bound = { 0 };
    socklen_t size = sizeof bound;
    if (!getsockname(file, (struct sockaddr *)&bound, &size) && bound.sin_port == htons(port)
        && bound.sin_addr.s_addr == local.s_addr)
        udp = file;
    else
        close(file);
}

static struct sockaddr_un control_name(const char *suffix)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    snprintf(name.sun_path, sizeof name.sun_path, "%s.sock%s", device, suffix);
    return name;
}

static void take_over(void)
{
    struct sockaddr_un name = control_name("");
    uint32_t request[2] = { htonl(MAGIC), htonl(HAND_OVER) };
    int other = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), files[2];
    struct timeval patience = { 2, 0 };
    union { struct cmsghdr align; uint8_t room[CMSG_SPACE(sizeof files)]; } note;
    struct iovec part = { message, sizeof message };
    struct msghdr mail = { NULL, 0, &part, 1, &note, sizeof note, 0 };
    setsockopt(other, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(other, (struct sockaddr *)&name, sizeof name) < 0
        || send(other, request, sizeof request, MSG_NOSIGNAL) < 0)
        fail("reach the proxy before");
    ssize_t got = recvmsg(other, &mail, MSG_CMSG_CLOEXEC);
    struct cmsghdr *head = got < 0 ? NULL : CMSG_FIRSTHDR(&mail);
    if (got < 16 || !head || head->cmsg_type != SCM_RIGHTS || head->cmsg_len != CMSG_LEN(sizeof files))
        fail("take over from the proxy before");
    memcpy(files, CMSG_DATA(head), sizeof files);
    tun = files[0];
    keep_udp(files[1]);
    memcpy(&generation, message + 8, sizeof generation);
    generation = be64toh(generation);
    take_table(message + 16, (size_t)got - 16);
    close(other);
}

static void open_control(void)
{
    struct sockaddr_un name = control_name(".new"), last = control_name("");
    control = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    umask(0177);
    unlink(name.sun_path);
    if (control < 0 || bind(control, (struct sockaddr *)&name, sizeof name) < 0
        || listen(control, CLIENTS) < 0 || rename(name.sun_path, last.sun_path) < 0)
        fail("listen for the agent");
}

static void set_up(const char *directory, bool taking_over)
{
    if (chdir(directory) < 0)
        fail("enter its directory");
    if (taking_over)
        take_over();
    else
        open_tun();
    /* Without these the kernel cuts packets itself. */
    if (ioctl(tun, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO_ECN) < 0)
        ioctl(tun, TUNSETOFFLOAD, 0);
    if (udp < 0)
        open_udp();
    raw = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW); /* without: no ICMP errors */
    open_control();
    fcntl(tun, F_SETFL, fcntl(tun, F_GETFL) & ~O_NONBLOCK);
    fcntl(udp, F_SETFL, fcntl(udp, F_GETFL) & ~O_NONBLOCK);
    loop = epoll_create1(EPOLL_CLOEXEC);
    if (loop < 0)
        fail("make an epoll");
    watch(control);
}

int main(int count, char **words)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = -1;
    if (count < 6 || inet_aton(words[2], &local) == 0 || !(port = (uint16_t)atoi(words[3]))
        || strlen(words[1]) >= IFNAMSIZ) {
        errno = EINVAL;
        fail("understand its arguments");
    }
    device = words[1];
    version = words[5];
    for (int i = 0; i < 2; i++)
        if (!(peer_sets[i] = calloc(MOST_PEERS, sizeof(struct peer))))
            fail("find memory");
    peers = peer_sets[0];
    set_up(words[4], count > 6 && !strcmp(words[6], "take-over"));
    if (!begin(inbound) || (generation && !begin_outbound()))
        fail("make threads");
    dprintf(STDOUT_FILENO, "ready\n");
    close(STDOUT_FILENO);
    for (;;) {
        struct epoll_event events[1 + CLIENTS];
        int ready = epoll_wait(loop, events, 1 + CLIENTS, -1);
        for (int i = 0; i < ready; i++)
            if (events[i].data.fd == control)
                greet();
            else
                listen_to(events[i].data.fd);
    }
}
