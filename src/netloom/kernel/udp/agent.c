/* The control socket, on which the agent asks and orders; control.py has its protocol. */
#define _GNU_SOURCE
#include "proxy.h"
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

static int clients[CLIENTS], loop = -1, ending = -1, news[2] = { -1, -1 };

static void answer(int client, uint32_t error, size_t length, const int *files, int file_count)
{
    uint32_t head[2] = { htonl(MAGIC), htonl(error) };
    memcpy(message, head, sizeof head);
    struct iovec part = { message, sizeof head + length };
    union { struct cmsghdr align; uint8_t room[CMSG_SPACE(2 * sizeof(int))]; } note;
    struct msghdr mail = { NULL, 0, &part, 1, NULL, 0, 0 };
    if (file_count) {
        mail.msg_control = &note;
        mail.msg_controllen = CMSG_SPACE((size_t)file_count * sizeof(int));
        struct cmsghdr *head_note = CMSG_FIRSTHDR(&mail);
        head_note->cmsg_level = SOL_SOCKET;
        head_note->cmsg_type = SCM_RIGHTS;
        head_note->cmsg_len = CMSG_LEN((size_t)file_count * sizeof(int));
        memcpy(CMSG_DATA(head_note), files, (size_t)file_count * sizeof(int));
    }
    bool sent = sendmsg(client, &mail, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
    if (sent && file_count) {
        /* Another carries the packets now; what we have read we carry ourselves. */
        leaving = true;
        send_no_more();
        poll(NULL, 0, LINGER_MS);
        _exit(0);
    }
}

static size_t tell_status(uint8_t *out)
{
    struct { uint32_t pid, local; uint16_t port, shortcut, error, zero;
             uint64_t generation, counters[COUNTERS];
             char device[16], version[32]; } status = { 0 };
    status.pid = htonl((uint32_t)getpid());
    status.local = local.s_addr;
    status.port = htons(port);
    status.shortcut = htons((uint16_t)(shortcut_wanted | has_shortcut() << 1));
    status.error = htons((uint16_t)(has_shortcut() ? 0 : shortcut_errno));
    status.generation = htobe64(generation);
    for (int i = 0; i < COUNTERS; i++)
        status.counters[i] = htobe64(counters[i] + carried_by_kernel(i));
    strncpy(status.device, device, sizeof status.device - 1);
    strncpy(status.version, version, sizeof status.version - 1);
    memcpy(out, &status, sizeof status);
    return sizeof status;
}

static size_t tell_table(uint8_t *out)
{
    uint64_t number = htobe64(generation);
    memcpy(out, &number, sizeof number);
    return sizeof number + give_table(out + sizeof number);
}

static void obey(int client, size_t length)
{
    uint32_t head[2] = { 0 };
    uint8_t *body = message + sizeof head;
    memcpy(head, message, length < sizeof head ? length : sizeof head);
    if (length < sizeof head || length > MESSAGE || ntohl(head[0]) != MAGIC) {
        answer(client, EPROTO, 0, NULL, 0);
        return;
    }
    length -= sizeof head;
    switch (ntohl(head[1])) {
    case STATUS:
        answer(client, 0, tell_status(body), NULL, 0);
        return;
    case GET:
        answer(client, 0, tell_table(body), NULL, 0);
        return;
    case SET:
        if (length < sizeof generation
            || !take_table(body + sizeof generation, length - sizeof generation)) {
            answer(client, EINVAL, 0, NULL, 0);
            return;
        }
        memcpy(&generation, body, sizeof generation);
        generation = be64toh(generation);
        answer(client, begin_outbound() ? 0 : (uint32_t)errno, 0, NULL, 0);
        return;
    case HAND_OVER: {
        int files[2] = { tun, udp };
        answer(client, 0, tell_table(body), files, 2);
        return;
    }
    default:
        answer(client, ENOSYS, 0, NULL, 0);
    }
}

static void watch(int file)
{
    struct epoll_event event = { EPOLLIN, { .fd = file } };
    if (epoll_ctl(loop, EPOLL_CTL_ADD, file, &event) < 0)
        perror("netloom-udp: epoll_ctl");
}

static void greet(void)
{
    int client = accept4(control, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    for (int i = 0; client >= 0 && i < CLIENTS; i++)
        if (clients[i] < 0) {
            int room = 2 * MESSAGE;
            setsockopt(client, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
            clients[i] = client;
            watch(client);
            return;
        }
    if (client >= 0)
        close(client);
}

static void listen_to(int file)
{
    for (int i = 0; i < CLIENTS; i++) {
        if (clients[i] != file)
            continue;
        ssize_t got = recv(file, message, sizeof message, MSG_DONTWAIT);
        if (got > 0) {
            obey(file, (size_t)got);
        } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            close(file);
            clients[i] = -1;
        }
    }
}

/* Cards, addresses or IPsec policies have changed, whatever it was. */
static void hear_of_cards(int file)
{
    while (recv(file, message, sizeof message, MSG_DONTWAIT) >= 0 || errno == ENOBUFS)
        continue;
    look_at_shortcut();
}

static uint64_t carried(void)
{
    return counters[SENT] + counters[RECEIVED] + carried_by_kernel(SENT)
        + carried_by_kernel(RECEIVED);
}

/* End on SIGTERM, but first carry what has reached us, or is about to: a peer may be slow. */
static void end_quietly(void)
{
    for (int waited = 0; waited < LINGER_MS; waited += QUIET_MS) {
        uint64_t before = carried();
        poll(NULL, 0, QUIET_MS);
        if (carried() == before && !waits(udp, 0) && !waits(tun, 0))
            break;
    }
    _exit(0);
}

/* Make ready to serve; false, with errno, when it cannot be. */
bool meet_agent(void)
{
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = -1;
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &end, NULL); /* before there are threads, which then have it too */
    ending = signalfd(-1, &end, SFD_CLOEXEC);
    loop = epoll_create1(EPOLL_CLOEXEC);
    if (loop < 0 || ending < 0)
        return false;
    watch(control);
    watch(ending);
    news[0] = listen_for_cards();
    news[1] = listen_for_policies();
    for (int i = 0; i < 2; i++)
        if (news[i] >= 0)
            watch(news[i]);
    look_at_shortcut();
    return true;
}

/* Serve until another takes over. */
void serve_agent(void)
{
    for (;;) {
        struct epoll_event events[4 + CLIENTS];
        int ready = epoll_wait(loop, events, 4 + CLIENTS, -1);
        for (int i = 0; i < ready; i++)
            if (events[i].data.fd == control)
                greet();
            else if (events[i].data.fd == ending)
                end_quietly();
            else if (events[i].data.fd == news[0] || events[i].data.fd == news[1])
                hear_of_cards(events[i].data.fd);
            else
                listen_to(events[i].data.fd);
    }
}
