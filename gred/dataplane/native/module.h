/* Arguments of the two extension modules: buffers and sizes. */
#ifndef GRED_MODULE_H
#define GRED_MODULE_H

#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

static inline bool check_argument_count(const char *name, Py_ssize_t given, Py_ssize_t wanted)
{
    if (given == wanted)
        return true;
    PyErr_Format(PyExc_TypeError, "%s: expected %zd arguments, got %zd", name, wanted, given);
    return false;
}

static inline bool get_size(PyObject *object, size_t *size)
{
    *size = PyLong_AsSize_t(object);
    return !(*size == (size_t)-1 && PyErr_Occurred());
}

static inline bool get_int(PyObject *object, int *value)
{
    long number = PyLong_AsLong(object);
    if (number == -1 && PyErr_Occurred())
        return false;
    if (number < INT32_MIN || number > INT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "expected a 32-bit number");
        return false;
    }
    *value = (int)number;
    return true;
}

/* On failure what was acquired stays acquired: call release_buffers() in any case. */
static inline bool get_buffers(PyObject *const *args, const int *positions, Py_buffer *buffers,
                               size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (PyObject_GetBuffer(args[positions[i]], &buffers[i], PyBUF_WRITABLE))
            return false;
        if ((uintptr_t)buffers[i].buf % 8) {
            PyErr_SetString(PyExc_ValueError, "a buffer is not aligned to 8 bytes");
            return false;
        }
    }
    return true;
}

static inline void release_buffers(Py_buffer *buffers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (buffers[i].obj)
            PyBuffer_Release(&buffers[i]);
}

#endif
