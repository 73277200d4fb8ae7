/* GRE-in-UDP sent in batches (RFC 8086): datagrams --fill_messages--> messages --sendmmsg-->
 * kernel. Datagrams that leave alike and are of one length, the last may be shorter, go as one
 * message, and the kernel cuts it (UDP_SEGMENT): they cross the network stack together.
 */
#define _GNU_SOURCE
#include "outbox.h"

#include <errno.h>
#include <netinet/udp.h>
#include <time.h>

enum {
    DATAGRAMS = 128,         /* in one system call */
    SEGMENTS = 64,           /* in one message: UDP_MAX_SEGMENTS before Linux 6.9 */
    SEGMENTED_LIMIT = 65000, /* bytes of such a message, its outer headers aside */
    PENDING_ERROR_LIMIT = 3, /* calls that ICMP errors fail before one is taken for the kernel's */
};

/* How long the kernel is not asked again to cut segments for a device that it refused to. */
static const uint64_t REFUSAL = 10000000000; /* nanoseconds */

struct messages {
    struct mmsghdr messages[DATAGRAMS];
    uint32_t datagrams[DATAGRAMS]; /* in each of them */
    struct iovec iov[DATAGRAMS * 2];
    union control controls[DATAGRAMS];
    union address addresses[DATAGRAMS];
    size_t count;
};

static uint64_t nanoseconds(void)
{
    struct timespec clock;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &clock);
    return (uint64_t)clock.tv_sec * 1000000000 + (uint64_t)clock.tv_nsec;
}

/* A flow keeps its socket, and so its source port (RFC 8086 §3.2.1). */
static size_t socket_of(const struct datagram *datagram, size_t count)
{
    return (size_t)(((uint64_t)(datagram->flow * 0x9e3779b1u) * count) >> 32);
}

/* How many datagrams from the first on may be cut out of one message. */
static size_t segments(const struct datagram *datagrams, size_t count)
{
    size_t size = datagram_size(datagrams), total = size, n = 1;

    while (n < count && n < SEGMENTS && leave_alike(&datagrams[n], datagrams)) {
        size_t next = datagram_size(&datagrams[n]);
        if (next > size || total + next > SEGMENTED_LIMIT)
            break;
        total += next;
        n++;
        if (next < size)
            break;
    }
    return n;
}

static size_t add_pieces(uint8_t *arena, const struct datagram *datagram, struct iovec *iov)
{
    iov[0] = (struct iovec){arena + datagram->head_offset, datagram->head_length};
    if (!datagram->body_length)
        return 1;
    iov[1] = (struct iovec){arena + datagram->body_offset, datagram->body_length};
    return 2;
}

/* Fill messages with *count* datagrams that leave through one socket. */
static void fill_messages(struct messages *box, uint8_t *arena, const struct datagram *datagrams,
                          size_t count, const struct destination *destinations, bool cut)
{
    struct iovec *iov = box->iov;

    box->count = 0;
    for (size_t done = 0; done < count;) {
        const struct datagram *first = &datagrams[done];
        const struct destination *destination = &destinations[first->destination];
        size_t at = box->count++, n = cut ? segments(first, count - done) : 1;
        struct msghdr *message = &box->messages[at].msg_hdr;
        *message = (struct msghdr){.msg_iov = iov, .msg_name = &box->addresses[at]};
        message->msg_namelen = fill_address(destination, first, &box->addresses[at]);
        fill_control(destination, first, &box->controls[at], message);
        for (size_t i = 0; i < n; i++)
            iov += add_pieces(arena, &first[i], iov);
        message->msg_iovlen = (size_t)(iov - message->msg_iov);
        if (n > 1) {
            uint16_t size = (uint16_t)datagram_size(first);
            put_control(message, SOL_UDP, UDP_SEGMENT, &size, sizeof size);
        }
        box->datagrams[at] = (uint32_t)n;
        done += n;
    }
}

/* Send *box*; return how many datagrams were taken. *error: the next message was not. An ICMP error
 * about a datagram sent earlier fails one call, whatever it is for. */
static size_t send_messages(int fd, struct messages *box, int *error, size_t *refused)
{
    size_t sent = 0, datagrams = 0;
    int pending = 0;

    *refused = 0;
    while (sent < box->count) {
        int taken = sendmmsg(fd, box->messages + sent, (unsigned)(box->count - sent), MSG_DONTWAIT);
        for (int i = 0; i < taken; i++)
            datagrams += box->datagrams[sent + (size_t)i];
        if (taken > 0) {
            sent += (size_t)taken;
            continue;
        }
        int failure = taken == 0 ? EIO : errno;
        bool comes_of_icmp = failure == ECONNREFUSED || failure == EHOSTUNREACH ||
                             failure == ENETUNREACH || failure == EPROTO || failure == EMSGSIZE ||
                             failure == EACCES || failure == ENOPROTOOPT;
        if (failure == EINTR || (comes_of_icmp && pending++ < PENDING_ERROR_LIMIT))
            continue;
        *error = failure;
        *refused = box->datagrams[sent];
        break;
    }
    return datagrams;
}

/* Don't Fragment is a matter of the socket: as it is for nearly all, it stays. */
static void set_dont_fragment(int fd, uint32_t family, bool dont_fragment)
{
    int how = !dont_fragment ? IP_PMTUDISC_DONT
              : family == 6  ? IPV6_PMTUDISC_INTERFACE
                             : IP_PMTUDISC_PROBE;

    if (family == 6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &how, sizeof how);
    else
        setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &how, sizeof how);
}

/* How many datagrams from the first on leave through its socket as it is set. */
static size_t run_length(const struct datagram *datagrams, size_t count, size_t sockets)
{
    size_t n = 1, socket = socket_of(datagrams, sockets);

    while (n < count && n < DATAGRAMS && socket_of(&datagrams[n], sockets) == socket &&
           datagrams[n].dont_fragment == datagrams[0].dont_fragment)
        n++;
    return n;
}

size_t send_udp(const struct udp_senders *senders, uint8_t *arena, const struct datagram *datagrams,
                size_t count, struct destination *destinations, int *error)
{
    struct messages box;
    size_t sent = 0, refused;
    uint32_t interval = present_interval();
    bool cut = nanoseconds() >= *senders->plain_until;

    *error = 0;
    while (sent < count && !*error) {
        const struct datagram *next = datagrams + sent;
        size_t n = run_length(next, count - sent, senders->count);
        int fd = senders->sockets[socket_of(next, senders->count)];
        uint32_t family = destinations[next->destination].family;
        fill_messages(&box, arena, next, n, destinations, cut);
        if (!next->dont_fragment)
            set_dont_fragment(fd, family, false);
        n = send_messages(fd, &box, error, &refused);
        if (!next->dont_fragment)
            set_dont_fragment(fd, family, true);
        note_sent(next, n, destinations, interval);
        sent += n;
        if (refused > 1 && *error != EAGAIN && *error != ENOBUFS && *error != ENOMEM) {
            /* The device cuts none (EIO), or each is too long (EINVAL): one by one the kernel says.
             */
            if (*error == EIO || *error == ENOPROTOOPT || *error == EOPNOTSUPP)
                *senders->plain_until = nanoseconds() + REFUSAL;
            cut = false;
            *error = 0;
        }
    }
    return sent;
}
