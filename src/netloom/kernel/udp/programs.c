/*
 * The two programs that carry packets between hosts of ours without leaving the kernel, in eBPF
 * (Documentation/bpf/standardization/instruction-set.rst). What is not plainly theirs they leave
 * as it is, and the proxy gets it: what has IP options, is expired, goes to nobody whom we know,
 * came in fragments, has a checksum of its own or was merged on its way.
 *
 * So do long packets, what acknowledges them, and short ones that follow them: the proxy carries
 * many with one system call, in which it is the faster one, and in a flow that goes two ways packets
 * would overtake others.
 */
#include "programs.h"
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

enum {
    IP = 20, UDP = 8, OUTER = IP + UDP, BOTH = OUTER + IP, /* bytes of headers */
    TO_PROXY = 0x7fff,           /* as the offset of a jump: to the end, where the packet goes on */
    FIRST = -BOTH,               /* on the stack: the outer IP header, */
    SECOND = FIRST + IP,         /* the outer UDP header, */
    THIRD = FIRST + OUTER,       /* and the inner IP header */
    KEY = FIRST - 8,             /* what a map is asked */
    NOW = KEY - 8,
    REST_NS = 10000000,          /* after so long what the proxy was given is on its way */
    IP_AT_LENGTH = 2, IP_AT_ID = 4, IP_AT_FRAGMENT = 6, IP_AT_TTL = 8, IP_AT_PROTOCOL = 9,
    IP_AT_CHECK = 10, IP_AT_SOURCE = 12, IP_AT_TARGET = 16,
    UDP_AT_SOURCE = 0, UDP_AT_TARGET = 2, UDP_AT_LENGTH = 4, UDP_AT_CHECK = 6,
    GOES_ON = -1,                /* TCX_NEXT: to who else is attached here, and then to the proxy */
    DECAP_IPV4 = 1 << 7,         /* BPF_F_ADJ_ROOM_DECAP_L3_IPV4 */
};

#define R0 BPF_REG_0
#define R1 BPF_REG_1
#define R2 BPF_REG_2
#define R3 BPF_REG_3
#define R4 BPF_REG_4
#define R6 BPF_REG_6 /* the packet */
#define R7 BPF_REG_7
#define R8 BPF_REG_8
#define R9 BPF_REG_9
#define FRAME BPF_REG_10

#define WORD(op, to, from, at, value) \
    { .code = (op), .dst_reg = (to), .src_reg = (from), .off = (at), .imm = (int32_t)(value) }
#define SET(to, value) WORD(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value)
#define COPY(to, from) WORD(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0)
#define DO(op, to, value) WORD(BPF_ALU64 | (op) | BPF_K, to, 0, 0, value)
#define DO_WITH(op, to, from) WORD(BPF_ALU64 | (op) | BPF_X, to, from, 0, 0)
#define SWAP16(to) WORD(BPF_ALU | BPF_END | BPF_TO_BE, to, 0, 0, 16)
#define LOAD(size, to, from, at) WORD(BPF_LDX | BPF_MEM | (size), to, from, at, 0)
#define STORE(size, at, from) WORD(BPF_STX | BPF_MEM | (size), FRAME, from, at, 0)
#define PUT(size, at, value) WORD(BPF_ST | BPF_MEM | (size), FRAME, 0, at, value)
#define IF(op, reg, value, at) WORD(BPF_JMP | (op) | BPF_K, reg, 0, at, value)
#define IF_WITH(op, reg, other, at) WORD(BPF_JMP | (op) | BPF_X, reg, other, at, 0)
#define IF32(op, reg, value, at) WORD(BPF_JMP32 | (op) | BPF_K, reg, 0, at, value)
#define GO(at) WORD(BPF_JMP | BPF_JA, 0, 0, at, 0)
#define CALL(number) WORD(BPF_JMP | BPF_CALL, 0, 0, 0, number)
#define MAP(to, file) \
    WORD(BPF_LD | BPF_DW | BPF_IMM, to, BPF_PSEUDO_MAP_FD, 0, file), WORD(0, 0, 0, 0, 0)
/* Add one to a number in a map of one entry. */
#define COUNT(file, at) \
    WORD(BPF_LD | BPF_DW | BPF_IMM, R1, BPF_PSEUDO_MAP_VALUE, 0, file), WORD(0, 0, 0, 0, at), \
    SET(R0, 1), WORD(BPF_STX | BPF_ATOMIC | BPF_DW, R1, R0, 0, BPF_ADD)
#define END WORD(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
#define OF_PACKET(field) ((int16_t)offsetof(struct __sk_buff, field))
#define ADDRESS(to, at) COPY(to, FRAME), DO(BPF_ADD, to, at)
/* Copy bytes of the packet to the stack, or leave it to the proxy. */
#define FETCH(from, at, size) \
    COPY(R1, R6), SET(R2, from), ADDRESS(R3, at), SET(R4, size), \
    CALL(BPF_FUNC_skb_load_bytes), IF(BPF_JNE, R0, 0, TO_PROXY)
#define FOLD(reg, other) \
    COPY(other, reg), DO(BPF_RSH, other, 16), DO(BPF_AND, reg, 0xffff), DO_WITH(BPF_ADD, reg, other)

/* Aim the jumps to the end, which lets the packet go on. */
static size_t finish(struct bpf_insn *program, size_t size)
{
    const struct bpf_insn end[] = { SET(R0, GOES_ON), END };
    for (size_t i = 0; i < size; i++)
        if ((program[i].code & 7) >= BPF_JMP && (program[i].code & 7) <= BPF_JMP32
            && program[i].off == TO_PROXY)
            program[i].off = (int16_t)(size - i - 1);
    memcpy(program + size, end, sizeof end);
    return size + 2;
}

/* The sum of all words of the outer header that are the same in every packet. */
static uint32_t constant_sum(const struct place *place)
{
    return htons(0x4500) + htons(64 << 8 | IPPROTO_UDP) + (place->local & 0xffff)
        + (place->local >> 16);
}

/*
 * On its way out of the device: a packet to a host that takes it out of the datagram in its kernel
 * gets its two headers here. The outer checksum of UDP is none: that of the inner packet holds,
 * and it may be one that a network card is yet to fill in.
 */
size_t write_out(struct bpf_insn *program, const struct place *place)
{
    const struct bpf_insn words[] = {
        COPY(R6, R1),
        FETCH(0, THIRD, IP),
        LOAD(BPF_B, R0, FRAME, THIRD), IF(BPF_JNE, R0, 0x45, TO_PROXY),
        LOAD(BPF_B, R0, FRAME, THIRD + IP_AT_TTL), IF(BPF_JLE, R0, 1, TO_PROXY),
        LOAD(BPF_H, R7, FRAME, THIRD + IP_AT_LENGTH), SWAP16(R7),
        LOAD(BPF_W, R0, R6, OF_PACKET(len)), IF_WITH(BPF_JNE, R0, R7, TO_PROXY),
        /* Is there a peer, and does it unpack in the kernel? */
        PUT(BPF_W, KEY, 32),
        LOAD(BPF_W, R0, FRAME, THIRD + IP_AT_TARGET), STORE(BPF_W, KEY + 4, R0),
        MAP(R1, place->blocks), ADDRESS(R2, KEY), CALL(BPF_FUNC_map_lookup_elem),
        IF(BPF_JEQ, R0, 0, TO_PROXY),
        LOAD(BPF_W, R8, R0, offsetof(struct block_value, host)),
        LOAD(BPF_H, R9, R0, offsetof(struct block_value, port)),
        LOAD(BPF_H, R0, R0, offsetof(struct block_value, unpacks)), IF(BPF_JEQ, R0, 0, TO_PROXY),
        /* Acknowledgements alone say that much comes the other way: many at once, as well. */
        LOAD(BPF_B, R0, FRAME, THIRD + IP_AT_PROTOCOL), IF(BPF_JNE, R0, IPPROTO_TCP, 14),
        FETCH(IP + 12, KEY, 2),
        LOAD(BPF_B, R1, FRAME, KEY + 1), IF(BPF_JNE, R1, 0x10, 5),
        LOAD(BPF_B, R1, FRAME, KEY), DO(BPF_RSH, R1, 4), DO(BPF_LSH, R1, 2), DO(BPF_ADD, R1, IP),
        IF_WITH(BPF_JEQ, R1, R7, TO_PROXY),
        /* Is it short, and were all of its flow of late? The proxy would come in after us. */
        CALL(BPF_FUNC_ktime_get_ns), STORE(BPF_DW, NOW, R0),
        COPY(R1, R6), CALL(BPF_FUNC_get_hash_recalc), DO(BPF_AND, R0, FLOWS - 1),
        STORE(BPF_W, KEY, R0),
        MAP(R1, place->flows), ADDRESS(R2, KEY), CALL(BPF_FUNC_map_lookup_elem),
        IF(BPF_JEQ, R0, 0, TO_PROXY),
        LOAD(BPF_DW, R1, R0, 0), LOAD(BPF_DW, R2, FRAME, NOW),
        LOAD(BPF_W, R3, R6, OF_PACKET(gso_size)), IF(BPF_JNE, R3, 0, 5),
        IF(BPF_JGT, R7, place->mtu / 2, 4),
        COPY(R3, R2), DO_WITH(BPF_SUB, R3, R1), IF(BPF_JLT, R3, REST_NS, TO_PROXY), GO(2),
        WORD(BPF_STX | BPF_MEM | BPF_DW, R0, R2, 0, 0), GO(TO_PROXY),
        /* The tunnel is a hop (RFC 1141). */
        LOAD(BPF_B, R0, FRAME, THIRD + IP_AT_TTL), DO(BPF_SUB, R0, 1),
        STORE(BPF_B, THIRD + IP_AT_TTL, R0),
        LOAD(BPF_H, R0, FRAME, THIRD + IP_AT_CHECK), DO(BPF_ADD, R0, htons(0x0100)),
        FOLD(R0, R1), STORE(BPF_H, THIRD + IP_AT_CHECK, R0),
        /* The outer headers. */
        PUT(BPF_H, FIRST, htons(0x4500)), PUT(BPF_H, FIRST + IP_AT_FRAGMENT, 0),
        PUT(BPF_H, FIRST + IP_AT_TTL, htons(64 << 8 | IPPROTO_UDP)),
        PUT(BPF_W, FIRST + IP_AT_SOURCE, place->local), STORE(BPF_W, FIRST + IP_AT_TARGET, R8),
        PUT(BPF_H, SECOND + UDP_AT_SOURCE, place->port), STORE(BPF_H, SECOND + UDP_AT_TARGET, R9),
        PUT(BPF_H, SECOND + UDP_AT_CHECK, 0),
        DO(BPF_ADD, R7, UDP), COPY(R0, R7), SWAP16(R0), STORE(BPF_H, SECOND + UDP_AT_LENGTH, R0),
        DO(BPF_ADD, R7, IP), SWAP16(R7), STORE(BPF_H, FIRST + IP_AT_LENGTH, R7),
        CALL(BPF_FUNC_get_prandom_u32), DO(BPF_AND, R0, 0xffff), STORE(BPF_H, FIRST + IP_AT_ID, R0),
        DO_WITH(BPF_ADD, R0, R7), DO(BPF_ADD, R0, constant_sum(place)), DO_WITH(BPF_ADD, R0, R8),
        FOLD(R0, R1), FOLD(R0, R1), FOLD(R0, R1), DO(BPF_XOR, R0, 0xffff),
        STORE(BPF_H, FIRST + IP_AT_CHECK, R0),
        /* Make room, and a place for the header of the card, which the kernel fills in. */
        COPY(R1, R6), SET(R2, OUTER), SET(R3, BPF_ADJ_ROOM_MAC),
        SET(R4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP),
        CALL(BPF_FUNC_skb_adjust_room), IF(BPF_JNE, R0, 0, TO_PROXY),
        COPY(R1, R6), SET(R2, ETH_HLEN), SET(R3, 0), CALL(BPF_FUNC_skb_change_head),
        IF(BPF_JEQ, R0, 0, 2), SET(R0, TC_ACT_SHOT), END,
        COPY(R1, R6), SET(R2, ETH_HLEN), ADDRESS(R3, FIRST), SET(R4, BOTH),
        SET(BPF_REG_5, 0), CALL(BPF_FUNC_skb_store_bytes),
        IF(BPF_JEQ, R0, 0, 2), SET(R0, TC_ACT_SHOT), END,
        COUNT(place->counters, 0),
        /* No next hop is named: the kernel would ask for it by the route of the inner packet. */
        SET(R1, place->card), SET(R2, 0), SET(R3, 0),
        SET(R4, 0), CALL(BPF_FUNC_redirect_neigh), END,
    };
    memcpy(program, words, sizeof words);
    return finish(program, sizeof words / sizeof *words);
}

/* On its way in from the card: what the program above has packed at a peer is unpacked. */
size_t write_in(struct bpf_insn *program, const struct place *place)
{
    const struct bpf_insn words[] = {
        COPY(R6, R1),
        LOAD(BPF_W, R0, R6, OF_PACKET(protocol)), IF(BPF_JNE, R0, htons(ETH_P_IP), TO_PROXY),
        LOAD(BPF_W, R0, R6, OF_PACKET(pkt_type)), IF(BPF_JNE, R0, PACKET_HOST, TO_PROXY),
        LOAD(BPF_W, R0, R6, OF_PACKET(vlan_present)), IF(BPF_JNE, R0, 0, TO_PROXY),
        FETCH(ETH_HLEN, FIRST, BOTH),
        LOAD(BPF_B, R0, FRAME, FIRST), IF(BPF_JNE, R0, 0x45, TO_PROXY),
        LOAD(BPF_B, R0, FRAME, FIRST + IP_AT_PROTOCOL), IF(BPF_JNE, R0, IPPROTO_UDP, TO_PROXY),
        LOAD(BPF_H, R0, FRAME, SECOND + UDP_AT_TARGET), IF(BPF_JNE, R0, place->port, TO_PROXY),
        LOAD(BPF_W, R0, FRAME, FIRST + IP_AT_TARGET), IF32(BPF_JNE, R0, place->local, TO_PROXY),
        LOAD(BPF_H, R0, FRAME, SECOND + UDP_AT_CHECK), IF(BPF_JNE, R0, 0, TO_PROXY),
        LOAD(BPF_H, R0, FRAME, FIRST + IP_AT_FRAGMENT), DO(BPF_AND, R0, htons(0x3fff)),
        IF(BPF_JNE, R0, 0, TO_PROXY),
        /* One whole packet, and nothing else. */
        LOAD(BPF_B, R0, FRAME, THIRD), IF(BPF_JNE, R0, 0x45, TO_PROXY),
        LOAD(BPF_W, R7, R6, OF_PACKET(len)), DO(BPF_SUB, R7, ETH_HLEN),
        LOAD(BPF_H, R0, FRAME, FIRST + IP_AT_LENGTH), SWAP16(R0),
        IF_WITH(BPF_JNE, R0, R7, TO_PROXY), DO(BPF_SUB, R7, IP),
        LOAD(BPF_H, R0, FRAME, SECOND + UDP_AT_LENGTH), SWAP16(R0),
        IF_WITH(BPF_JNE, R0, R7, TO_PROXY), DO(BPF_SUB, R7, UDP),
        LOAD(BPF_H, R0, FRAME, THIRD + IP_AT_LENGTH), SWAP16(R0),
        IF_WITH(BPF_JNE, R0, R7, TO_PROXY),
        /* The checksum of the outer header, which nobody else looks at now. */
        LOAD(BPF_W, R0, FRAME, FIRST),
        LOAD(BPF_W, R1, FRAME, FIRST + 4), DO_WITH(BPF_ADD, R0, R1),
        LOAD(BPF_W, R1, FRAME, FIRST + 8), DO_WITH(BPF_ADD, R0, R1),
        LOAD(BPF_W, R1, FRAME, FIRST + 12), DO_WITH(BPF_ADD, R0, R1),
        LOAD(BPF_W, R1, FRAME, FIRST + 16), DO_WITH(BPF_ADD, R0, R1),
        FOLD(R0, R1), FOLD(R0, R1), FOLD(R0, R1), FOLD(R0, R1), IF(BPF_JNE, R0, 0xffff, TO_PROXY),
        MAP(R1, place->hosts), ADDRESS(R2, FIRST + IP_AT_SOURCE), CALL(BPF_FUNC_map_lookup_elem),
        IF(BPF_JEQ, R0, 0, TO_PROXY),
        COPY(R1, R6), SET(R2, -OUTER), SET(R3, BPF_ADJ_ROOM_MAC),
        SET(R4, DECAP_IPV4),
        CALL(BPF_FUNC_skb_adjust_room), IF(BPF_JNE, R0, 0, TO_PROXY),
        COUNT(place->counters, 8),
        SET(R1, place->tunnel), SET(R2, BPF_F_INGRESS), CALL(BPF_FUNC_redirect), END,
    };
    memcpy(program, words, sizeof words);
    return finish(program, sizeof words / sizeof *words);
}
