/* Datagrams about to be sent, as the kernel takes them: what send.c and scout.c share. */
#ifndef GRED_OUTBOX_H
#define GRED_OUTBOX_H

#include "io.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Ancillary data of one datagram, at its largest: pktinfo, TTL, TOS, a scout's request. */
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
    uint8_t headers[CHUNK][sizeof((struct way *)0)->header];
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

/* May *datagram* follow on *way* to *destination*, at the time *now*? */
bool leads(const struct way *way, const struct datagram *datagram,
           const struct destination *destination, uint64_t now);

/* Is it known, at the time *now*, that *way* leads nowhere? */
bool is_lost(const struct way *way, uint64_t now);

/* Send *message* through the raw socket *fd* and see which way it goes. Return whether it was
 * taken, else errno tells why. */
bool send_scout(int fd, const struct msghdr *message, const struct datagram *datagram,
                const struct destination *destination, struct way *way, uint64_t now);

/* Let messages *first* to *end* of the box follow on *way*, through the packet socket *fd*. Return
 * how many were taken; the others are to be filled in anew. *error: the next was dropped. */
size_t follow(int fd, struct outbox *box, size_t first, size_t end, struct way *way, uint64_t now,
              int *error);

#endif
