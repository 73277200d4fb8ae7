/* Datagrams about to be sent, as the kernel takes them: what send.c, bypass.c and udp.c share. */
#ifndef GRED_OUTBOX_H
#define GRED_OUTBOX_H

#include "io.h"

#include <linux/if_packet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Ancillary data of one datagram, at its largest: pktinfo, TTL, TOS, and a probe packet's request
 * or the length of segments. */
union control {
    struct cmsghdr align;
    char space[CMSG_SPACE(sizeof(struct in6_pktinfo)) + 3 * CMSG_SPACE(sizeof(int))];
};

/* The parts of a message; the first only of one that follows. */
enum { HEADER, HEAD, BODY, PARTS };

struct outbox {
    struct mmsghdr messages[CHUNK];
    struct iovec iov[CHUNK][PARTS];
    union control controls[CHUNK];
    union address addresses[CHUNK];
    struct sockaddr_ll hops[CHUNK];
    uint8_t headers[CHUNK][sizeof((struct path_entry *)0)->header];
};

static inline size_t datagram_size(const struct datagram *datagram)
{
    return (size_t)datagram->head_length + datagram->body_length;
}

/* Add ancillary data behind what *message* has already, in the space it points to. */
static inline void put_control(struct msghdr *message, int level, int type, const void *data,
                               size_t length)
{
    struct cmsghdr *cmsg =
        (struct cmsghdr *)((char *)message->msg_control + message->msg_controllen);

    cmsg->cmsg_level = level;
    cmsg->cmsg_type = type;
    cmsg->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(cmsg), data, length);
    message->msg_controllen += CMSG_SPACE(length);
}

/* Two datagrams that leave alike share address and ancillary data. */
static inline bool leave_alike(const struct datagram *a, const struct datagram *b)
{
    return a->destination == b->destination && a->tos == b->tos && a->ttl == b->ttl &&
           a->flow_label == b->flow_label;
}

/* Say where a datagram goes; return the length of *address*. */
socklen_t fill_address(const struct destination *destination, const struct datagram *datagram,
                       union address *address);

/* Say with which source, TTL and TOS, in the space of *control*, and where it leaves. */
void fill_control(const struct destination *destination, const struct datagram *datagram,
                  union control *control, struct msghdr *message);

/* Fill the outbox with datagrams that leave through the same socket; return how many. */
size_t fill_outbox(struct outbox *box, uint8_t *arena, const struct datagram *datagrams,
                   size_t count, const struct destination *destinations);

/* Send messages *first* to *end* through a raw socket; return how many were taken. *error: the next
 * was not. */
size_t send_plainly(int fd, struct outbox *box, size_t first, size_t end, int *error);

/* Return which SENT_INTERVAL it is. */
uint32_t present_interval(void);

/* Let destinations keep the longest of *count* datagrams that were sent. */
void note_sent(const struct datagram *datagrams, size_t count, struct destination *destinations,
               uint32_t interval);

#endif
