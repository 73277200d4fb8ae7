/* Datagrams sent in batches: each through a raw socket, or many behind one that went ahead.
 *
 *     datagrams --fill_outbox--> messages --send_plainly, send_scout--> raw socket
 *                                         --follow--> packet socket
 */
#define _GNU_SOURCE
#include "outbox.h"

#include <errno.h>
#include <time.h>

enum {
    LEAST_RUN = 4,         /* datagrams that must leave alike for a scout to pay */
    TOS_OF_PRIORITY = 0x18 /* bits of TOS that make the kernel give a queueing priority */
};

static socklen_t fill_address(const struct destination *destination, union address *address)
{
    memset(address, 0, sizeof *address);
    if (destination->family == 6) {
        address->v6.sin6_family = AF_INET6;
        memcpy(&address->v6.sin6_addr, destination->remote, 16);
        address->v6.sin6_flowinfo = htonl(destination->flow_label);
        address->v6.sin6_scope_id = destination->interface;
        return sizeof address->v6;
    }
    address->v4.sin_family = AF_INET;
    memcpy(&address->v4.sin_addr, destination->remote, 4);
    return sizeof address->v4;
}

/* The source always: the sender is bound to an address that must not become the source, so that "as
 * routed" has to be said. TTL and TOS only where they are not the socket's own: with no more than
 * pktinfo of IPv4 the ancillary data fits the kernel's stack, and no memory is allocated for it. */
static void fill_control(const struct destination *destination, const struct datagram *datagram,
                         union control *control, struct msghdr *message)
{
    int ttl = datagram->ttl, tos = datagram->tos;

    memset(control, 0, sizeof *control);
    message->msg_control = control;
    message->msg_controllen = 0;
    if (destination->family == 6) {
        struct in6_pktinfo info = {.ipi6_ifindex = destination->interface};
        memcpy(&info.ipi6_addr, destination->local, 16);
        put_control(message, IPPROTO_IPV6, IPV6_HOPLIMIT, &ttl, sizeof ttl);
        put_control(message, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof tos);
        put_control(message, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
        return;
    }
    struct in_pktinfo info = {.ipi_ifindex = (int)destination->interface};
    memcpy(&info.ipi_spec_dst, destination->local, 4);
    put_control(message, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    if (ttl == SOCKET_TTL && tos == SOCKET_TOS)
        return;
    put_control(message, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl);
    put_control(message, IPPROTO_IP, IP_TOS, &tos, sizeof tos);
}

/* Two datagrams that leave alike share address and ancillary data. */
static bool leave_alike(const struct datagram *a, const struct datagram *b)
{
    return a->destination == b->destination && a->tos == b->tos && a->ttl == b->ttl;
}

/* Fill the outbox with datagrams that leave through the same socket; return how many. */
static size_t fill_outbox(struct outbox *box, uint8_t *arena, const struct datagram *datagrams,
                          size_t count, const struct destination *destinations)
{
    size_t n = 0;

    for (; n < count && n < CHUNK; n++) {
        const struct datagram *datagram = &datagrams[n];
        struct msghdr *message = &box->messages[n].msg_hdr;
        if (datagram->dont_fragment != datagrams[0].dont_fragment)
            break;
        *message = (struct msghdr){.msg_iov = &box->iov[n][HEAD],
                                   .msg_iovlen = datagram->body_length ? 2 : 1};
        box->iov[n][HEAD] = (struct iovec){arena + datagram->head_offset, datagram->head_length};
        box->iov[n][BODY] = (struct iovec){arena + datagram->body_offset, datagram->body_length};
        if (n && leave_alike(datagram, datagram - 1)) {
            const struct msghdr *last = &box->messages[n - 1].msg_hdr;
            message->msg_name = last->msg_name;
            message->msg_namelen = last->msg_namelen;
            message->msg_control = last->msg_control;
            message->msg_controllen = last->msg_controllen;
            continue;
        }
        const struct destination *destination = &destinations[datagram->destination];
        message->msg_name = &box->addresses[n];
        message->msg_namelen = fill_address(destination, &box->addresses[n]);
        fill_control(destination, datagram, &box->controls[n], message);
    }
    return n;
}

/* May others follow this one? A packet socket gives no priority, and neither do most TOS. */
static bool may_lead(const struct datagram *datagram, const struct destination *destination)
{
    return destination->family == 6 || !(datagram->tos & TOS_OF_PRIORITY);
}

/* Return how many datagrams from *first* on could follow it: as long as they leave alike and are no
 * longer, for what the path carries was asked for the first. */
static size_t run_length(const struct datagram *datagrams, size_t first, size_t end)
{
    size_t next = first + 1;

    while (next < end && leave_alike(&datagrams[next], &datagrams[first]) &&
           datagram_size(&datagrams[next]) <= datagram_size(&datagrams[first]))
        next++;
    return next - first;
}

/* Send messages *first* to *end* through a raw socket; return how many were taken. */
static size_t send_plainly(int fd, struct outbox *box, size_t first, size_t end, int *error)
{
    size_t sent = first;

    while (sent < end) {
        int taken = sendmmsg(fd, box->messages + sent, (unsigned)(end - sent), MSG_DONTWAIT);
        if (taken > 0) {
            sent += (size_t)taken;
        } else if (taken == 0 || errno != EINTR) {
            *error = taken == 0 ? EIO : errno;
            break;
        }
    }
    return sent - first;
}

/* Send one box: what can follow does, long runs behind a scout of their own. Return how many were
 * taken; an early end without an error leaves the rest to be filled in anew. */
static size_t send_in_runs(const struct senders *senders, struct way *way, struct outbox *box,
                           const struct datagram *datagrams, size_t count,
                           const struct destination *destinations, uint64_t now, int *error)
{
    size_t sent = 0;

    while (sent < count) {
        size_t next = sent; /* that does not go plainly */
        size_t run = 0;
        bool is_led = false;
        for (; next < count; next += run) {
            const struct destination *destination = &destinations[datagrams[next].destination];
            run = run_length(datagrams, next, count);
            is_led = leads(way, &datagrams[next], destination, now);
            if (is_led ||
                (run >= LEAST_RUN && !is_lost(way, now) && may_lead(&datagrams[next], destination)))
                break;
        }
        sent += send_plainly(senders->whole, box, sent, next, error);
        if (sent < next || next == count)
            return sent;
        size_t end = sent + run;
        if (!is_led) {
            const struct destination *destination = &destinations[datagrams[sent].destination];
            if (!send_scout(senders->whole, &box->messages[sent].msg_hdr, &datagrams[sent],
                            destination, way, now)) {
                *error = errno;
                return sent;
            }
            sent++;
            if (!leads(way, &datagrams[sent], destination, now))
                continue;
        }
        sent += follow(senders->packet, box, sent, end, way, now, error);
        if (sent < end)
            return sent;
    }
    return sent;
}

static uint64_t monotonic_now(void)
{
    struct timespec clock;

    clock_gettime(CLOCK_MONOTONIC, &clock);
    return (uint64_t)clock.tv_sec * 1000000000 + (uint64_t)clock.tv_nsec;
}

size_t send_datagrams(const struct senders *senders, struct way *way, uint8_t *arena,
                      const struct datagram *datagrams, size_t count,
                      const struct destination *destinations, int *error)
{
    struct outbox box;
    size_t sent = 0;
    uint64_t now = senders->packet < 0 ? 0 : monotonic_now();

    *error = 0;
    while (sent < count && !*error) {
        const struct datagram *next = datagrams + sent;
        size_t n = fill_outbox(&box, arena, next, count - sent, destinations);
        if (senders->packet >= 0 && next->dont_fragment) {
            sent += send_in_runs(senders, way, &box, next, n, destinations, now, error);
        } else {
            int sender = next->dont_fragment ? senders->whole : senders->fragmenting;
            sent += send_plainly(sender, &box, 0, n, error);
        }
    }
    return sent;
}
