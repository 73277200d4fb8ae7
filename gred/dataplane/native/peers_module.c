/* The functions of gred.dataplane._codec for tunnels with many remotes.
 *
 * This file takes arguments apart and checks that every offset lies inside its buffer; the work is
 * done, without the interpreter lock, by peers.c. Contract: _codec.pyi.
 */
#define PY_SSIZE_T_CLEAN
#include "peers_module.h"
#include "codec.h"
#include "module.h"

/* Take the table of peers in *buffer*; false, with an exception, when it is damaged. */
static bool get_peers(const Py_buffer *buffer, struct peer_table *table)
{
    size_t length = (size_t)buffer->len;

    table->header = buffer->buf;
    table->slots = (struct peer *)(table->header + 1);
    if (length >= sizeof *table->header && !(table->header->mask & (table->header->mask + 1u)) &&
        table->header->mask < (length - sizeof *table->header) / sizeof *table->slots)
        return true;
    PyErr_SetString(PyExc_ValueError, "the table of peers is damaged");
    return false;
}

static void get_destinations(const Py_buffer *buffer, struct destination_table *table)
{
    table->rows = buffer->buf;
    table->count = (size_t)buffer->len / sizeof *table->rows;
}

static PyObject *py_route_frames(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    enum { ARENA, FRAMES, PEERS, DESTINATIONS, BUFFERS };
    static const int buffer_args[BUFFERS] = {0, 1, 4, 5};
    Py_buffer buffers[BUFFERS] = {{0}};
    struct peer_table peers;
    struct destination_table destinations;
    size_t count, limit;
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("route_frames", nargs, 6) || !get_size(args[2], &count) ||
        !get_size(args[3], &limit) || !get_buffers(args, buffer_args, buffers, BUFFERS) ||
        !get_peers(&buffers[PEERS], &peers))
        goto exit;
    get_destinations(&buffers[DESTINATIONS], &destinations);
    const struct frame *frames = buffers[FRAMES].buf;
    size_t arena_length = (size_t)buffers[ARENA].len;
    bool fits = count <= (size_t)buffers[FRAMES].len / sizeof *frames;
    for (size_t i = 0; fits && i < count; i++)
        fits =
            frames[i].offset <= arena_length && frames[i].length <= arena_length - frames[i].offset;
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "route_frames: a buffer is smaller than its count");
        goto exit;
    }
    Py_BEGIN_ALLOW_THREADS count =
        route_frames(buffers[ARENA].buf, buffers[FRAMES].buf, count, limit, &peers, &destinations);
    Py_END_ALLOW_THREADS answer = PyLong_FromSize_t(count);
exit:
    release_buffers(buffers, BUFFERS);
    return answer;
}

static PyObject *py_spread_datagrams(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    enum { DATAGRAMS, DESTINATIONS, STATES, BUFFERS };
    static const int buffer_args[BUFFERS] = {0, 5, 6};
    Py_buffer buffers[BUFFERS] = {{0}};
    struct destination_table destinations;
    struct spread spread = {0};
    size_t tunnel, filled = 0;
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("spread_datagrams", nargs, 8) || !get_size(args[1], &spread.next) ||
        !get_size(args[2], &spread.copy) || !get_size(args[3], &spread.count) ||
        !get_size(args[4], &spread.first) || !get_size(args[7], &tunnel) ||
        !get_buffers(args, buffer_args, buffers, BUFFERS))
        goto exit;
    get_destinations(&buffers[DESTINATIONS], &destinations);
    spread.datagrams = buffers[DATAGRAMS].buf;
    spread.capacity = (size_t)buffers[DATAGRAMS].len / sizeof(struct datagram);
    if (spread.next > spread.count || spread.count > spread.first ||
        spread.first > spread.capacity ||
        tunnel >= (size_t)buffers[STATES].len / sizeof(struct tx_state)) {
        PyErr_SetString(PyExc_ValueError, "spread_datagrams: a table is smaller than its count");
        goto exit;
    }
    struct tx_state *state = (struct tx_state *)buffers[STATES].buf + tunnel;
    Py_BEGIN_ALLOW_THREADS filled = spread_datagrams(&spread, &destinations, state);
    Py_END_ALLOW_THREADS answer =
        Py_BuildValue("nnn", (Py_ssize_t)filled, (Py_ssize_t)spread.next, (Py_ssize_t)spread.copy);
exit:
    release_buffers(buffers, BUFFERS);
    return answer;
}

static PyObject *py_find_learners(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    enum { RECEIVED, TUNNELS, FOUND, BUFFERS };
    static const int buffer_args[BUFFERS] = {0, 2, 3};
    Py_buffer buffers[BUFFERS] = {{0}};
    size_t count, found = 0;
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("find_learners", nargs, 4) || !get_size(args[1], &count) ||
        !get_buffers(args, buffer_args, buffers, BUFFERS))
        goto exit;
    if (count > (size_t)buffers[RECEIVED].len / sizeof(struct received)) {
        PyErr_SetString(PyExc_ValueError, "find_learners: a buffer is smaller than its count");
        goto exit;
    }
    Py_BEGIN_ALLOW_THREADS found =
        find_learners(buffers[RECEIVED].buf, count, buffers[TUNNELS].buf,
                      (size_t)buffers[TUNNELS].len / sizeof(struct tunnel_record),
                      buffers[FOUND].buf, (size_t)buffers[FOUND].len / sizeof(uint32_t));
    Py_END_ALLOW_THREADS answer = PyLong_FromSize_t(found);
exit:
    release_buffers(buffers, BUFFERS);
    return answer;
}

static PyObject *py_find_unlearned_source(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    enum { ARENA, RECEIVED, PEERS, DESTINATIONS, BUFFERS };
    static const int buffer_args[BUFFERS] = {0, 1, 5, 6};
    Py_buffer buffers[BUFFERS] = {{0}};
    struct peer_table peers;
    struct destination_table destinations;
    struct hearing hearing = {0};
    size_t tunnel, now, hold, found = 0;
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("find_unlearned_source", nargs, 9) ||
        !get_size(args[2], &hearing.first) || !get_size(args[3], &hearing.count) ||
        !get_size(args[4], &tunnel) || !get_size(args[7], &now) || !get_size(args[8], &hold) ||
        !get_buffers(args, buffer_args, buffers, BUFFERS) || !get_peers(&buffers[PEERS], &peers))
        goto exit;
    get_destinations(&buffers[DESTINATIONS], &destinations);
    hearing.arena = buffers[ARENA].buf;
    hearing.received = buffers[RECEIVED].buf;
    hearing.tunnel = (uint32_t)tunnel;
    hearing.now = (uint32_t)now;
    hearing.hold = (uint32_t)hold;
    size_t arena_length = (size_t)buffers[ARENA].len;
    bool fits = hearing.count <= (size_t)buffers[RECEIVED].len / sizeof(struct received) &&
                hearing.first <= hearing.count;
    for (size_t i = hearing.first; fits && i < hearing.count; i++)
        fits = hearing.received[i].inner_offset <= arena_length &&
               hearing.received[i].inner_length <= arena_length - hearing.received[i].inner_offset;
    if (!fits) {
        PyErr_SetString(PyExc_ValueError,
                        "find_unlearned_source: a buffer is smaller than its count");
        goto exit;
    }
    Py_BEGIN_ALLOW_THREADS found = find_unlearned_source(&hearing, &peers, &destinations);
    Py_END_ALLOW_THREADS answer = PyLong_FromSize_t(found);
exit:
    release_buffers(buffers, BUFFERS);
    return answer;
}

static PyMethodDef methods[] = {
    {"route_frames", (PyCFunction)(void (*)(void))py_route_frames, METH_FASTCALL, NULL},
    {"spread_datagrams", (PyCFunction)(void (*)(void))py_spread_datagrams, METH_FASTCALL, NULL},
    {"find_learners", (PyCFunction)(void (*)(void))py_find_learners, METH_FASTCALL, NULL},
    {"find_unlearned_source", (PyCFunction)(void (*)(void))py_find_unlearned_source, METH_FASTCALL,
     NULL},
    {NULL, NULL, 0, NULL},
};

int add_peers_functions(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
