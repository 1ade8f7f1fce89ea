/* Checksums of IPv4, TCP and UDP (RFC 1071). */
#ifndef NETLOOM_UDP_CHECKSUM_H
#define NETLOOM_UDP_CHECKSUM_H

#include <arpa/inet.h>
#include <netinet/ip.h>
#include <stdint.h>
#include <string.h>

/* Add bytes to a sum that fold() ends. */
static inline uint64_t add(uint64_t sum, const void *data, size_t length)
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

static inline uint16_t fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static inline uint64_t pseudo(const struct iphdr *ip, uint32_t length)
{
    return (uint64_t)ip->saddr + ip->daddr + htons(ip->protocol) + htons((uint16_t)length);
}

static inline void sum_header(struct iphdr *ip)
{
    ip->check = 0;
    ip->check = (uint16_t)~fold(add(0, ip, (size_t)ip->ihl * 4));
}

#endif
