/* Datagrams received in batches: from a raw socket, and GRE-in-UDP. */
#define _GNU_SOURCE
#include "io.h"
#include "packet.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum {
    BURST = 4,                /* datagrams in one call that make a burst likely */
    BUSY_POLL = 240000,       /* nanoseconds to wait for more of a burst, at most */
    IDLE_TIMEOUT = 40000,     /* nanoseconds without a packet that end a burst */
    PENDING_ERROR_LIMIT = 16, /* ICMP errors skipped in one receive call */
    MERGED_LIMIT = 128,       /* datagrams that the kernel merges, at most: UDP_MAX_SEGMENTS */
};

struct inbox {
    struct mmsghdr messages[CHUNK];
    struct iovec iov[CHUNK];
    struct sockaddr_in6 sources[CHUNK];
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(struct in6_pktinfo)) + 3 * CMSG_SPACE(sizeof(int))];
    } controls[CHUNK];
};

/* IPv4: the kernel leaves the outer header where it is. */
static void read_header(const uint8_t *ip, struct received *received)
{
    size_t length = received->length < IPV4_HEADER ? 0 : (size_t)(ip[0] & 15) * 4;

    if (length < IPV4_HEADER || ip[0] >> 4 != 4 || length > received->length) {
        received->verdict = DROP_TRUNCATED;
        return;
    }
    received->outer_length = (uint8_t)length;
    received->tos = ip[1];
    received->ttl = ip[8];
    memcpy(received->source, ip + 12, 4);
    memcpy(received->destination, ip + 16, 4);
}

/* IPv6: the kernel keeps the outer header; what is needed of it comes beside the data. */
static void read_control(struct msghdr *message, struct received *received)
{
    const struct sockaddr_in6 *source = message->msg_name;

    memcpy(received->source, &source->sin6_addr, 16);
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg; cmsg = CMSG_NXTHDR(message, cmsg)) {
        int value;
        if (cmsg->cmsg_level != IPPROTO_IPV6)
            continue;
        if (cmsg->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(cmsg), sizeof info);
            memcpy(received->destination, &info.ipi6_addr, 16);
        } else if (cmsg->cmsg_type == IPV6_TCLASS) {
            memcpy(&value, CMSG_DATA(cmsg), sizeof value);
            received->tos = (uint8_t)value;
        } else if (cmsg->cmsg_type == IPV6_HOPLIMIT) {
            memcpy(&value, CMSG_DATA(cmsg), sizeof value);
            received->ttl = (uint8_t)value;
        }
    }
}

/* A wait for the rest of a burst, in nanoseconds of the monotonic clock; 0: not begun. */
struct burst {
    int64_t end;    /* of the wait */
    int64_t silent; /* when to give up unless more has come */
    size_t filled;  /* what had come when that was set */
};

/* Shall an empty queue be looked at once more? In the middle of a burst, yes, for a moment, giving
 * way to whoever is ready to run: the batch becomes larger, and the cost of going to sleep and of
 * being woken for each few packets is spared on both sides. In a virtual machine that cost is an
 * exit each. A datagram much shorter than the first is the end of what somebody had to say, or
 * somebody else's: it is not kept waiting. */
static bool burst_goes_on(const struct received *received, size_t filled, struct burst *burst)
{
    struct timespec clock;

    if (filled < BURST)
        return false;
    for (size_t i = burst->filled; i < filled; i++)
        if (received[i].length < received[0].length / 2)
            return false;
    clock_gettime(CLOCK_MONOTONIC, &clock);
    int64_t now = (int64_t)clock.tv_sec * 1000000000 + clock.tv_nsec;
    if (burst->end == 0)
        burst->end = now + BUSY_POLL;
    if (filled != burst->filled) {
        burst->filled = filled;
        burst->silent = now + IDLE_TIMEOUT;
    }
    if (now >= burst->end || now >= burst->silent)
        return false;
    sched_yield();
    return true;
}

size_t receive_datagrams(int fd, int family, uint8_t *arena, size_t begin, size_t stride,
                         struct received *received, size_t limit, bool busy_poll, int *error)
{
    struct inbox box;
    size_t filled = 0;
    int pending = 0;
    struct burst burst = {0};

    *error = 0;
    while (filled < limit) {
        unsigned n = limit - filled < CHUNK ? (unsigned)(limit - filled) : CHUNK;
        for (unsigned i = 0; i < n; i++) {
            uint8_t *slot = arena + begin + (filled + i) * stride;
            box.iov[i] = (struct iovec){slot + FRAME_HEADROOM, stride - FRAME_HEADROOM};
            box.messages[i].msg_hdr = (struct msghdr){.msg_iov = &box.iov[i], .msg_iovlen = 1};
            if (family == 6) {
                box.messages[i].msg_hdr.msg_name = &box.sources[i];
                box.messages[i].msg_hdr.msg_namelen = sizeof box.sources[i];
                box.messages[i].msg_hdr.msg_control = &box.controls[i];
                box.messages[i].msg_hdr.msg_controllen = sizeof box.controls[i];
            }
        }
        int got = recvmmsg(fd, box.messages, n, MSG_DONTWAIT, NULL);
        if (got < 0) {
            if (errno == EAGAIN) {
                if (busy_poll && burst_goes_on(received, filled, &burst))
                    continue;
                break;
            }
            /* An ICMP error about a packet sent earlier fails one call, whatever it is for. */
            if (errno != EBADF && errno != ENOTSOCK && pending++ < PENDING_ERROR_LIMIT)
                continue;
            *error = errno;
            break;
        }
        for (int i = 0; i < got; i++) {
            struct received *entry = &received[filled];
            *entry = (struct received){
                .offset = (uint32_t)(begin + filled * stride + FRAME_HEADROOM),
                .length = box.messages[i].msg_len,
                .family = (uint8_t)family,
                .transport = TRANSPORT_IP,
            };
            if (family == 6)
                read_control(&box.messages[i].msg_hdr, entry);
            else
                read_header(arena + entry->offset, entry);
            if (box.messages[i].msg_hdr.msg_flags & MSG_TRUNC)
                entry->verdict = DROP_TRUNCATED; /* the slot was too small */
            filled++;
        }
        if ((unsigned)got < n && !(busy_poll && burst_goes_on(received, filled, &burst)))
            break;
    }
    return filled;
}

/* Of UDP the kernel keeps the outer header, of IPv4, too. *size: of each datagram but the last,
 * where it merged several. */
static void read_udp_control(struct msghdr *message, struct received *received, size_t *size)
{
    if (received->family == 6) {
        read_control(message, received);
    } else {
        const struct sockaddr_in *source = message->msg_name;
        memcpy(received->source, &source->sin_addr, 4);
    }
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg; cmsg = CMSG_NXTHDR(message, cmsg)) {
        int value = 0;
        if (cmsg->cmsg_level == SOL_UDP && cmsg->cmsg_type == UDP_GRO) {
            memcpy(&value, CMSG_DATA(cmsg), sizeof value);
            if (value > 0)
                *size = (size_t)value;
        } else if (cmsg->cmsg_level == IPPROTO_IP && cmsg->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(cmsg), sizeof info);
            memcpy(received->destination, &info.ipi_addr, 4);
        } else if (cmsg->cmsg_level == IPPROTO_IP && cmsg->cmsg_type == IP_TOS) {
            received->tos = *CMSG_DATA(cmsg);
        } else if (cmsg->cmsg_level == IPPROTO_IP && cmsg->cmsg_type == IP_TTL) {
            memcpy(&value, CMSG_DATA(cmsg), sizeof value);
            received->ttl = (uint8_t)value;
        }
    }
}

/* Fill an entry for each datagram of one that was received; return how many. */
static size_t take_apart(struct msghdr *message, size_t length, struct received first,
                         struct received *received)
{
    size_t size = length, filled = 0, done = 0;

    read_udp_control(message, &first, &size);
    if (message->msg_flags & MSG_TRUNC)
        first.verdict = DROP_TRUNCATED; /* the slot was too small */
    do {
        struct received *entry = &received[filled++];
        size_t left = length - done;
        *entry = first;
        entry->offset += (uint32_t)done;
        entry->length = (uint32_t)(left < size ? left : size);
        if (filled == MERGED_LIMIT && left > size) {
            entry->length = (uint32_t)left;
            entry->verdict = DROP_TRUNCATED; /* the kernel merges no more */
        }
        done += entry->length;
    } while (done < length);
    return filled;
}

size_t receive_udp(int fd, int family, uint8_t *arena, size_t slots, size_t stride,
                   struct received *received, size_t limit, bool busy_poll, int *error)
{
    struct inbox box;
    size_t filled = 0, used = 0;
    int pending = 0;
    struct burst burst = {0};

    *error = 0;
    for (;;) {
        size_t room = (limit - filled) / MERGED_LIMIT;
        if (room > slots - used)
            room = slots - used;
        unsigned n = room < CHUNK ? (unsigned)room : CHUNK;
        if (!n)
            break;
        for (unsigned i = 0; i < n; i++) {
            uint8_t *slot = arena + (used + i) * stride;
            box.iov[i] = (struct iovec){slot + FRAME_HEADROOM, stride - FRAME_HEADROOM};
            box.messages[i].msg_hdr = (struct msghdr){
                .msg_iov = &box.iov[i],
                .msg_iovlen = 1,
                .msg_name = &box.sources[i],
                .msg_namelen = sizeof box.sources[i],
                .msg_control = &box.controls[i],
                .msg_controllen = sizeof box.controls[i],
            };
        }
        int got = recvmmsg(fd, box.messages, n, MSG_DONTWAIT, NULL);
        if (got < 0) {
            if (errno == EAGAIN) {
                if (busy_poll && burst_goes_on(received, filled, &burst))
                    continue;
                break;
            }
            if (errno != EBADF && errno != ENOTSOCK && pending++ < PENDING_ERROR_LIMIT)
                continue;
            *error = errno;
            break;
        }
        for (int i = 0; i < got; i++) {
            struct received first = {
                .offset = (uint32_t)(used * stride + FRAME_HEADROOM),
                .family = (uint8_t)family,
                .transport = TRANSPORT_UDP,
            };
            filled += take_apart(&box.messages[i].msg_hdr, box.messages[i].msg_len, first,
                                 received + filled);
            used++;
        }
        if ((unsigned)got < n && !(busy_poll && burst_goes_on(received, filled, &burst)))
            break;
    }
    return filled;
}
