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
size_t write_frames(uint8_t *arena, struct outgoing *outgoing, const struct piece *pieces,
                    size_t count);

/* Sockets that send: raw ones with and without Don't Fragment; a packet socket, or -1. */
struct senders {
    int whole;
    int fragmenting;
    int packet;
};

/* Return how many were taken; *error: what stopped the next, or 0. */
size_t send_datagrams(const struct senders *senders, struct way *way, uint8_t *arena,
                      const struct datagram *datagrams, size_t count,
                      const struct destination *destinations, int *error);

size_t receive_datagrams(int fd, int family, uint8_t *arena, size_t begin, size_t stride,
                         struct received *received, size_t limit, bool linger, int *error);

#endif
