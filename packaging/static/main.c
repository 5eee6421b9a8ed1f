/* SPDX-License-Identifier: MIT
 *
 * The static file: `capsule-run` with its Python and its core inside. It starts the core, which is a program of its
 * own, from a sealed memory file, and then runs Python on our frozen modules. docs/decisions/static-file.md has the
 * reasons.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "capsule-core.h"
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/xattr.h>

/* Defined in here, for the compiler elsewhere: by address, and not by a table, which aarch64's assembler gets wrong. */
#define HIDDEN __attribute__((visibility("hidden")))

/* A compressed module: where its code lies, and its bytes before and after. */
struct packed {
	const char *name;
	uint32_t offset, size, whole;
	int is_package;
};
#include "frozen.h"

#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 0x10U
#endif
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* The core, as packaging/build-static has compiled it. */
__asm__(".section .rodata\n"
	"core_start: .incbin \"core.image\"\n"
	"core_end:\n"
	".previous\n");
void protect_tables(void); /* start.c */
extern const char core_start[] HIDDEN, core_end[] HIDDEN;
extern const ElfW(Ehdr) __ehdr_start HIDDEN;

static char own_file[PATH_MAX];
static char core[32]; /* where Python finds the core: a descriptor of this process */

/* Write the core; a limit of the size of files is the caller's for its command, and ours only if it cannot be raised.
 */
static int write_core(int fd)
{
	size_t size = (size_t)(core_end - core_start);
	struct rlimit files, raised;
	ssize_t wrote;

	if (getrlimit(RLIMIT_FSIZE, &files) < 0)
		return -1;
	raised = (struct rlimit){ files.rlim_max, files.rlim_max };
	if (setrlimit(RLIMIT_FSIZE, &raised) < 0)
		return -1;
	wrote = write(fd, core_start, size);
	if (setrlimit(RLIMIT_FSIZE, &files) < 0)
		return -1;
	if (wrote >= 0 && (size_t)wrote < size)
		errno = EFBIG;
	return wrote == (ssize_t)size ? 0 : -1;
}

/*
 * The core as a file that nobody can change. The payload is a child of the core: whatever it does with /proc/PID/exe,
 * with `#!/proc/self/exe` for example, it gets this copy and never the file on the disk (CVE-2019-5736).
 */
static int open_core(void)
{
	struct text path = TEXT_IN(core);
	int fd = memfd_create("capsule-core", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);

	if (fd < 0 && errno == EINVAL) /* before 6.3 each of them can be executed */
		fd = memfd_create("capsule-core", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd >= 0 && fd < 3) { /* the number of a closed standard stream, which is not ours */
		int moved = fcntl(fd, F_DUPFD_CLOEXEC, 3);

		close(fd);
		fd = moved;
	}
	if (fd < 0 || write_core(fd) < 0 || fchmod(fd, 0500) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		return -1;
	put(&path, "/proc/self/fd/");
	put_number(&path, (uint64_t)fd);
	return fd;
}

static int say_no_core(int error)
{
	if (error == EACCES)
		fputs("capsule-run: E2003: this host runs no program from memory (vm.memfd_noexec is 2)\n\n"
		      "hint: install the package with pip, which has its core as a file\n",
		    stderr);
	else if (error == EFBIG)
		fputs("capsule-run: E6003: capsule-run itself: file too large\n\n"
		      "hint: raise the file size limit of this process (`ulimit -f`)\n",
		    stderr);
	else
		fprintf(stderr, "capsule-run: E6003: cannot make a file in memory: %s\n", strerror(error));
	return 125;
}

/* ---- the module `_capsule_static`: what our Python must know of this file ---- */

static int fill_module(PyObject *module)
{
	return PyModule_AddStringConstant(module, "CORE", core) < 0
		|| PyModule_AddObject(module, "FILE", PyUnicode_DecodeFSDefault(own_file)) < 0 ?
	    -1 :
	    0;
}

/* openat2(directory, path, flags, mode, resolve), for workspace/native_calls.py, which elsewhere uses ctypes. */
static PyObject *py_openat2(PyObject *self, PyObject *args)
{
	unsigned long long how[3];
	const char *path;
	int directory;
	long fd;

	if (!PyArg_ParseTuple(args, "iyKKK", &directory, &path, &how[0], &how[1], &how[2]))
		return NULL;
	fd = syscall(SYS_openat2, directory, path, how, sizeof(how));
	return fd < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(fd);
}

static PyObject *py_setfsuid(PyObject *self, PyObject *id)
{
	unsigned long number = PyLong_AsUnsignedLong(id);

	return PyErr_Occurred() ? NULL : PyLong_FromLong(syscall(SYS_setfsuid, number));
}

static PyObject *py_setfsgid(PyObject *self, PyObject *id)
{
	unsigned long number = PyLong_AsUnsignedLong(id);

	return PyErr_Occurred() ? NULL : PyLong_FromLong(syscall(SYS_setfsgid, number));
}

/* getxattr(descriptor, name), which CPython has in `posix` with glibc alone: begin.py puts it there. */
static PyObject *py_getxattr(PyObject *self, PyObject *args)
{
	const char *name;
	char value[256];
	int file;
	ssize_t size;

	if (!PyArg_ParseTuple(args, "is", &file, &name))
		return NULL;
	size = fgetxattr(file, name, value, sizeof(value));
	return size < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyBytes_FromStringAndSize(value, size);
}

/* A length of LZ4: what does not fit in the token's four bits follows as bytes, of which the last is not 255. */
static size_t lz4_length(size_t length, const unsigned char **from)
{
	unsigned char more = 255;

	if (length < 15)
		return length;
	while (more == 255) {
		more = *(*from)++;
		length += more;
	}
	return length;
}

/* Decompress a block of LZ4 that freeze.py has written: it is part of the program, and is not doubted. */
static void lz4_read(const unsigned char *from, size_t size, unsigned char *to)
{
	for (const unsigned char *end = from + size;;) {
		unsigned char token = *from++;
		size_t literal = lz4_length(token >> 4, &from), same;
		const unsigned char *earlier;

		memcpy(to, from, literal);
		from += literal;
		to += literal;
		if (from >= end)
			return;
		earlier = to - (from[0] | from[1] << 8);
		from += 2;
		same = lz4_length(token & 15, &from) + 4;
		while (same-- > 0) /* what it copies may be what it has just written */
			*to++ = *earlier++;
	}
}

/* unpack(name): the code of a compressed module and whether it is a package, or None. */
static PyObject *py_unpack(PyObject *self, PyObject *name)
{
	const char *wanted = PyUnicode_AsUTF8(name);
	const struct packed *one = packed;
	PyObject *code;

	if (wanted == NULL)
		return NULL;
	while (one->name != NULL && strcmp(one->name, wanted) != 0)
		one++;
	if (one->name == NULL)
		Py_RETURN_NONE;
	code = PyBytes_FromStringAndSize(NULL, one->whole);
	if (code == NULL)
		return NULL;
	lz4_read(packed_code + one->offset, one->size, (unsigned char *)PyBytes_AS_STRING(code));
	return Py_BuildValue("(Ni)", code, one->is_package);
}

/*
 * release_pages(): give the memory of what was read from the file back to the kernel, while a command runs and this
 * process waits. Nothing is lost: a page that is needed again comes from the kernel's copy of the file.
 */
static PyObject *py_release_pages(PyObject *self, PyObject *none)
{
	const ElfW(Ehdr) *file = &__ehdr_start;
	const ElfW(Phdr) *part = (const ElfW(Phdr) *)((const char *)file + file->e_phoff);

	for (const ElfW(Phdr) *end = part + file->e_phnum; part < end; part++) {
		uintptr_t start = ((uintptr_t)file + part->p_vaddr) & -getauxval(AT_PAGESZ);

		if (part->p_type == PT_LOAD && !(part->p_flags & PF_W)) /* what was written to would be lost */
			madvise((void *)start, (uintptr_t)file + part->p_vaddr + part->p_filesz - start, MADV_DONTNEED);
	}
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
	{ "getxattr", py_getxattr, METH_VARARGS, NULL },
	{ "openat2", py_openat2, METH_VARARGS, NULL },
	{ "release_pages", py_release_pages, METH_NOARGS, NULL },
	{ "setfsuid", py_setfsuid, METH_O, NULL },
	{ "setfsgid", py_setfsgid, METH_O, NULL },
	{ "unpack", py_unpack, METH_O, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyModuleDef_Slot slots[] = { { Py_mod_exec, (void *)fill_module }, { 0, NULL } };
static struct PyModuleDef module = { PyModuleDef_HEAD_INIT, .m_name = "_capsule_static", .m_methods = methods,
	.m_slots = slots };

static PyObject *init_module(void)
{
	return PyModuleDef_Init(&module);
}

/* ---- Python ---- */

static const char *const pythons[] = { "/usr/local/bin/python3", "/usr/bin/python3" };

/* The host's Python, which commands get as `python`: the first of the places that a sandbox always shows. */
static void name_python(PyConfig *config)
{
	static char real[PATH_MAX];
	const char *python = pythons[access(pythons[0], X_OK) == 0 ? 0 : 1];

	PyConfig_SetBytesString(config, &config->executable, python);
	PyConfig_SetBytesString(config, &config->base_executable, python);
	for (int up = realpath(python, real) != NULL ? 0 : 2; up < 2; up++) /* PREFIX/bin/python3 */
		if (strrchr(real, '/') != NULL)
			*strrchr(real, '/') = '\0';
	PyConfig_SetBytesString(config, &config->prefix, *real != '\0' ? real : "/usr");
	PyConfig_SetBytesString(config, &config->base_prefix, *real != '\0' ? real : "/usr");
	PyConfig_SetBytesString(config, &config->exec_prefix, "/usr");
	PyConfig_SetBytesString(config, &config->base_exec_prefix, "/usr");
}

static int fail(PyStatus status)
{
	if (status.err_msg != NULL)
		fprintf(stderr, "capsule-run: E6003: cannot start its Python: %s\n", status.err_msg);
	return 125;
}

/* Isolated: no variable, no file and no word of the command line says what is imported; all of it is in here. */
static int run_python(int argc, char **argv, const char *early)
{
	static wchar_t option[64];
	PyPreConfig pre;
	PyConfig config;
	PyStatus status;
	PyObject *begin;

	PyPreConfig_InitIsolatedConfig(&pre);
	pre.utf8_mode = 1; /* words and paths are bytes, whatever the locale */
	pre.configure_locale = 0;
	status = Py_PreInitialize(&pre);
	if (PyStatus_Exception(status))
		return fail(status);
	PyImport_FrozenModules = frozen;
	if (PyImport_AppendInittab("_capsule_static", init_module) < 0)
		return fail(PyStatus_NoMemory());
	PyConfig_InitIsolatedConfig(&config);
	config.site_import = config.write_bytecode = config.parse_argv = config.pathconfig_warnings = 0;
	config.install_signal_handlers = 1;
	config.module_search_paths_set = 1;
	config.code_debug_ranges = 0;
	PyConfig_SetString(&config, &config.program_name, L"capsule-run");
	PyConfig_SetString(&config, &config.home, L"/usr");
	PyConfig_SetString(&config, &config.stdlib_dir, L"");
	PyConfig_SetString(&config, &config.platlibdir, L"lib");
	PyConfig_SetString(&config, &config.stdio_encoding, L"utf-8");
	PyConfig_SetString(&config, &config.filesystem_encoding, L"utf-8");
	name_python(&config);
	if (*early != '\0') {
		for (size_t i = 0; i < sizeof(option) / sizeof(*option) - 1 && early[i] != '\0'; i++)
			option[i] = (wchar_t)early[i];
		PyWideStringList_Append(&config.xoptions, option);
	}
	status = PyConfig_SetBytesArgv(&config, argc, argv);
	if (!PyStatus_Exception(status))
		status = Py_InitializeFromConfig(&config);
	if (PyStatus_Exception(status))
		return fail(status);
	PyConfig_Clear(&config);
	begin = PyImport_ImportModule("_capsule_begin"); /* runs the command, and does not return */
	PyErr_Print();
	return begin != NULL ? 0 : 125;
}

int main(int argc, char **argv)
{
	static char *none[] = { "capsule-run", NULL };
	char early[64] = "";
	int unfit, fd;

	protect_tables();
	if (has_more_rights_than_its_caller())
		return print(2, "capsule-run: refuses to run set-user-ID, set-group-ID or with file capabilities\n"),
		       125;
	unfit = unfit_to_start();
	if (unfit != 0)
		return unfit;
	if (readlink("/proc/self/exe", own_file, sizeof(own_file) - 1) <= 0)
		return print(2, "capsule-run: cannot find its own file: is /proc mounted?\n"), 125;
	fd = open_core();
	if (fd < 0)
		return say_no_core(errno);
	if (argc > 1 && *argv[1] == '-') /* as all do that ask for a run */
		start_core(fd, "", &TEXT_IN(early));
	return run_python(argc > 0 ? argc : 1, argc > 0 ? argv : none, *early != '\0' ? early + strlen("-X") : "");
}
