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
    enum { ARENA, FRAMES, TUNNELS, DATAGRAMS, BUFFERS };
    static const int buffer_args[BUFFERS] = {0, 1, 4, 6};
    Py_buffer buffers[BUFFERS] = {{0}};
    size_t first, count, tunnel;
    struct egress egress = {0};
    struct egress_result result = {0};
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("encapsulate", nargs, 9) || !get_size(args[2], &first) ||
        !get_size(args[3], &count) || !get_size(args[5], &tunnel) ||
        !get_size(args[7], &egress.headers_begin) || !get_size(args[8], &egress.headers_end) ||
        !get_buffers(args, buffer_args, buffers, BUFFERS))
        goto exit;
    size_t arena_length = (size_t)buffers[ARENA].len;
    if (count > (size_t)buffers[FRAMES].len / sizeof(struct frame) || first > count ||
        tunnel >= (size_t)buffers[TUNNELS].len / sizeof(struct tunnel_record) ||
        egress.headers_end > arena_length || egress.headers_begin > egress.headers_end) {
        PyErr_SetString(PyExc_ValueError, "encapsulate: a table is smaller than its count");
        goto exit;
    }
    egress.arena = buffers[ARENA].buf;
    egress.frames = buffers[FRAMES].buf;
    egress.datagrams = buffers[DATAGRAMS].buf;
    egress.datagram_capacity = (size_t)buffers[DATAGRAMS].len / sizeof(struct datagram);
    struct tunnel_record *record = (struct tunnel_record *)buffers[TUNNELS].buf + tunnel;
    if (!frames_fit(egress.frames, first, count, record, arena_length)) {
        PyErr_SetString(PyExc_ValueError, "encapsulate: a frame lies outside the arena");
        goto exit;
    }
    Py_BEGIN_ALLOW_THREADS encapsulate(&egress, first, count, record, &result);
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
    size_t leaders, waiting, count, tunnel;
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("order_frames", nargs, 7) || !get_size(args[2], &leaders) ||
        !get_size(args[3], &waiting) || !get_size(args[4], &count) || !get_size(args[6], &tunnel) ||
        !get_buffers(args, buffer_args, buffers, BUFFERS))
        goto exit;
    if (count > (size_t)buffers[FRAMES].len / sizeof(struct frame) || waiting > count ||
        leaders > waiting ||
        tunnel >= (size_t)buffers[TUNNELS].len / sizeof(struct tunnel_record)) {
        PyErr_SetString(PyExc_ValueError, "order_frames: a table is smaller than its count");
        goto exit;
    }
    const struct tunnel_record *record = (struct tunnel_record *)buffers[TUNNELS].buf + tunnel;
    if (!frames_fit(buffers[FRAMES].buf, waiting, count, record, (size_t)buffers[ARENA].len)) {
        PyErr_SetString(PyExc_ValueError, "order_frames: a frame lies outside the arena");
        goto exit;
    }
    Py_BEGIN_ALLOW_THREADS leaders =
        order_frames(buffers[ARENA].buf, buffers[FRAMES].buf, leaders, waiting, count, record);
    Py_END_ALLOW_THREADS answer = PyLong_FromSize_t(leaders);
exit:
    release_buffers(buffers, BUFFERS);
    return answer;
}

static bool received_fit(const struct received *received, size_t count, size_t arena_length)
{
    for (size_t i = 0; i < count; i++)
        if (received[i].offset < FRAME_HEADROOM || received[i].offset > arena_length ||
            received[i].length > arena_length - received[i].offset)
            return false;
    return true;
}

static PyObject *py_decapsulate(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    enum { ARENA, RECEIVED, TUNNELS, LOOKUP, OUTGOING, PIECES, BUFFERS };
    static const int buffer_args[BUFFERS] = {0, 1, 3, 4, 5, 6};
    Py_buffer buffers[BUFFERS] = {{0}};
    size_t count, now;
    struct ingress ingress = {0};
    struct ingress_result result = {0};
    PyObject *answer = NULL;

    (void)module;
    if (!check_argument_count("decapsulate", nargs, 10) || !get_size(args[2], &count) ||
        !get_size(args[7], &ingress.headers_begin) || !get_size(args[8], &ingress.headers_end) ||
        !get_size(args[9], &now) || !get_buffers(args, buffer_args, buffers, BUFFERS))
        goto exit;
    size_t arena_length = (size_t)buffers[ARENA].len;
    size_t lookup_length = (size_t)buffers[LOOKUP].len;
    if (count > (size_t)buffers[RECEIVED].len / sizeof(struct received) ||
        (size_t)buffers[TUNNELS].len < sizeof(struct tunnel_record) ||
        lookup_length < sizeof(struct lookup_header) + sizeof(struct lookup_entry) ||
        ingress.headers_end > arena_length || ingress.headers_begin > ingress.headers_end) {
        PyErr_SetString(PyExc_ValueError, "decapsulate: a table is smaller than its count");
        goto exit;
    }
    ingress.now = (uint32_t)now;
    ingress.arena = buffers[ARENA].buf;
    ingress.received = buffers[RECEIVED].buf;
    ingress.tunnels = buffers[TUNNELS].buf;
    ingress.tunnel_count = (size_t)buffers[TUNNELS].len / sizeof(struct tunnel_record);
    ingress.lookup = buffers[LOOKUP].buf;
    ingress.outgoing = buffers[OUTGOING].buf;
    ingress.outgoing_capacity = (size_t)buffers[OUTGOING].len / sizeof(struct outgoing);
    ingress.pieces = buffers[PIECES].buf;
    ingress.piece_capacity = (size_t)buffers[PIECES].len / sizeof(struct piece);
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

/* --- what the layout test compares ------------------------------------------------------------ */

struct measure {
    const char *name;
    size_t value;
};

#define SIZE(type)          {#type ".size", sizeof(struct type)}
#define FIELD(type, member) {#type "." #member, offsetof(struct type, member)}

static const struct measure measures[] = {
    SIZE(tunnel_record),
    FIELD(tunnel_record, flags),
    FIELD(tunnel_record, fd),
    FIELD(tunnel_record, input_key),
    FIELD(tunnel_record, output_key),
    FIELD(tunnel_record, output_next),
    FIELD(tunnel_record, input_next),
    FIELD(tunnel_record, input_seen),
    FIELD(tunnel_record, old_run),
    FIELD(tunnel_record, old_next),
    FIELD(tunnel_record, mtu),
    FIELD(tunnel_record, path_mtu),
    FIELD(tunnel_record, ttl),
    FIELD(tunnel_record, tos),
    FIELD(tunnel_record, protocol),
    FIELD(tunnel_record, vnet_header),
    FIELD(tunnel_record, family),
    FIELD(tunnel_record, local),
    FIELD(tunnel_record, remote),
    FIELD(tunnel_record, tx_packets),
    FIELD(tunnel_record, tx_bytes),
    FIELD(tunnel_record, rx_packets),
    FIELD(tunnel_record, rx_bytes),
    FIELD(tunnel_record, rx_resyncs),
    FIELD(tunnel_record, rx_lost),
    FIELD(tunnel_record, input_time),
    FIELD(tunnel_record, input_mark),
    FIELD(tunnel_record, mark_time),
    FIELD(tunnel_record, input_passed),
    FIELD(tunnel_record, life_time),
    FIELD(tunnel_record, first_seen),
    FIELD(tunnel_record, has_former),
    FIELD(tunnel_record, former_next),
    FIELD(tunnel_record, tx_drops),
    FIELD(tunnel_record, rx_drops),
    SIZE(frame),
    FIELD(frame, offset),
    FIELD(frame, length),
    FIELD(frame, done),
    FIELD(frame, verdict),
    FIELD(frame, destination),
    FIELD(frame, flow),
    FIELD(frame, path_mtu),
    FIELD(frame, fragmentable),
    SIZE(peer_header),
    FIELD(peer_header, mask),
    FIELD(peer_header, seed),
    FIELD(peer_header, refused),
    FIELD(peer_header, refused_last),
    FIELD(peer_header, lengths),
    SIZE(peer),
    FIELD(peer, state),
    FIELD(peer, family),
    FIELD(peer, prefix_length),
    FIELD(peer, destination),
    FIELD(peer, seen),
    FIELD(peer, network),
    SIZE(datagram),
    FIELD(datagram, head_offset),
    FIELD(datagram, head_length),
    FIELD(datagram, body_offset),
    FIELD(datagram, body_length),
    FIELD(datagram, tos),
    FIELD(datagram, ttl),
    FIELD(datagram, dont_fragment),
    FIELD(datagram, destination),
    FIELD(datagram, frame),
    FIELD(datagram, inner_length),
    SIZE(destination),
    FIELD(destination, family),
    FIELD(destination, interface),
    FIELD(destination, local),
    FIELD(destination, remote),
    FIELD(destination, flow_label),
    FIELD(destination, copies),
    FIELD(destination, path_mtu),
    FIELD(destination, fragmentable),
    SIZE(way),
    FIELD(way, until),
    FIELD(way, scouts),
    FIELD(way, lost),
    FIELD(way, followed),
    FIELD(way, destination),
    FIELD(way, size),
    FIELD(way, interface),
    FIELD(way, tos),
    FIELD(way, ttl),
    FIELD(way, address_length),
    FIELD(way, header_length),
    FIELD(way, address),
    FIELD(way, header),
    SIZE(received),
    FIELD(received, offset),
    FIELD(received, length),
    FIELD(received, family),
    FIELD(received, tos),
    FIELD(received, ttl),
    FIELD(received, truncated),
    FIELD(received, verdict),
    FIELD(received, protocol),
    FIELD(received, tunnel),
    FIELD(received, inner_offset),
    FIELD(received, inner_length),
    FIELD(received, key),
    FIELD(received, source),
    FIELD(received, destination),
    SIZE(outgoing),
    FIELD(outgoing, tunnel),
    FIELD(outgoing, fd),
    FIELD(outgoing, first_piece),
    FIELD(outgoing, last_piece),
    FIELD(outgoing, pieces),
    FIELD(outgoing, length),
    FIELD(outgoing, packets),
    FIELD(outgoing, error),
    SIZE(piece),
    FIELD(piece, offset),
    FIELD(piece, length),
    FIELD(piece, next),
    SIZE(lookup_header),
    FIELD(lookup_header, mask),
    FIELD(lookup_header, stages),
    SIZE(lookup_entry),
    FIELD(lookup_entry, tunnel),
    FIELD(lookup_entry, key),
    FIELD(lookup_entry, family),
    FIELD(lookup_entry, kind),
    FIELD(lookup_entry, local),
    FIELD(lookup_entry, remote),
};

static const char *const drop_reasons[] = {
#define X(name) #name,
    GRED_DROP_REASONS(X)
#undef X
};

static int exec_module(PyObject *module)
{
    PyObject *layout = PyDict_New();
    PyObject *reasons = PyTuple_New(DROP_REASON_COUNT);

    if (!layout || !reasons)
        goto fail;
    for (size_t i = 0; i < sizeof measures / sizeof *measures; i++) {
        PyObject *value = PyLong_FromSize_t(measures[i].value);
        if (!value || PyDict_SetItemString(layout, measures[i].name, value)) {
            Py_XDECREF(value);
            goto fail;
        }
        Py_DECREF(value);
    }
    for (Py_ssize_t i = 0; i < DROP_REASON_COUNT; i++) {
        PyObject *name = PyUnicode_FromString(drop_reasons[i]);
        if (!name || PyTuple_SetItem(reasons, i, name))
            goto fail;
    }
    if (PyModule_AddObjectRef(module, "LAYOUT", layout) ||
        PyModule_AddObjectRef(module, "DROP_REASONS", reasons) || add_peers_functions(module))
        goto fail;
    Py_DECREF(layout);
    Py_DECREF(reasons);
    return 0;
fail:
    Py_XDECREF(layout);
    Py_XDECREF(reasons);
    return -1;
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
