/* Datagrams that follow a probe packet through a packet socket, past the host's routing.
 *
 *     datagrams --fill_outbox--> messages --send_plainly, send_probe--> raw socket
 *                                         --follow--> packet socket
 *
 * For a datagram sent through a raw socket the kernel decides on a route, looks for an IPsec
 * policy, runs netfilter and looks the next hop up; through a packet socket it does none of that,
 * and takes some 40 % less time. So all that is asked once for many: a probe packet goes through
 * the raw socket, and the kernel shows it as it entered the device's queue, within the call that
 * sends it (SOF_TIMESTAMPING_TX_SCHED, Documentation/networking/timestamping.rst). If it left as it
 * was meant to, others that look like it take the same header, device and next hop, for a moment:
 * the entry of the transmit path cache. What was encrypted, translated, dropped or held back makes
 * a negative entry; and so does what a device below wrapped up once more: how, it may have taken
 * from the route, which followers have not got.
 *
 * The raw socket must not be connected: the kernel then puts what it sends into another queue than
 * the followers, and the order within a flow is lost.
 */
#define _GNU_SOURCE
#include "outbox.h"
#include "packet.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <linux/if_ether.h>
#include <linux/net_tstamp.h>
#include <time.h>

enum {
    LEAST_RUN = 4,         /* datagrams that must leave alike for a probe packet to pay */
    TOS_OF_PRIORITY = 0x18 /* bits of TOS that make the kernel give a queueing priority */
};
enum {
    ENTRY_LASTS = 1000000,      /* nanoseconds that an entry is believed */
    NEGATIVE_LASTS = 100000000, /* and a negative one: until the next probe packet */
    SHOWN = 160,                /* bytes of a probe packet that are looked at */
    COMPARED = 16, /* bytes behind the delivery header that must be as they were given */
    LOOKS = 16,    /* messages in the error queue to pass by: ICMP errors lie there too */
};
enum { OPTIONS_SIZE = 8 }; /* of the destination options that carry the encapsulation limit */

struct shown {
    uint8_t data[SHOWN];
    size_t length;
    int interface; /* 0: this is no probe packet */
    uint32_t id;   /* of the probe packet: several devices may show the same one */
};

/* Take the next message off the error queue; false: there is none. */
static bool look(int fd, struct shown *shown)
{
    struct iovec iov = {shown->data, SHOWN};
    union {
        struct cmsghdr align;
        char space[512];
    } control;
    struct msghdr message = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control,
    };
    bool is_probe = false;
    int interface = 0;

    ssize_t got = recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT);
    if (got < 0)
        return false;
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message); cmsg; cmsg = CMSG_NXTHDR(&message, cmsg)) {
        bool is_v4 = cmsg->cmsg_level == IPPROTO_IP, is_v6 = cmsg->cmsg_level == IPPROTO_IPV6;
        if ((is_v4 && cmsg->cmsg_type == IP_RECVERR) ||
            (is_v6 && cmsg->cmsg_type == IPV6_RECVERR)) {
            struct sock_extended_err error;
            memcpy(&error, CMSG_DATA(cmsg), sizeof error);
            is_probe =
                error.ee_origin == SO_EE_ORIGIN_TIMESTAMPING && error.ee_info == SCM_TSTAMP_SCHED;
            shown->id = error.ee_data;
        } else if (is_v4 && cmsg->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(cmsg), sizeof info);
            interface = info.ipi_ifindex;
        } else if (is_v6 && cmsg->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(cmsg), sizeof info);
            interface = (int)info.ipi6_ifindex;
        }
    }
    shown->length = (size_t)got;
    shown->interface = is_probe ? interface : 0;
    return true;
}

/* Was a datagram for *destination* to leave from *source*? */
static bool is_source(const struct destination *destination, const uint8_t *source, size_t size)
{
    static const uint8_t any[16];

    return !memcmp(destination->local, any, size) || !memcmp(destination->local, source, size);
}

/* Return the length of the delivery header at *ip*, of which *room* bytes are known, if it is what
 * *datagram* was to get, else 0. */
static size_t expected_ipv4(const uint8_t *ip, size_t room, const struct datagram *datagram,
                            const struct destination *destination)
{
    if (room < IPV4_HEADER || ip[0] != 0x45 || ip[1] != datagram->tos ||
        load16(ip + 2) != IPV4_HEADER + datagram_size(datagram) || load16(ip + 6) != IPV4_DF ||
        ip[8] != datagram->ttl || ip[9] != IP_GRE || !is_source(destination, ip + 12, 4) ||
        memcmp(ip + 16, destination->remote, 4))
        return 0;
    return IPV4_HEADER;
}

static size_t expected_ipv6(const uint8_t *ip, size_t room, const struct datagram *datagram,
                            const struct destination *destination)
{
    size_t options = 0;

    if (room < IPV6_HEADER + OPTIONS_SIZE ||
        load32(ip) != (6u << 28 | (uint32_t)datagram->tos << 20 | datagram->flow_label))
        return 0;
    if (ip[6] == IPV6_DESTINATION_OPTIONS && ip[IPV6_HEADER] == IP_GRE && ip[IPV6_HEADER + 1] == 0)
        options = OPTIONS_SIZE; /* the encapsulation limit */
    else if (ip[6] != IP_GRE)
        return 0;
    if (load16(ip + 4) != options + datagram_size(datagram) || ip[7] != datagram->ttl ||
        !is_source(destination, ip + 8, 16) || memcmp(ip + 24, destination->remote, 16))
        return 0;
    return IPV6_HEADER + options;
}

/* Take everything off the error queue: probe packets whose sending failed lie there, and ICMP
 * errors. False: there is no end to it. */
static bool empty_queue(int fd)
{
    struct shown shown;

    for (int looks = 0; looks < LOOKS; looks++)
        if (!look(fd, &shown))
            return true;
    return false;
}

/* Read the path of a probe packet; header_length is 0 then if others cannot follow. */
static void read_path(const struct shown *shown, const struct msghdr *message,
                      const struct datagram *datagram, const struct destination *destination,
                      struct path_entry *entry)
{
    const struct iovec *head = &message->msg_iov[0];
    size_t compared = head->iov_len < COMPARED ? head->iov_len : COMPARED;
    uint16_t ethertype = destination->family == 6 ? PROTOCOL_IPV6 : PROTOCOL_IPV4;
    const uint8_t *ip = shown->data;
    size_t room = shown->length, length;

    entry->interface = shown->interface;
    entry->address_length = 0;
    entry->header_length = 0;
    /* The device has Ethernet headers, or none, as other tunnels. The loopback device has addresses
     * of zero: what enters there past the host's routing does not arrive. */
    if (room >= ETHERNET_HEADER && load16(ip + 2 * ETH_ALEN) == ethertype) {
        entry->address_length = ETH_ALEN;
        memcpy(entry->address, ip, ETH_ALEN);
        ip += ETHERNET_HEADER;
        room -= ETHERNET_HEADER;
        if (!(load16(entry->address) | load32(entry->address + 2)))
            return;
    }
    length = destination->family == 6 ? expected_ipv6(ip, room, datagram, destination)
                                      : expected_ipv4(ip, room, datagram, destination);
    if (length == 0 || room - length < compared || memcmp(ip + length, head->iov_base, compared))
        return;
    memcpy(entry->header, ip, length);
    entry->header_length = (uint8_t)length;
}

/* Send *message* through the raw socket *fd* and see which way it goes. Return whether it was
 * taken, else errno tells why. */
static bool send_probe(int fd, const struct msghdr *message, const struct datagram *datagram,
                       const struct destination *destination, struct path_entry *entry,
                       uint64_t now)
{
    static const uint32_t request = SOF_TIMESTAMPING_TX_SCHED;
    struct msghdr probe = *message;
    union control control;
    struct shown shown;
    struct path_entry below;
    uint32_t id = 0;
    int seen = 0;

    entry->until = 0;
    bool is_clear = empty_queue(fd);
    memcpy(&control, message->msg_control, message->msg_controllen);
    probe.msg_control = &control;
    put_control(&probe, SOL_SOCKET, SO_TIMESTAMPING, &request, sizeof request);
    while (sendmsg(fd, &probe, MSG_DONTWAIT) < 0)
        if (errno != EINTR)
            return false;
    entry->probes++;
    entry->header_length = 0;
    entry->destination = datagram->destination;
    entry->size = (uint32_t)datagram_size(datagram);
    entry->tos = datagram->tos;
    entry->ttl = datagram->ttl;
    entry->flow_label = datagram->flow_label;
    /* The path is that of the device it entered first; it must have passed those below unchanged.
     */
    for (int looks = 0; is_clear && looks < LOOKS && look(fd, &shown); looks++) {
        if (!shown.interface)
            continue;
        if (seen++ == 0) {
            id = shown.id;
            read_path(&shown, message, datagram, destination, entry);
            continue;
        }
        read_path(&shown, message, datagram, destination, &below);
        if (!below.header_length || shown.id != id)
            is_clear = false;
    }
    if (!is_clear)
        entry->header_length = 0;
    entry->until = now + (entry->header_length ? ENTRY_LASTS : NEGATIVE_LASTS);
    entry->negative += !entry->header_length;
    return true;
}

static struct path_entry *entry_of(const struct path_cache *cache, const struct datagram *datagram)
{
    return &cache->entries[datagram->flow_label % cache->count];
}

/* May *datagram* follow to *destination*, at the time *now*? */
static bool may_follow(const struct path_entry *entry, const struct datagram *datagram,
                       const struct destination *destination, uint64_t now)
{
    bool is_v6 = destination->family == 6;

    if (now >= entry->until || !entry->header_length ||
        entry->destination != datagram->destination || datagram_size(datagram) > entry->size ||
        entry->tos != datagram->tos || entry->ttl != datagram->ttl ||
        entry->flow_label != datagram->flow_label || entry->header[0] >> 4 != (is_v6 ? 6 : 4))
        return false;
    /* The number of a destination may have come to mean another. */
    return is_v6 ? !memcmp(entry->header + 24, destination->remote, 16)
                 : !memcmp(entry->header + 16, destination->remote, 4);
}

/* Is it known, at the time *now*, that nobody can follow? */
static bool is_negative(const struct path_entry *entry, uint64_t now)
{
    return now < entry->until && !entry->header_length;
}

/* Make the header of the next that follows. */
static void next_header(struct path_entry *entry, size_t size)
{
    uint8_t *header = entry->header;

    if (header[0] >> 4 == 6) {
        store16(header + 4, (uint16_t)(entry->header_length - IPV6_HEADER + size));
        return;
    }
    store16(header + 2, (uint16_t)(IPV4_HEADER + size));
    /* Consecutive numbers, which receive offload needs to merge packets. */
    store16(header + 4, (uint16_t)(load16(header + 4) + 1));
    store16(header + 10, 0);
    store_checksum(header + 10, sum_bytes(header, IPV4_HEADER));
}

static struct sockaddr_ll next_hop(const struct path_entry *entry)
{
    struct sockaddr_ll hop = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(entry->header[0] >> 4 == 6 ? PROTOCOL_IPV6 : PROTOCOL_IPV4),
        .sll_ifindex = entry->interface,
        .sll_halen = entry->address_length,
    };

    memcpy(hop.sll_addr, entry->address, sizeof hop.sll_addr);
    return hop;
}

/* Let messages *first* to *end* of the box, which are *datagrams* of the same numbers, follow,
 * through the packet socket *fd*. Return how many were taken; the others are to be filled in anew.
 * *error: the next was dropped. */
static size_t follow(int fd, struct outbox *box, const struct datagram *datagrams, size_t first,
                     size_t end, const struct path_cache *cache, uint64_t now, int *error)
{
    const struct path_entry *last = NULL;
    struct sockaddr_ll *hop = NULL;
    size_t sent = first;

    for (size_t i = first; i < end; i++) {
        struct msghdr *message = &box->messages[i].msg_hdr;
        struct path_entry *entry = entry_of(cache, &datagrams[i]);
        size_t size = 0;
        if (entry != last) {
            hop = &box->hops[i];
            *hop = next_hop(entry);
            last = entry;
        }
        for (size_t part = 0; part < message->msg_iovlen; part++)
            size += message->msg_iov[part].iov_len;
        next_header(entry, size);
        memcpy(box->headers[i], entry->header, entry->header_length);
        box->iov[i][HEADER] = (struct iovec){box->headers[i], entry->header_length};
        *message = (struct msghdr){.msg_name = hop,
                                   .msg_namelen = sizeof *hop,
                                   .msg_iov = box->iov[i],
                                   .msg_iovlen = message->msg_iovlen + 1};
    }
    while (sent < end) {
        int taken = sendmmsg(fd, box->messages + sent, (unsigned)(end - sent), MSG_DONTWAIT);
        if (taken > 0) {
            sent += (size_t)taken;
        } else if (taken < 0 && (errno == ENOBUFS || errno == EAGAIN)) {
            *error = errno; /* a full queue, of the device or of the socket: a drop */
            break;
        } else if (taken == 0 || errno != EINTR) {
            /* Whatever it was: the ordinary way tells what there is to tell. */
            struct path_entry *entry = entry_of(cache, &datagrams[sent]);
            entry->header_length = 0;
            entry->until = now + NEGATIVE_LASTS;
            break;
        }
    }
    for (size_t i = first; i < sent; i++)
        entry_of(cache, &datagrams[i])->followed++;
    return sent - first;
}

/* May others follow this one? A packet socket gives no priority, and neither do most TOS. */
static bool may_probe(const struct datagram *datagram, const struct destination *destination)
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

/* Send one box: what can follow does, long runs behind a probe packet of their own. Return how many
 * were taken; an early end without an error leaves the rest to be filled in anew. */
static size_t send_in_runs(int fd, int packet, const struct path_cache *cache, struct outbox *box,
                           const struct datagram *datagrams, size_t count,
                           const struct destination *destinations, uint64_t now, int *error)
{
    size_t sent = 0;

    while (sent < count) {
        size_t next = sent; /* that does not go plainly */
        bool follows = false;
        for (size_t run; next < count; next += run) {
            const struct datagram *datagram = &datagrams[next];
            const struct destination *destination = &destinations[datagram->destination];
            const struct path_entry *entry = entry_of(cache, datagram);
            follows = may_follow(entry, datagram, destination, now);
            if (follows)
                break;
            run = run_length(datagrams, next, count);
            if (run >= LEAST_RUN && !is_negative(entry, now) && may_probe(datagram, destination))
                break;
        }
        sent += send_plainly(fd, box, sent, next, error);
        if (sent < next || next == count)
            return sent;
        if (!follows) {
            const struct destination *destination = &destinations[datagrams[sent].destination];
            if (!send_probe(fd, &box->messages[sent].msg_hdr, &datagrams[sent], destination,
                            entry_of(cache, &datagrams[sent]), now)) {
                *error = errno;
                return sent;
            }
            sent++;
        }
        size_t end = sent;
        while (end < count && may_follow(entry_of(cache, &datagrams[end]), &datagrams[end],
                                         &destinations[datagrams[end].destination], now))
            end++;
        sent += follow(packet, box, datagrams, sent, end, cache, now, error);
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

size_t send_bypassing(const struct senders *senders, int packet, const struct path_cache *cache,
                      uint8_t *arena, const struct datagram *datagrams, size_t count,
                      struct destination *destinations, int *error)
{
    struct outbox box;
    size_t sent = 0;
    uint64_t now = monotonic_now();
    uint32_t interval = (uint32_t)(now / 1000000000 / SENT_INTERVAL);

    *error = 0;
    while (sent < count && !*error) {
        const struct datagram *next = datagrams + sent;
        size_t n = fill_outbox(&box, arena, next, count - sent, destinations);
        if (next->dont_fragment)
            n = send_in_runs(senders->df, packet, cache, &box, next, n, destinations, now, error);
        else
            n = send_plainly(senders->no_df, &box, 0, n, error);
        note_sent(next, n, destinations, interval);
        sent += n;
    }
    return sent;
}
