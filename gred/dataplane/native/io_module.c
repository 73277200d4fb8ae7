/* gred.dataplane._io: batched reads and writes on TUN devices and raw sockets. No GRE.
 *
 * Contract: _io.pyi. Twin: gred/dataplane/pure_io.py. Nothing here looks into a packet, allocates,
 * or keeps state; all descriptors are non-blocking.
 */
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include "layout.h"
#include "module.h"

#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    CHUNK = 64,               /* messages a system call */
    PIECE_LIMIT = 256,        /* pieces a written frame may have */
    FRAME_LIMIT = 65535,      /* the largest frame a TUN hands out, vnet header aside */
    BURST = 4,                /* datagrams in one call that make a burst likely */
    LINGER = 120000,          /* nanoseconds to wait for more of a burst, at most */
    SILENCE = 20000,          /* nanoseconds without a packet that end a burst */
    PENDING_ERROR_LIMIT = 16, /* ICMP errors skipped in one receive call */
};

/* --- TUN -------------------------------------------------------------------------------------- */

/* Read into the places that frames[first:limit] name; return how many. */
static size_t read_frames(int fd, uint8_t *arena, size_t prefix, struct frame *frames, size_t first,
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

static size_t write_frames(uint8_t *arena, struct outgoing *outgoing, const struct piece *pieces,
                           size_t count)
{
    size_t failed = 0;

    for (size_t i = 0; i < count; i++) {
        struct iovec iov[PIECE_LIMIT];
        uint32_t piece = outgoing[i].first_piece;
        size_t n = outgoing[i].pieces;
        ssize_t written;

        outgoing[i].error = 0;
        if (n > PIECE_LIMIT) {
            outgoing[i].error = EMSGSIZE;
            failed++;
            continue;
        }
        for (size_t k = 0; k < n; k++, piece = pieces[piece].next)
            iov[k] = (struct iovec){arena + pieces[piece].offset, pieces[piece].length};
        do
            written = writev(outgoing[i].fd, iov, (int)n);
        while (written < 0 && errno == EINTR);
        if (written < 0) {
            outgoing[i].error = errno;
            failed++;
        }
    }
    return failed;
}

/* --- raw sockets ------------------------------------------------------------------------------ */

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Ancillary data of one datagram, at its largest: pktinfo, TTL, TOS. */
union control {
    struct cmsghdr align;
    char space[CMSG_SPACE(sizeof(struct in6_pktinfo)) + 2 * CMSG_SPACE(sizeof(int))];
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

static struct cmsghdr *put_control(struct msghdr *message, struct cmsghdr *cmsg, int level,
                                   int type, const void *data, size_t length)
{
    cmsg->cmsg_level = level;
    cmsg->cmsg_type = type;
    cmsg->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(cmsg), data, length);
    message->msg_controllen += CMSG_SPACE(length);
    return (struct cmsghdr *)((char *)cmsg + CMSG_SPACE(length));
}

/* The source always: the sender is bound to an address that must not become the source, so that "as
 * routed" has to be said. TTL and TOS only where they are not the socket's own: with no more than
 * pktinfo of IPv4 the ancillary data fits the kernel's stack, and no memory is allocated for it. */
static void fill_control(const struct destination *destination, const struct datagram *datagram,
                         union control *control, struct msghdr *message)
{
    struct cmsghdr *cmsg = &control->align;
    int ttl = datagram->ttl, tos = datagram->tos;

    memset(control, 0, sizeof *control);
    message->msg_control = control;
    message->msg_controllen = 0;
    if (destination->family == 6) {
        struct in6_pktinfo info = {.ipi6_ifindex = destination->interface};
        memcpy(&info.ipi6_addr, destination->local, 16);
        cmsg = put_control(message, cmsg, IPPROTO_IPV6, IPV6_HOPLIMIT, &ttl, sizeof ttl);
        cmsg = put_control(message, cmsg, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof tos);
        put_control(message, cmsg, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
        return;
    }
    struct in_pktinfo info = {.ipi_ifindex = (int)destination->interface};
    memcpy(&info.ipi_spec_dst, destination->local, 4);
    cmsg = put_control(message, cmsg, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    if (ttl == SOCKET_TTL && tos == SOCKET_TOS)
        return;
    cmsg = put_control(message, cmsg, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl);
    put_control(message, cmsg, IPPROTO_IP, IP_TOS, &tos, sizeof tos);
}

/* Two datagrams that leave alike share address and ancillary data. */
static bool leave_alike(const struct datagram *a, const struct datagram *b)
{
    return a->destination == b->destination && a->tos == b->tos && a->ttl == b->ttl;
}

struct outbox {
    struct mmsghdr messages[CHUNK];
    struct iovec iov[CHUNK][2];
    union control controls[CHUNK];
    union address addresses[CHUNK];
};

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
        *message =
            (struct msghdr){.msg_iov = box->iov[n], .msg_iovlen = datagram->body_length ? 2 : 1};
        box->iov[n][0] = (struct iovec){arena + datagram->head_offset, datagram->head_length};
        box->iov[n][1] = (struct iovec){arena + datagram->body_offset, datagram->body_length};
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

static size_t send_datagrams(int fd, int fragmenting_fd, uint8_t *arena,
                             const struct datagram *datagrams, size_t count,
                             const struct destination *destinations, int *error)
{
    struct outbox box;
    size_t done = 0;

    *error = 0;
    while (done < count) {
        size_t n = fill_outbox(&box, arena, datagrams + done, count - done, destinations);
        int sender = datagrams[done].dont_fragment ? fd : fragmenting_fd;
        size_t sent = 0;
        while (sent < n) {
            int taken = sendmmsg(sender, box.messages + sent, (unsigned)(n - sent), MSG_DONTWAIT);
            if (taken > 0) {
                sent += (size_t)taken;
            } else if (taken == 0 || errno != EINTR) {
                *error = taken == 0 ? EIO : errno;
                return done + sent;
            }
        }
        done += n;
    }
    return done;
}

struct inbox {
    struct mmsghdr messages[CHUNK];
    struct iovec iov[CHUNK];
    struct sockaddr_in6 sources[CHUNK];
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(struct in6_pktinfo)) + 2 * CMSG_SPACE(sizeof(int))];
    } controls[CHUNK];
};

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

    if (filled < BURST || received[filled - 1].length < received[0].length / 2)
        return false;
    clock_gettime(CLOCK_MONOTONIC, &clock);
    int64_t now = (int64_t)clock.tv_sec * 1000000000 + clock.tv_nsec;
    if (burst->end == 0)
        burst->end = now + LINGER;
    if (filled != burst->filled) {
        burst->filled = filled;
        burst->silent = now + SILENCE;
    }
    if (now >= burst->end || now >= burst->silent)
        return false;
    sched_yield();
    return true;
}

static size_t receive_datagrams(int fd, int family, uint8_t *arena, size_t begin, size_t stride,
                                struct received *received, size_t limit, bool linger, int *error)
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
                if (linger && burst_goes_on(received, filled, &burst))
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
                .truncated = box.messages[i].msg_hdr.msg_flags & MSG_TRUNC ? 1 : 0,
            };
            if (family == 6)
                read_control(&box.messages[i].msg_hdr, entry);
            filled++;
        }
        if ((unsigned)got < n && !(linger && burst_goes_on(received, filled, &burst)))
            break;
    }
    return filled;
}

/* --- Python ----------------------------------------------------------------------------------- */

static PyObject *too_small(const char *name)
{
    return PyErr_Format(PyExc_ValueError, "%s: a buffer is smaller than its count", name);
}

static bool places_fit(const struct frame *frames, size_t first, size_t limit, size_t arena_length)
{
    for (size_t i = first; i < limit; i++)
        if (frames[i].offset < FRAME_HEADROOM || frames[i].offset > arena_length ||
            arena_length - frames[i].offset < FRAME_LIMIT)
            return false;
    return true;
}

static PyObject *py_read_frames(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    enum { ARENA, FRAMES, BUFFERS };
    static const int buffer_args[BUFFERS] = {1, 3};
    Py_buffer buffers[BUFFERS] = {{0}};
    size_t prefix, first, limit, filled = 0;
    int fd, error = 0;
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("read_frames", nargs, 6) || !get_int(args[0], &fd) ||
        !get_size(args[2], &prefix) || !get_size(args[4], &first) || !get_size(args[5], &limit) ||
        !get_buffers(args, buffer_args, buffers, BUFFERS))
        goto exit;
    if (first > limit || limit > (size_t)buffers[FRAMES].len / sizeof(struct frame) ||
        prefix > FRAME_HEADROOM ||
        !places_fit(buffers[FRAMES].buf, first, limit, (size_t)buffers[ARENA].len)) {
        too_small("read_frames");
        goto exit;
    }
    Py_BEGIN_ALLOW_THREADS filled =
        read_frames(fd, buffers[ARENA].buf, prefix, buffers[FRAMES].buf, first, limit, &error);
    Py_END_ALLOW_THREADS if (error)
    {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        goto exit;
    }
    answer = PyLong_FromSize_t(filled);
exit:
    release_buffers(buffers, BUFFERS);
    return answer;
}

static bool pieces_fit(const struct outgoing *outgoing, size_t count, const struct piece *pieces,
                       size_t piece_count, size_t arena_length)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t at = outgoing[i].first_piece;
        for (uint32_t k = 0; k < outgoing[i].pieces; k++, at = pieces[at].next)
            if (at >= piece_count || pieces[at].offset > arena_length ||
                pieces[at].length > arena_length - pieces[at].offset)
                return false;
    }
    return true;
}

static PyObject *py_write_frames(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    enum { ARENA, OUTGOING, PIECES, BUFFERS };
    static const int buffer_args[BUFFERS] = {0, 1, 2};
    Py_buffer buffers[BUFFERS] = {{0}};
    size_t count, failed = 0;
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("write_frames", nargs, 4) || !get_size(args[3], &count) ||
        !get_buffers(args, buffer_args, buffers, BUFFERS))
        goto exit;
    if (count > (size_t)buffers[OUTGOING].len / sizeof(struct outgoing) ||
        !pieces_fit(buffers[OUTGOING].buf, count, buffers[PIECES].buf,
                    (size_t)buffers[PIECES].len / sizeof(struct piece),
                    (size_t)buffers[ARENA].len)) {
        too_small("write_frames");
        goto exit;
    }
    Py_BEGIN_ALLOW_THREADS failed =
        write_frames(buffers[ARENA].buf, buffers[OUTGOING].buf, buffers[PIECES].buf, count);
    Py_END_ALLOW_THREADS answer = PyLong_FromSize_t(failed);
exit:
    release_buffers(buffers, BUFFERS);
    return answer;
}

static bool datagrams_fit(const struct datagram *datagrams, size_t count, size_t destinations,
                          size_t arena_length)
{
    for (size_t i = 0; i < count; i++)
        if (datagrams[i].head_offset > arena_length ||
            datagrams[i].head_length > arena_length - datagrams[i].head_offset ||
            datagrams[i].body_offset > arena_length ||
            datagrams[i].body_length > arena_length - datagrams[i].body_offset ||
            datagrams[i].destination >= destinations)
            return false;
    return true;
}

static PyObject *py_send_datagrams(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    enum { ARENA, DATAGRAMS, DESTINATIONS, BUFFERS };
    static const int buffer_args[BUFFERS] = {2, 3, 6};
    Py_buffer buffers[BUFFERS] = {{0}};
    size_t first, count, sent = 0;
    int fd, fragmenting_fd, error = 0;
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("send_datagrams", nargs, 7) || !get_int(args[0], &fd) ||
        !get_int(args[1], &fragmenting_fd) || !get_size(args[4], &first) ||
        !get_size(args[5], &count) || !get_buffers(args, buffer_args, buffers, BUFFERS))
        goto exit;
    const struct datagram *datagrams = buffers[DATAGRAMS].buf;
    if (count > (size_t)buffers[DATAGRAMS].len / sizeof(struct datagram) || first > count ||
        !datagrams_fit(datagrams + first, count - first,
                       (size_t)buffers[DESTINATIONS].len / sizeof(struct destination),
                       (size_t)buffers[ARENA].len)) {
        too_small("send_datagrams");
        goto exit;
    }
    Py_BEGIN_ALLOW_THREADS sent =
        send_datagrams(fd, fragmenting_fd, buffers[ARENA].buf, datagrams + first, count - first,
                       buffers[DESTINATIONS].buf, &error);
    Py_END_ALLOW_THREADS answer = Py_BuildValue("ni", (Py_ssize_t)sent, error);
exit:
    release_buffers(buffers, BUFFERS);
    return answer;
}

static PyObject *py_receive_datagrams(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    enum { ARENA, RECEIVED, BUFFERS };
    static const int buffer_args[BUFFERS] = {2, 5};
    Py_buffer buffers[BUFFERS] = {{0}};
    size_t begin, stride, limit, filled = 0;
    int fd, family, linger, error = 0;
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("receive_datagrams", nargs, 8) || !get_int(args[0], &fd) ||
        !get_int(args[1], &family) || !get_size(args[3], &begin) || !get_size(args[4], &stride) ||
        !get_size(args[6], &limit) || (linger = PyObject_IsTrue(args[7])) < 0 ||
        !get_buffers(args, buffer_args, buffers, BUFFERS))
        goto exit;
    if (limit > (size_t)buffers[RECEIVED].len / sizeof(struct received) ||
        stride <= FRAME_HEADROOM || begin > (size_t)buffers[ARENA].len ||
        limit > ((size_t)buffers[ARENA].len - begin) / stride) {
        too_small("receive_datagrams");
        goto exit;
    }
    Py_BEGIN_ALLOW_THREADS filled = receive_datagrams(fd, family, buffers[ARENA].buf, begin, stride,
                                                      buffers[RECEIVED].buf, limit, linger, &error);
    Py_END_ALLOW_THREADS answer = Py_BuildValue("ni", (Py_ssize_t)filled, error);
exit:
    release_buffers(buffers, BUFFERS);
    return answer;
}

static PyMethodDef methods[] = {
    {"read_frames", (PyCFunction)(void (*)(void))py_read_frames, METH_FASTCALL, NULL},
    {"write_frames", (PyCFunction)(void (*)(void))py_write_frames, METH_FASTCALL, NULL},
    {"send_datagrams", (PyCFunction)(void (*)(void))py_send_datagrams, METH_FASTCALL, NULL},
    {"receive_datagrams", (PyCFunction)(void (*)(void))py_receive_datagrams, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "gred.dataplane._io",
    .m_doc = "Batched reads and writes on TUN devices and raw sockets. No GRE.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__io(void)
{
    return PyModuleDef_Init(&definition);
}
