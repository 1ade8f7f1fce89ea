/*
 * The shortcut: two programs in the kernel (programs.c) that carry packets between hosts of ours
 * without us. They are attached by links (tcx) that live as long as we do, so that nothing of them
 * outlives us. Where they cannot be had, we carry everything, as we do with all other peers.
 *
 * Who listens on the same card, and qdiscs and filters of others, are left as they are. A packet
 * that takes the shortcut passes neither the host's own firewall nor its IPsec policies: while
 * there is any of the latter, nothing is sent by it.
 */
#define _GNU_SOURCE
#include "proxy.h"
#include "programs.h"
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/xfrm.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of Linux 6.6, and of newer headers than some have. */
enum { TCX_INGRESS = 46, TCX_EGRESS = 47, BEFORE = 1 << 3 };

bool shortcut_wanted = true;
int shortcut_errno;
static struct place place; /* where the links are; `card` 0: nowhere */
static int link_in = -1, link_out = -1, counting = -1;
static _Atomic uint64_t *carried; /* sent, received */
static bool incomplete;           /* the kernel had no memory for all peers */

static int bpf(int command, union bpf_attr *what)
{
    int result = (int)syscall(SYS_bpf, command, what, sizeof *what);
    if (result < 0)
        shortcut_errno = errno;
    return result;
}

static int make_map(uint32_t type, uint32_t key, uint32_t value, uint32_t most, uint32_t flags)
{
    union bpf_attr what = { .map_type = type, .key_size = key, .value_size = value,
                            .max_entries = most, .map_flags = flags, .map_name = "netloom" };
    return bpf(BPF_MAP_CREATE, &what);
}

static bool put(int map, const void *key, const void *value)
{
    union bpf_attr what = { 0 };
    what.map_fd = (uint32_t)map;
    what.key = (uintptr_t)key;
    what.value = (uintptr_t)value;
    return bpf(value ? BPF_MAP_UPDATE_ELEM : BPF_MAP_DELETE_ELEM, &what) >= 0;
}

/* Find memory for the table of peers in the kernel. */
void make_maps(void)
{
    place.blocks = make_map(BPF_MAP_TYPE_LPM_TRIE, sizeof(struct block_key),
                            sizeof(struct block_value), MOST_PEERS, BPF_F_NO_PREALLOC);
    place.hosts = make_map(BPF_MAP_TYPE_HASH, 4, 1, MOST_PEERS, BPF_F_NO_PREALLOC);
    place.flows = make_map(BPF_MAP_TYPE_ARRAY, 4, 8, FLOWS, 0);
    counting = make_map(BPF_MAP_TYPE_ARRAY, 4, 16, 1, BPF_F_MMAPABLE);
    void *there = counting < 0 ? MAP_FAILED
                               : mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, counting, 0);
    carried = there == MAP_FAILED ? NULL : there;
    place.counters = counting;
}

uint64_t carried_by_kernel(int counter)
{
    return carried && counter <= RECEIVED ? carried[counter] : 0;
}

static int compare(const struct peer *a, const struct peer *b)
{
    return a->first != b->first ? (a->first < b->first ? -1 : 1) : a->length - b->length;
}

static bool has_host(const struct peer *table, uint32_t count, uint32_t host)
{
    for (uint32_t i = 0; i < count; i++)
        if (table[i].host == host)
            return true;
    return false;
}

static void write_peer(const struct peer *peer)
{
    struct block_key key = { peer->length, htonl(peer->first) };
    struct block_value value = { peer->host, peer->port, peer->unpacks };
    uint8_t here = 1;
    if (!put(place.hosts, &peer->host, &here) || !put(place.blocks, &key, &value)) {
        incomplete = true;
        send_no_more();
    }
}

/*
 * Tell the kernel of another table; both are sorted. What is narrower is written first and taken
 * away last, so that nothing goes astray meanwhile.
 */
void tell_kernel(const struct peer *now, uint32_t count, const struct peer *was, uint32_t before)
{
    if (!carried || place.blocks < 0 || place.hosts < 0)
        return;
    int64_t i = (int64_t)count - 1, j = (int64_t)before - 1;
    for (; i >= 0; i--) {
        while (j >= 0 && compare(&was[j], &now[i]) > 0)
            j--;
        if (j < 0 || compare(&was[j], &now[i]) || was[j].host != now[i].host
            || was[j].port != now[i].port || was[j].unpacks != now[i].unpacks)
            write_peer(&now[i]);
    }
    for (i = j = 0; j < (int64_t)before; j++) {
        while (i < (int64_t)count && compare(&now[i], &was[j]) < 0)
            i++;
        bool stays = i < (int64_t)count && !compare(&now[i], &was[j]);
        struct block_key key = { was[j].length, htonl(was[j].first) };
        if (!stays)
            put(place.blocks, &key, NULL);
        if ((!stays || now[i].host != was[j].host) && !has_host(now, count, was[j].host))
            put(place.hosts, &was[j].host, NULL);
    }
}

static int attach(size_t (*write)(struct bpf_insn *, const struct place *),
                  const struct place *where, uint32_t card, uint32_t type)
{
    struct bpf_insn words[MOST_WORDS];
    union bpf_attr what = { .prog_type = BPF_PROG_TYPE_SCHED_CLS, .prog_name = "netloom" };
    what.insns = (uintptr_t)words;
    what.insn_cnt = (uint32_t)write(words, where);
    what.license = (uintptr_t)"Apache-2.0";
    int program = bpf(BPF_PROG_LOAD, &what);
    if (program < 0)
        return -1;
    union bpf_attr link = { 0 };
    link.link_create.prog_fd = (uint32_t)program;
    link.link_create.target_ifindex = card;
    link.link_create.attach_type = type;
    link.link_create.flags = BEFORE; /* of one that ends, which knows the peers of yesterday */
    int made = bpf(BPF_LINK_CREATE, &link);
    close(program);
    return made;
}

/* Tell whether there are IPsec policies for what leaves this host. */
static bool is_ciphered(void)
{
    struct { struct nlmsghdr head; uint32_t flags; } ask = {
        { sizeof ask, XFRM_MSG_GETSPDINFO, NLM_F_REQUEST, 1, 0 }, UINT32_MAX };
    union { struct nlmsghdr head; uint8_t room[512]; } answer;
    int file = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_XFRM);
    if (file < 0)
        return false; /* a kernel without */
    ssize_t got = send(file, &ask, sizeof ask, 0) < 0 ? -1 : recv(file, &answer, sizeof answer, 0);
    close(file);
    size_t start = NLMSG_LENGTH(sizeof(uint32_t));
    if (got < (ssize_t)(start + RTA_LENGTH(sizeof(struct xfrmu_spdinfo)))
        || answer.head.nlmsg_type != XFRM_MSG_NEWSPDINFO)
        return true; /* in doubt we do without */
    const struct rtattr *first = (const void *)(answer.room + start);
    const struct xfrmu_spdinfo *info = RTA_DATA(first);
    return first->rta_type != XFRMA_SPD_INFO || info->outcnt;
}

static bool has_address(const char *card)
{
    struct ifreq request = { .ifr_addr.sa_family = AF_INET };
    memcpy(request.ifr_name, card, IFNAMSIZ);
    return !ioctl(udp, SIOCGIFADDR, &request)
        && ((struct sockaddr_in *)(void *)&request.ifr_addr)->sin_addr.s_addr == local.s_addr;
}

/* Find the card that has our address: it may have been made anew, or got another MTU. */
static bool find_card(struct place *found)
{
    struct ifreq request = { 0 };
    char *card = request.ifr_name;
    if (!place.card || !if_indextoname(place.card, card) || !has_address(card)) {
        struct ifaddrs *all = NULL;
        *card = 0;
        if (getifaddrs(&all) < 0)
            return false;
        for (struct ifaddrs *each = all; each; each = each->ifa_next)
            if (each->ifa_addr && each->ifa_addr->sa_family == AF_INET
                && ((struct sockaddr_in *)(void *)each->ifa_addr)->sin_addr.s_addr == local.s_addr)
                strncpy(card, each->ifa_name, IFNAMSIZ - 1);
        freeifaddrs(all);
    }
    found->card = if_nametoindex(card);
    found->tunnel = if_nametoindex(device);
    if (ioctl(udp, SIOCGIFHWADDR, &request) < 0 || request.ifr_hwaddr.sa_family != ARPHRD_ETHER
        || ioctl(udp, SIOCGIFMTU, &request) < 0)
        return false;
    found->mtu = (uint32_t)request.ifr_mtu;
    return found->card && found->tunnel;
}

static void replace_link(int *link, int fresh)
{
    if (*link >= 0)
        close(*link);
    *link = fresh;
}

/* See that the programs are attached where they belong. */
void look_at_shortcut(void)
{
    struct place now = { .local = local.s_addr, .port = htons(port), .blocks = place.blocks,
                         .hosts = place.hosts, .flows = place.flows, .counters = place.counters };
    if (!shortcut_wanted || !carried || place.blocks < 0 || place.hosts < 0
        || place.flows < 0)
        return;
    if (!find_card(&now)) {
        replace_link(&link_in, -1);
        replace_link(&link_out, -1);
        place.card = 0;
        shortcut_errno = EOPNOTSUPP;
        return;
    }
    bool same = now.card == place.card && now.tunnel == place.tunnel && now.mtu == place.mtu;
    if (!same || link_in < 0)
        replace_link(&link_in, attach(write_in, &now, now.card, TCX_INGRESS));
    if (link_in < 0 || incomplete || is_ciphered())
        replace_link(&link_out, -1);
    else if (!same || link_out < 0)
        replace_link(&link_out, attach(write_out, &now, now.tunnel, TCX_EGRESS));
    place = now;
}

/* Another takes over and sends from now on; what comes in by the shortcut goes on as it does. */
void send_no_more(void)
{
    replace_link(&link_out, -1);
}

/* Tell whether what peers send by the shortcut is unpacked here. */
bool has_shortcut(void)
{
    return link_in >= 0;
}

static int listen_for(int family, uint32_t groups)
{
    struct sockaddr_nl here = { .nl_family = AF_NETLINK, .nl_groups = groups };
    int file = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, family);
    if (file >= 0 && bind(file, (struct sockaddr *)&here, sizeof here) < 0) {
        close(file);
        file = -1;
    }
    return file;
}

/* Return where the kernel says that cards or addresses have changed; -1: it is not to be had. */
int listen_for_cards(void)
{
    return listen_for(NETLINK_ROUTE, RTMGRP_LINK | RTMGRP_IPV4_IFADDR);
}

int listen_for_policies(void)
{
    return listen_for(NETLINK_XFRM, XFRMGRP_POLICY);
}
