/* Datagrams sent in batches, through raw sockets: datagrams --fill_outbox--> messages --sendmmsg-->
 * kernel, which decides on the way of each.
 */
#define _GNU_SOURCE
#include "outbox.h"

#include <errno.h>
#include <time.h>

socklen_t fill_address(const struct destination *destination, const struct datagram *datagram,
                       union address *address)
{
    memset(address, 0, sizeof *address);
    if (destination->family == 6) {
        address->v6.sin6_family = AF_INET6;
        address->v6.sin6_port = htons(destination->port);
        memcpy(&address->v6.sin6_addr, destination->remote, 16);
        address->v6.sin6_flowinfo = htonl(datagram->flow_label);
        address->v6.sin6_scope_id = destination->interface;
        return sizeof address->v6;
    }
    address->v4.sin_family = AF_INET;
    address->v4.sin_port = htons(destination->port);
    memcpy(&address->v4.sin_addr, destination->remote, 4);
    return sizeof address->v4;
}

/* The source always: the sender is bound to an address that must not become the source, so that "as
 * routed" has to be said. TTL and TOS only where they are not the socket's own: with no more than
 * pktinfo of IPv4 the ancillary data fits the kernel's stack, and no memory is allocated for it. */
void fill_control(const struct destination *destination, const struct datagram *datagram,
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

size_t fill_outbox(struct outbox *box, uint8_t *arena, const struct datagram *datagrams,
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
        message->msg_namelen = fill_address(destination, datagram, &box->addresses[n]);
        fill_control(destination, datagram, &box->controls[n], message);
    }
    return n;
}

size_t send_plainly(int fd, struct outbox *box, size_t first, size_t end, int *error)
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

uint32_t present_interval(void)
{
    struct timespec clock;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &clock);
    return (uint32_t)(clock.tv_sec / SENT_INTERVAL);
}

/* What has no Don't Fragment is never too long for a router, but over IPv6. */
void note_sent(const struct datagram *datagrams, size_t count, struct destination *destinations,
               uint32_t interval)
{
    for (size_t i = 0; i < count; i++) {
        struct destination *destination = &destinations[datagrams[i].destination];
        size_t size = datagram_size(&datagrams[i]);
        if (!datagrams[i].dont_fragment && destination->family == 4)
            continue;
        if (destination->sent_interval != interval) {
            bool is_next = destination->sent_interval + 1 == interval;
            destination->sent_before = is_next ? destination->sent_longest : 0;
            destination->sent_longest = 0;
            destination->sent_interval = interval;
        }
        if (size > destination->sent_longest)
            destination->sent_longest = (uint16_t)(size < UINT16_MAX ? size : UINT16_MAX);
    }
}

size_t send_datagrams(const struct senders *senders, uint8_t *arena,
                      const struct datagram *datagrams, size_t count,
                      struct destination *destinations, int *error)
{
    struct outbox box;
    size_t sent = 0;
    uint32_t interval = present_interval();

    *error = 0;
    while (sent < count && !*error) {
        const struct datagram *next = datagrams + sent;
        size_t n = fill_outbox(&box, arena, next, count - sent, destinations);
        n = send_plainly(next->dont_fragment ? senders->df : senders->no_df, &box, 0, n, error);
        note_sent(next, n, destinations, interval);
        sent += n;
    }
    return sent;
}
