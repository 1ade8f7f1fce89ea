/*
 * The table of peers: which host has the block that an address is in. The agent's thread replaces
 * it as a whole, in the other of two places, while the outbound thread looks addresses up.
 */
#include "proxy.h"
#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* As on the control socket, all in network order. */
struct entry { uint32_t net, host; uint16_t port; uint8_t length, unpacks; };

static struct peer *peers, *peer_sets[2];
static uint32_t peer_count;
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

/* Find memory for the largest table twice. */
bool make_tables(void)
{
    for (int i = 0; i < 2; i++)
        if (!(peer_sets[i] = calloc(MOST_PEERS, sizeof(struct peer))))
            return false;
    peers = peer_sets[0];
    return true;
}

static int by_first(const void *left, const void *right)
{
    const struct peer *a = left, *b = right;
    if (a->first != b->first)
        return a->first < b->first ? -1 : 1;
    return (int)a->length - (int)b->length;
}

/* Take a table over as a whole; false: not one word of it is taken. */
bool take_table(const uint8_t *data, size_t length)
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
        fresh[i] = (struct peer){ ntohl(e.net), ntohl(e.net) | rest, e.host, -1, e.port, e.length,
                                  e.unpacks };
    }
    qsort(fresh, count, sizeof *fresh, by_first);
    int32_t open = -1;
    for (size_t i = 0; i < count; i++) {
        while (open >= 0 && fresh[open].last < fresh[i].first)
            open = fresh[open].inside;
        fresh[i].inside = open;
        open = (int32_t)i;
    }
    tell_kernel(fresh, (uint32_t)count, peers, peer_count);
    pthread_mutex_lock(&table_lock);
    peers = fresh;
    peer_count = (uint32_t)count;
    pthread_mutex_unlock(&table_lock);
    return true;
}

size_t give_table(uint8_t *data)
{
    for (uint32_t i = 0; i < peer_count; i++) {
        struct peer *p = &peers[i];
        struct entry e = { htonl(p->first), p->host, p->port, p->length, p->unpacks };
        memcpy(data + i * sizeof e, &e, sizeof e);
    }
    return peer_count * sizeof(struct entry);
}

bool find(uint32_t address, struct peer *found)
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
