/* SPDX-License-Identifier: MIT
 *
 * The modules that CPython starts with, in the place of its own Python/frozen.c, which has fifteen more. They are
 * static objects ("deep-frozen") that need not be read; every other module is in the table of freeze.py.
 */
#include <Python.h>
#include <stdbool.h>

#define CODE(name) _Py_get_##name##_toplevel
#define MODULE(name) extern PyObject *CODE(name)(void);

MODULE(importlib__bootstrap)
MODULE(importlib__bootstrap_external)
MODULE(zipimport)
MODULE(abc)
MODULE(codecs)
MODULE(io)

static const struct _frozen bootstrap[] = {
	{ "_frozen_importlib", NULL, 0, false, CODE(importlib__bootstrap) },
	{ "_frozen_importlib_external", NULL, 0, false, CODE(importlib__bootstrap_external) },
	{ "zipimport", NULL, 0, false, CODE(zipimport) },
	{ NULL, NULL, 0, false, NULL },
};
static const struct _frozen standard[] = {
	{ "abc", NULL, 0, false, CODE(abc) },
	{ "codecs", NULL, 0, false, CODE(codecs) },
	{ "io", NULL, 0, false, CODE(io) },
	{ NULL, NULL, 0, false, NULL },
};
static const struct _frozen none[] = { { NULL, NULL, 0, false, NULL } };

struct _module_alias {
	const char *name, *orig;
};
static const struct _module_alias aliases[] = {
	{ "_frozen_importlib", "importlib._bootstrap" },
	{ "_frozen_importlib_external", "importlib._bootstrap_external" },
	{ NULL, NULL },
};

const struct _frozen *_PyImport_FrozenBootstrap = bootstrap;
const struct _frozen *_PyImport_FrozenStdlib = standard;
const struct _frozen *_PyImport_FrozenTest = none;
const struct _module_alias *_PyImport_FrozenAliases = aliases;
const struct _frozen *PyImport_FrozenModules = NULL;
