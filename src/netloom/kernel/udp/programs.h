/* The two programs in the kernel, and what they are made for. */
#ifndef NETLOOM_UDP_PROGRAMS_H
#define NETLOOM_UDP_PROGRAMS_H

#include <linux/bpf.h>
#include <stddef.h>
#include <stdint.h>

/*
 * `card` and `tunnel` are numbers of devices; `local` and `port` are in network order. The maps:
 * `blocks`, a trie, has who has which block, and whether he unpacks in his kernel; `hosts` has the
 * addresses of peers; `flows` has, by the flow's hash, when the proxy was last given a long packet
 * of it; `counters` is one entry of two numbers, packets sent and received.
 */
struct place {
    uint32_t card, tunnel, mtu, local;
    uint16_t port;
    int blocks, hosts, flows, counters;
};

struct block_key { uint32_t length, net; };
struct block_value { uint32_t host; uint16_t port, unpacks; };

enum { MOST_WORDS = 256, FLOWS = 4096 };

size_t write_out(struct bpf_insn *program, const struct place *place);
size_t write_in(struct bpf_insn *program, const struct place *place);

#endif
