/* ICMP errors, as a router sends them (RFC 792, RFC 1812 §4.3.2). */
#define _GNU_SOURCE
#include "proxy.h"
#include "checksum.h"
#include <net/if.h>
#include <netinet/ip_icmp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

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
    tokens += 1000 * (double)(now.tv_sec - before.tv_sec);
    tokens += 1e-6 * (double)(now.tv_nsec - before.tv_nsec);
    tokens = tokens > 50 ? 50 : tokens;
    before = now;
    if (tokens < 1)
        return false;
    tokens--;
    return true;
}

void complain(const struct iphdr *about, size_t length, uint8_t type, uint8_t code)
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
        && (length == head
            || (*body != ICMP_ECHO && *body != ICMP_ECHOREPLY && *body != ICMP_TIMESTAMP)))
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
