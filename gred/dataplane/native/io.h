/* The I/O, without Python: what io_module.c calls. Contract: _io.pyi. No GRE.
 *
 * Nothing here keeps state or allocates; all descriptors are non-blocking. The caller has checked
 * that every offset lies inside the buffers.
 */
#ifndef GRED_IO_H
#define GRED_IO_H

#include "layout.h"

#include <stdbool.h>

enum {
    CHUNK = 64,          /* messages a system call */
    FRAME_LIMIT = 65535, /* the largest frame a TUN hands out, vnet header aside */
};

size_t read_frames(int fd, uint8_t *arena, size_t prefix, struct frame *frames, size_t first,
                   size_t limit, int *error);
size_t write_frames(uint8_t *arena, uint8_t *headers, struct tun_write *tun_writes,
                    const struct piece *pieces, size_t count);

/* Raw sockets that send: with and without Don't Fragment. */
struct senders {
    int df;
    int no_df;
};

/* The transmit path cache of a tunnel: an entry for each of its flow labels, as far as they go. */
struct path_cache {
    struct path_entry *entries;
    size_t count; /* 1 at least */
};

/* Return how many were taken; *error: what stopped the next, or 0. Each destination keeps how long
 * they were. */
size_t send_datagrams(const struct senders *senders, uint8_t *arena,
                      const struct datagram *datagrams, size_t count,
                      struct destination *destinations, int *error);

/* The same, past the host's routing where a probe packet has shown the path: *packet* is a packet
 * socket, *cache* what is known of the paths. */
size_t send_bypassing(const struct senders *senders, int packet, const struct path_cache *cache,
                      uint8_t *arena, const struct datagram *datagrams, size_t count,
                      struct destination *destinations, int *error);

/* What GRE-in-UDP is sent through: a datagram's flow chooses the socket. *plain_until*: nanoseconds
 * of the monotonic clock, until which the kernel is not asked to cut segments; kept by the caller.
 */
struct udp_senders {
    const int32_t *sockets;
    size_t count;
    uint64_t *plain_until;
};

/* The same in UDP; datagrams that leave alike go to the kernel as one, which it cuts. */
size_t send_udp(const struct udp_senders *senders, uint8_t *arena, const struct datagram *datagrams,
                size_t count, struct destination *destinations, int *error);

/* Datagrams that the kernel merged are taken apart: of *limit* entries there may be more than
 * slots.
 */
size_t receive_udp(int fd, int family, uint8_t *arena, size_t slots, size_t stride,
                   struct received *received, size_t limit, bool busy_poll, int *error);

size_t receive_datagrams(int fd, int family, uint8_t *arena, size_t begin, size_t stride,
                         struct received *received, size_t limit, bool busy_poll, int *error);

#endif
