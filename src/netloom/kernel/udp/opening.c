/* The descriptors of a proxy: made, or taken over from the one before. */
#define _GNU_SOURCE
#include "proxy.h"
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

void fail(const char *what)
{
    dprintf(STDOUT_FILENO, "%d %s\n", errno, what);
    exit(1);
}

/* Say that the device is no more, and end: the agent makes it anew, and us with it. */
void lose_device(void)
{
    fprintf(stderr, "netloom-udp: %s is gone: %s\n", device, strerror(errno));
    _exit(1);
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

void open_tun(void)
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

void open_udp(void)
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

void take_over(void)
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
    if (got < 16 || !head || head->cmsg_type != SCM_RIGHTS
        || head->cmsg_len != CMSG_LEN(sizeof files))
        fail("take over from the proxy before");
    memcpy(files, CMSG_DATA(head), sizeof files);
    tun = files[0];
    keep_udp(files[1]);
    memcpy(&generation, message + 8, sizeof generation);
    generation = be64toh(generation);
    take_table(message + 16, (size_t)got - 16);
    close(other);
}

void open_control(void)
{
    struct sockaddr_un name = control_name(".new"), last = control_name("");
    control = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    umask(0177);
    unlink(name.sun_path);
    if (control < 0 || bind(control, (struct sockaddr *)&name, sizeof name) < 0
        || listen(control, CLIENTS) < 0 || rename(name.sun_path, last.sun_path) < 0)
        fail("listen for the agent");
}
