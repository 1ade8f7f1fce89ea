/*
 * Datagrams that leave together. Those to one host that are of one size leave as one send of many
 * (UDP_SEGMENT), and all sends of a batch with one system call. Packets lie in the arena, one after
 * the other, until the batch is flushed.
 */
#define _GNU_SOURCE
#include "proxy.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum {
    RUNS = 64,             /* sends of one batch */
    PIECES = 2048,         /* pieces of memory of one batch */
    SEND_MOST = 65000,     /* bytes of one send */
    ARENA = 640 << 10,     /* packets and headers of one batch */
};

/* Datagrams to one host, all of `size` bytes except perhaps the last. */
struct run {
    uint32_t host;
    uint16_t port, count;
    uint32_t piece, pieces, size, total;
    bool closed;
};

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

void flush_batch(void)
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
void post(const struct peer *peer, void *head, size_t head_size, void *body, size_t body_size)
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

/* Return where the next packet may be read to: PACKET bytes, if batch_has_room(). */
uint8_t *batch_end(void)
{
    return arena + used;
}

/* Keep what was read to batch_end(). */
void batch_keep(size_t length)
{
    used += (length + 7) & ~(size_t)7;
}

/* Tell whether another packet can be read and posted. */
bool batch_has_room(void)
{
    return ARENA - used >= 3 * PACKET && run_count < RUNS - 2 && piece_count < PIECES - 2;
}

/*
 * Return room for the header of a datagram that is to be posted, or NULL. What is full is sent
 * before, but what was read stays where it is: the packet that is being cut is part of it.
 */
uint8_t *batch_head(size_t length)
{
    if (run_count >= RUNS - 1 || piece_count >= PIECES - 2 || used + length > ARENA) {
        size_t keep = used;
        flush_batch();
        used = keep;
        if (used + length > ARENA)
            return NULL;
    }
    uint8_t *head = arena + used;
    batch_keep(length);
    return head;
}
