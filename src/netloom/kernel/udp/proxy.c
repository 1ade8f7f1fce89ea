/*
 * netloom-udp: carries the packets of a TUN device in UDP datagrams, one IPv4 packet in each, as
 * flannel's backend "udp" does. The agent starts it and tells it the table of peers over a unix
 * socket; it runs on when the agent ends, and a new one takes its device and socket over.
 *
 *   netloom-udp DEVICE LOCAL PORT DIRECTORY VERSION [plain] [take-over]
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
 * Between two of us that are of this make the kernel carries packets by itself (shortcut.c), unless
 * we are told to be "plain". All others, and all that is out of the ordinary, we carry.
 *
 * Three threads: one waits in a read of the device, one in a receive, and the first one listens to
 * the agent. So a single packet costs two system calls and one wake-up.
 *
 * On SIGTERM it first carries what has reached it, and ends when nothing more comes, or after half
 * a second.
 *
 * opening.c has the descriptors, table.c the peers, outbound.c and batch.c one direction, inbound.c
 * the other, icmp.c the errors, agent.c the control socket, shortcut.c and programs.c what the
 * kernel does.
 *
 * proxy.py does the same, slowly, for machines without a C compiler; one set of tests holds them
 * together.
 */
#define _GNU_SOURCE
#include "proxy.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int tun = -1, udp = -1, raw = -1, control = -1;
const char *device, *version;
struct in_addr local;
uint16_t port;
uint64_t generation;
_Atomic uint64_t counters[COUNTERS];
atomic_bool leaving;
uint8_t message[MESSAGE + 1];

bool waits(int file, int patience_ms)
{
    struct pollfd poll_for = { file, POLLIN, 0 };
    return poll(&poll_for, 1, patience_ms) > 0;
}

bool begin(void *(*work)(void *))
{
    pthread_t thread;
    return !(errno = pthread_create(&thread, NULL, work, NULL));
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
    if (!meet_agent())
        fail("make an epoll");
}

int main(int count, char **words)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    if (count < 6 || inet_aton(words[2], &local) == 0 || !(port = (uint16_t)atoi(words[3]))
        || strlen(words[1]) >= IFNAMSIZ) {
        errno = EINVAL;
        fail("understand its arguments");
    }
    bool taking_over = false;
    for (int i = 6; i < count; i++) {
        taking_over |= !strcmp(words[i], "take-over");
        shortcut_wanted &= strcmp(words[i], "plain") != 0;
    }
    device = words[1];
    version = words[5];
    if (!make_tables())
        fail("find memory");
    make_maps();
    set_up(words[4], taking_over);
    if (!begin_inbound() || (generation && !begin_outbound()))
        fail("make threads");
    dprintf(STDOUT_FILENO, "ready\n");
    close(STDOUT_FILENO);
    serve_agent();
}
