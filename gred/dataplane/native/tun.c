/* Frames read from and written to TUN devices. */
#include "io.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PIECE_LIMIT = 256 /* pieces a written frame may have */ };

/* Read into the places that frames[first:limit] name; return how many. */
size_t read_frames(int fd, uint8_t *arena, size_t prefix, struct frame *frames, size_t first,
                   size_t limit, int *error)
{
    size_t at = first;

    *error = 0;
    while (at < limit) {
        uint32_t offset = frames[at].offset;
        ssize_t got = read(fd, arena + offset - prefix, FRAME_LIMIT + prefix);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN && at == first)
                *error = errno;
            break;
        }
        size_t length = (size_t)got > prefix ? (size_t)got - prefix : 0;
        frames[at++] = (struct frame){.offset = offset, .length = (uint32_t)length};
    }
    return at - first;
}

size_t write_frames(uint8_t *arena, uint8_t *headers, struct tun_write *tun_writes,
                    const struct piece *pieces, size_t count)
{
    size_t failed = 0;

    for (size_t i = 0; i < count; i++) {
        struct iovec iov[PIECE_LIMIT];
        uint32_t piece = tun_writes[i].first_piece;
        size_t n = tun_writes[i].pieces;
        ssize_t written;

        tun_writes[i].error = 0;
        if (n > PIECE_LIMIT) {
            tun_writes[i].error = EMSGSIZE;
            failed++;
            continue;
        }
        for (size_t k = 0; k < n; k++, piece = pieces[piece].next) {
            uint8_t *memory = pieces[piece].is_header ? headers : arena;
            iov[k] = (struct iovec){memory + pieces[piece].offset, pieces[piece].length};
        }
        do
            written = writev(tun_writes[i].fd, iov, (int)n);
        while (written < 0 && errno == EINTR);
        if (written < 0) {
            tun_writes[i].error = errno;
            failed++;
        }
    }
    return failed;
}
