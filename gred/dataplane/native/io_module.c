/* gred.dataplane._io: batched reads and writes on TUN devices and sockets, for Python. No GRE.
 *
 * This file takes arguments apart and checks that every offset lies inside its buffer; the work is
 * done, without the interpreter lock, by tun.c, send.c, bypass.c, udp.c and receive.c.
 * Contract: _io.pyi. Twin: gred/dataplane/pure_io.py.
 */
#define PY_SSIZE_T_CLEAN
#include "io.h"
#include "module.h"

#include <errno.h>

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

static bool pieces_fit(const struct tun_write *tun_writes, size_t count, const struct piece *pieces,
                       size_t piece_count, size_t arena_length, size_t headers_length)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t at = tun_writes[i].first_piece;
        for (uint32_t k = 0; k < tun_writes[i].pieces; k++, at = pieces[at].next) {
            if (at >= piece_count)
                return false;
            size_t room = pieces[at].is_header ? headers_length : arena_length;
            if (pieces[at].offset > room || pieces[at].length > room - pieces[at].offset)
                return false;
        }
    }
    return true;
}

static PyObject *py_write_frames(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    enum { ARENA, HEADERS, TUN_WRITES, PIECES, BUFFERS };
    static const int buffer_args[BUFFERS] = {0, 1, 2, 3};
    Py_buffer buffers[BUFFERS] = {{0}};
    size_t count, failed = 0;
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("write_frames", nargs, 5) || !get_size(args[4], &count) ||
        !get_buffers(args, buffer_args, buffers, BUFFERS))
        goto exit;
    if (count > (size_t)buffers[TUN_WRITES].len / sizeof(struct tun_write) ||
        !pieces_fit(buffers[TUN_WRITES].buf, count, buffers[PIECES].buf,
                    (size_t)buffers[PIECES].len / sizeof(struct piece), (size_t)buffers[ARENA].len,
                    (size_t)buffers[HEADERS].len)) {
        too_small("write_frames");
        goto exit;
    }
    Py_BEGIN_ALLOW_THREADS failed =
        write_frames(buffers[ARENA].buf, buffers[HEADERS].buf, buffers[TUN_WRITES].buf,
                     buffers[PIECES].buf, count);
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
    struct senders senders;
    int error = 0;
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("send_datagrams", nargs, 7) || !get_int(args[0], &senders.df) ||
        !get_int(args[1], &senders.no_df) || !get_size(args[4], &first) ||
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
    Py_BEGIN_ALLOW_THREADS sent = send_datagrams(&senders, buffers[ARENA].buf, datagrams + first,
                                                 count - first, buffers[DESTINATIONS].buf, &error);
    Py_END_ALLOW_THREADS answer = Py_BuildValue("ni", (Py_ssize_t)sent, error);
exit:
    release_buffers(buffers, BUFFERS);
    return answer;
}

static bool cache_fits(const struct path_cache *cache)
{
    for (size_t i = 0; i < cache->count; i++)
        if (cache->entries[i].header_length > sizeof cache->entries[i].header)
            return false;
    return cache->count > 0;
}

static PyObject *py_send_bypassing(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    enum { PATH_CACHE, ARENA, DATAGRAMS, DESTINATIONS, BUFFERS };
    static const int buffer_args[BUFFERS] = {3, 4, 5, 8};
    Py_buffer buffers[BUFFERS] = {{0}};
    size_t first, count, sent = 0;
    struct senders senders;
    int packet, error = 0;
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("send_bypassing", nargs, 9) || !get_int(args[0], &senders.df) ||
        !get_int(args[1], &senders.no_df) || !get_int(args[2], &packet) ||
        !get_size(args[6], &first) || !get_size(args[7], &count) ||
        !get_buffers(args, buffer_args, buffers, BUFFERS))
        goto exit;
    const struct datagram *datagrams = buffers[DATAGRAMS].buf;
    struct path_cache cache = {buffers[PATH_CACHE].buf,
                               (size_t)buffers[PATH_CACHE].len / sizeof(struct path_entry)};
    if (count > (size_t)buffers[DATAGRAMS].len / sizeof(struct datagram) || first > count ||
        !cache_fits(&cache) ||
        !datagrams_fit(datagrams + first, count - first,
                       (size_t)buffers[DESTINATIONS].len / sizeof(struct destination),
                       (size_t)buffers[ARENA].len)) {
        too_small("send_bypassing");
        goto exit;
    }
    Py_BEGIN_ALLOW_THREADS sent =
        send_bypassing(&senders, packet, &cache, buffers[ARENA].buf, datagrams + first,
                       count - first, buffers[DESTINATIONS].buf, &error);
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
    int fd, family, busy_poll, error = 0;
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("receive_datagrams", nargs, 8) || !get_int(args[0], &fd) ||
        !get_int(args[1], &family) || !get_size(args[3], &begin) || !get_size(args[4], &stride) ||
        !get_size(args[6], &limit) || (busy_poll = PyObject_IsTrue(args[7])) < 0 ||
        !get_buffers(args, buffer_args, buffers, BUFFERS))
        goto exit;
    if (limit > (size_t)buffers[RECEIVED].len / sizeof(struct received) ||
        stride <= FRAME_HEADROOM || begin > (size_t)buffers[ARENA].len ||
        limit > ((size_t)buffers[ARENA].len - begin) / stride) {
        too_small("receive_datagrams");
        goto exit;
    }
    Py_BEGIN_ALLOW_THREADS filled =
        receive_datagrams(fd, family, buffers[ARENA].buf, begin, stride, buffers[RECEIVED].buf,
                          limit, busy_poll, &error);
    Py_END_ALLOW_THREADS answer = Py_BuildValue("ni", (Py_ssize_t)filled, error);
exit:
    release_buffers(buffers, BUFFERS);
    return answer;
}

static PyObject *py_send_udp(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    enum { SOCKETS, UNTIL, ARENA, DATAGRAMS, DESTINATIONS, BUFFERS };
    static const int buffer_args[BUFFERS] = {0, 1, 2, 3, 6};
    Py_buffer buffers[BUFFERS] = {{0}};
    size_t first, count, sent = 0;
    int error = 0;
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("send_udp", nargs, 7) || !get_size(args[4], &first) ||
        !get_size(args[5], &count) || !get_buffers(args, buffer_args, buffers, BUFFERS))
        goto exit;
    const struct datagram *datagrams = buffers[DATAGRAMS].buf;
    struct udp_senders senders = {
        .sockets = buffers[SOCKETS].buf,
        .count = (size_t)buffers[SOCKETS].len / sizeof(int32_t),
        .plain_until = buffers[UNTIL].buf,
    };
    if (count > (size_t)buffers[DATAGRAMS].len / sizeof(struct datagram) || first > count ||
        !senders.count || (size_t)buffers[UNTIL].len < sizeof *senders.plain_until ||
        !datagrams_fit(datagrams + first, count - first,
                       (size_t)buffers[DESTINATIONS].len / sizeof(struct destination),
                       (size_t)buffers[ARENA].len)) {
        too_small("send_udp");
        goto exit;
    }
    Py_BEGIN_ALLOW_THREADS sent = send_udp(&senders, buffers[ARENA].buf, datagrams + first,
                                           count - first, buffers[DESTINATIONS].buf, &error);
    Py_END_ALLOW_THREADS answer = Py_BuildValue("ni", (Py_ssize_t)sent, error);
exit:
    release_buffers(buffers, BUFFERS);
    return answer;
}

static PyObject *py_receive_udp(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    enum { ARENA, RECEIVED, BUFFERS };
    static const int buffer_args[BUFFERS] = {2, 5};
    Py_buffer buffers[BUFFERS] = {{0}};
    size_t slots, stride, limit, filled = 0;
    int fd, family, busy_poll, error = 0;
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("receive_udp", nargs, 8) || !get_int(args[0], &fd) ||
        !get_int(args[1], &family) || !get_size(args[3], &slots) || !get_size(args[4], &stride) ||
        !get_size(args[6], &limit) || (busy_poll = PyObject_IsTrue(args[7])) < 0 ||
        !get_buffers(args, buffer_args, buffers, BUFFERS))
        goto exit;
    if (limit > (size_t)buffers[RECEIVED].len / sizeof(struct received) ||
        stride <= FRAME_HEADROOM || slots > (size_t)buffers[ARENA].len / stride) {
        too_small("receive_udp");
        goto exit;
    }
    Py_BEGIN_ALLOW_THREADS filled = receive_udp(fd, family, buffers[ARENA].buf, slots, stride,
                                                buffers[RECEIVED].buf, limit, busy_poll, &error);
    Py_END_ALLOW_THREADS answer = Py_BuildValue("ni", (Py_ssize_t)filled, error);
exit:
    release_buffers(buffers, BUFFERS);
    return answer;
}

static PyMethodDef methods[] = {
    {"read_frames", (PyCFunction)(void (*)(void))py_read_frames, METH_FASTCALL, NULL},
    {"write_frames", (PyCFunction)(void (*)(void))py_write_frames, METH_FASTCALL, NULL},
    {"send_datagrams", (PyCFunction)(void (*)(void))py_send_datagrams, METH_FASTCALL, NULL},
    {"send_bypassing", (PyCFunction)(void (*)(void))py_send_bypassing, METH_FASTCALL, NULL},
    {"receive_datagrams", (PyCFunction)(void (*)(void))py_receive_datagrams, METH_FASTCALL, NULL},
    {"send_udp", (PyCFunction)(void (*)(void))py_send_udp, METH_FASTCALL, NULL},
    {"receive_udp", (PyCFunction)(void (*)(void))py_receive_udp, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "gred.dataplane._io",
    .m_doc = "Batched reads and writes on TUN devices and sockets. No GRE.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__io(void)
{
    return PyModuleDef_Init(&definition);
}
