/* gred.dataplane._codec: GRE, checksums, segmentation and coalescing for Python. No system call.
 *
 * This file takes arguments apart and checks that every offset lies inside its buffer; the work is
 * done, without the interpreter lock, by the other files here but io_module.c.
 * Contract: _codec.pyi. Twin: gred/dataplane/pure_codec.py.
 */
#define PY_SSIZE_T_CLEAN
#include "codec.h"
#include "module.h"
#include "peers_module.h"

static bool frames_fit(const struct frame *frames, size_t first, size_t count,
                       const struct tunnel_record *record, size_t arena_length)
{
    for (size_t i = first; i < count; i++)
        if (frames[i].offset < FRAME_HEADROOM || frames[i].offset > arena_length ||
            frames[i].length > arena_length - frames[i].offset || record->vnet_header > VNET_HEADER)
            return false;
    return true;
}

static PyObject *py_encapsulate(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    enum { ARENA, FRAMES, TUNNELS, STATES, DATAGRAMS, BUFFERS };
    static const int buffer_args[BUFFERS] = {0, 1, 4, 5, 7};
    Py_buffer buffers[BUFFERS] = {{0}};
    size_t first, count, tunnel;
    struct egress egress = {0};
    struct egress_result result = {0};
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("encapsulate", nargs, 10) || !get_size(args[2], &first) ||
        !get_size(args[3], &count) || !get_size(args[6], &tunnel) ||
        !get_size(args[8], &egress.headers_begin) || !get_size(args[9], &egress.headers_end) ||
        !get_buffers(args, buffer_args, buffers, BUFFERS))
        goto exit;
    size_t arena_length = (size_t)buffers[ARENA].len;
    if (count > (size_t)buffers[FRAMES].len / sizeof(struct frame) || first > count ||
        tunnel >= (size_t)buffers[TUNNELS].len / sizeof(struct tunnel_record) ||
        tunnel >= (size_t)buffers[STATES].len / sizeof(struct tx_state) ||
        egress.headers_end > arena_length || egress.headers_begin > egress.headers_end) {
        PyErr_SetString(PyExc_ValueError, "encapsulate: a table is smaller than its count");
        goto exit;
    }
    egress.arena = buffers[ARENA].buf;
    egress.frames = buffers[FRAMES].buf;
    egress.datagrams = buffers[DATAGRAMS].buf;
    egress.datagram_capacity = (size_t)buffers[DATAGRAMS].len / sizeof(struct datagram);
    const struct tunnel_record *record = (struct tunnel_record *)buffers[TUNNELS].buf + tunnel;
    struct tx_state *state = (struct tx_state *)buffers[STATES].buf + tunnel;
    if (!frames_fit(egress.frames, first, count, record, arena_length)) {
        PyErr_SetString(PyExc_ValueError, "encapsulate: a frame lies outside the arena");
        goto exit;
    }
    Py_BEGIN_ALLOW_THREADS encapsulate(&egress, first, count, record, state, &result);
    Py_END_ALLOW_THREADS answer = Py_BuildValue(
        "nnn", (Py_ssize_t)result.datagrams, (Py_ssize_t)result.next, (Py_ssize_t)result.refused);
exit:
    release_buffers(buffers, BUFFERS);
    return answer;
}

static PyObject *py_order_frames(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    enum { ARENA, FRAMES, TUNNELS, BUFFERS };
    static const int buffer_args[BUFFERS] = {0, 1, 5};
    Py_buffer buffers[BUFFERS] = {{0}};
    size_t sparse, waiting, count, tunnel;
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("order_frames", nargs, 7) || !get_size(args[2], &sparse) ||
        !get_size(args[3], &waiting) || !get_size(args[4], &count) || !get_size(args[6], &tunnel) ||
        !get_buffers(args, buffer_args, buffers, BUFFERS))
        goto exit;
    if (count > (size_t)buffers[FRAMES].len / sizeof(struct frame) || waiting > count ||
        sparse > waiting || tunnel >= (size_t)buffers[TUNNELS].len / sizeof(struct tunnel_record)) {
        PyErr_SetString(PyExc_ValueError, "order_frames: a table is smaller than its count");
        goto exit;
    }
    const struct tunnel_record *record = (struct tunnel_record *)buffers[TUNNELS].buf + tunnel;
    if (!frames_fit(buffers[FRAMES].buf, waiting, count, record, (size_t)buffers[ARENA].len)) {
        PyErr_SetString(PyExc_ValueError, "order_frames: a frame lies outside the arena");
        goto exit;
    }
    Py_BEGIN_ALLOW_THREADS sparse =
        order_frames(buffers[ARENA].buf, buffers[FRAMES].buf, sparse, waiting, count, record);
    Py_END_ALLOW_THREADS answer = PyLong_FromSize_t(sparse);
exit:
    release_buffers(buffers, BUFFERS);
    return answer;
}

static bool received_fit(const struct received *received, size_t count, size_t arena_length)
{
    for (size_t i = 0; i < count; i++)
        if (received[i].offset < FRAME_HEADROOM || received[i].offset > arena_length ||
            received[i].length > arena_length - received[i].offset ||
            received[i].verdict >= DROP_REASON_COUNT)
            return false;
    return true;
}

static PyObject *py_decapsulate(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    enum {
        ARENA,
        RECEIVED,
        TUNNELS,
        STATES,
        FDS,
        LOOKUP,
        SOURCES,
        TUN_WRITES,
        PIECES,
        HEADERS,
        BUFFERS
    };
    static const int buffer_args[BUFFERS] = {0, 1, 3, 4, 5, 6, 7, 8, 9, 10};
    Py_buffer buffers[BUFFERS] = {{0}};
    size_t count, now;
    struct ingress ingress = {0};
    struct ingress_result result = {0};
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("decapsulate", nargs, 12) || !get_size(args[2], &count) ||
        !get_size(args[11], &now) || !get_buffers(args, buffer_args, buffers, BUFFERS))
        goto exit;
    size_t arena_length = (size_t)buffers[ARENA].len;
    size_t tunnels = (size_t)buffers[TUNNELS].len / sizeof(struct tunnel_record);
    size_t lookup_length = (size_t)buffers[LOOKUP].len;
    if (count > (size_t)buffers[RECEIVED].len / sizeof(struct received) ||
        (size_t)buffers[TUNNELS].len < sizeof(struct tunnel_record) ||
        (size_t)buffers[STATES].len / sizeof(struct rx_state) < tunnels ||
        (size_t)buffers[FDS].len / sizeof(int32_t) < tunnels ||
        lookup_length < sizeof(struct lookup_header) + sizeof(struct lookup_entry)) {
        PyErr_SetString(PyExc_ValueError, "decapsulate: a table is smaller than its count");
        goto exit;
    }
    ingress.now = (uint32_t)now;
    ingress.arena = buffers[ARENA].buf;
    ingress.received = buffers[RECEIVED].buf;
    ingress.tunnels = buffers[TUNNELS].buf;
    ingress.states = buffers[STATES].buf;
    ingress.descriptors = buffers[FDS].buf;
    ingress.tunnel_count = tunnels;
    ingress.lookup = buffers[LOOKUP].buf;
    ingress.sources = buffers[SOURCES].buf;
    ingress.source_count = (size_t)buffers[SOURCES].len / sizeof(struct source_range);
    ingress.tun_writes = buffers[TUN_WRITES].buf;
    ingress.tun_writes_capacity = (size_t)buffers[TUN_WRITES].len / sizeof(struct tun_write);
    ingress.pieces = buffers[PIECES].buf;
    ingress.piece_capacity = (size_t)buffers[PIECES].len / sizeof(struct piece);
    ingress.headers = buffers[HEADERS].buf;
    ingress.headers_length = (size_t)buffers[HEADERS].len;
    if (ingress.lookup->mask & (ingress.lookup->mask + 1u) ||
        ingress.lookup->mask >=
            (lookup_length - sizeof(struct lookup_header)) / sizeof(struct lookup_entry)) {
        PyErr_SetString(PyExc_ValueError, "decapsulate: the look-up table is damaged");
        goto exit;
    }
    if (!received_fit(ingress.received, count, arena_length)) {
        PyErr_SetString(PyExc_ValueError, "decapsulate: a datagram lies outside the arena");
        goto exit;
    }
    Py_BEGIN_ALLOW_THREADS decapsulate(&ingress, count, &result);
    Py_END_ALLOW_THREADS answer =
        Py_BuildValue("nn", (Py_ssize_t)result.frames, (Py_ssize_t)result.refused);
exit:
    release_buffers(buffers, BUFFERS);
    return answer;
}

static PyObject *py_checksum(PyObject *module, PyObject *data)
{
    Py_buffer buffer = {0};

    (void)module;
    if (PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE))
        return NULL;
    uint16_t sum = (uint16_t)~fold(sum_bytes(buffer.buf, (size_t)buffer.len));
    PyBuffer_Release(&buffer);
    return PyLong_FromUnsignedLong(load16((const uint8_t *)&sum));
}

static int exec_module(PyObject *module)
{
    return add_peers_functions(module);
}

static PyMethodDef methods[] = {
    {"encapsulate", (PyCFunction)(void (*)(void))py_encapsulate, METH_FASTCALL, NULL},
    {"decapsulate", (PyCFunction)(void (*)(void))py_decapsulate, METH_FASTCALL, NULL},
    {"order_frames", (PyCFunction)(void (*)(void))py_order_frames, METH_FASTCALL, NULL},
    {"checksum", py_checksum, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_module},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "gred.dataplane._codec",
    .m_doc = "GRE, checksums, segmentation and coalescing. No system call.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__codec(void)
{
    return PyModuleDef_Init(&definition);
}
