/* What codec_module.c adds to its module from peers_module.c. */
#ifndef GRED_PEERS_MODULE_H
#define GRED_PEERS_MODULE_H

#include <Python.h>

/* Return -1 with an exception set when it fails. */
int add_peers_functions(PyObject *module);

#endif
