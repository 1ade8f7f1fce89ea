/* What the parts of netloom-udp share; proxy.c says what the program does. */
#ifndef NETLOOM_UDP_PROXY_H
#define NETLOOM_UDP_PROXY_H

#include <netinet/in.h>
#include <netinet/ip.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PACKET = 65536,    /* room for the largest packet and then some */
    AT_ONCE = 64,      /* datagrams of one send: UDP_MAX_SEGMENTS of older kernels */
    CLIENTS = 8,       /* connections to the control socket */
    MOST_PEERS = 65536,
    MESSAGE = 16 + 12 * MOST_PEERS,
    LINGER_MS = 500,   /* for a packet that is being carried while another takes over */
    QUIET_MS = 100,    /* when nothing came for so long, nothing is on its way any more */
};

enum { MAGIC = 0x4e4c5531, /* NLU1 */ STATUS = 1, GET = 2, SET = 3, HAND_OVER = 4 };

enum { SENT, RECEIVED, NO_PEER, EXPIRED, MALFORMED, SEND_FAILED, WRITE_FAILED, COUNTERS };

/*
 * A block and the host that has it. `inside`: the next larger entry that holds it, or -1.
 * `unpacks`: it takes packets by the shortcut, whose checksums are not filled in yet.
 */
struct peer {
    uint32_t first, last, host;
    int32_t inside;
    uint16_t port;
    uint8_t length;
    bool unpacks;
};

/* ---- proxy.c: what the program is, and has ---- */

extern int tun, udp, raw, control;
extern const char *device, *version;
extern struct in_addr local;
extern uint16_t port;
extern uint64_t generation;
extern _Atomic uint64_t counters[COUNTERS];
extern atomic_bool leaving;
extern uint8_t message[MESSAGE + 1]; /* of the control socket */

bool waits(int file, int patience_ms);
bool begin(void *(*work)(void *));

/* ---- opening.c: descriptors made, or taken over from the proxy before ---- */

void fail(const char *what) __attribute__((noreturn));
void lose_device(void) __attribute__((noreturn));
void open_tun(void);
void open_udp(void);
void open_control(void);
void take_over(void);

/* ---- table.c: who has which block ---- */

bool make_tables(void);
bool take_table(const uint8_t *data, size_t length);
size_t give_table(uint8_t *data);
bool find(uint32_t address, struct peer *found);

/* ---- icmp.c: what a router says of a packet that it cannot forward ---- */

void complain(const struct iphdr *about, size_t length, uint8_t type, uint8_t code);

/* ---- batch.c: datagrams that leave together ---- */

uint8_t *batch_end(void);
void batch_keep(size_t length);
uint8_t *batch_head(size_t length);
bool batch_has_room(void);
void post(const struct peer *peer, void *head, size_t head_size, void *body, size_t body_size);
void flush_batch(void);

/* ---- shortcut.c: packets that the kernel carries without us ---- */

extern bool shortcut_wanted;
extern int shortcut_errno;
void make_maps(void);
void tell_kernel(const struct peer *now, uint32_t count, const struct peer *was, uint32_t before);
uint64_t carried_by_kernel(int counter);
void look_at_shortcut(void);
bool has_shortcut(void);
void send_no_more(void);
int listen_for_cards(void);
int listen_for_policies(void);

/* ---- the two directions ---- */

bool begin_inbound(void);
bool begin_outbound(void);

/* ---- agent.c: the control socket ---- */

bool meet_agent(void);
void serve_agent(void) __attribute__((noreturn));

#endif
