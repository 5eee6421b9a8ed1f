/* SPDX-License-Identifier: MIT
 *
 * `capsule-run` on PATH: start the environment's Python on our own package, and the core beside it.
 */
#include "capsule-core.h"
#include <sys/mman.h>
#include <sys/socket.h>

#define OPTION_BYTES 64
#define LARGEST_MODULE (1U << 24)
/* With fewer open files Python does not start; with a few more it says itself what a run needs. */
#define LEAST_FILES 8

static bool exists(const char *directory, const char *middle, const char *end, char *path)
{
	struct text text = { path, PATH_MAX, 0 };

	put(&text, directory, middle, end);
	return text.length < PATH_MAX - 1 && access(path, F_OK) == 0;
}

/* The package beside us: PREFIX/lib/python3.N/site-packages (Debian's pip: dist-packages). `version` gets python3.N. */
static bool find_package(const char *prefix, char *version, char *script)
{
	static const char *const places[] = { "/site-packages/capsule_run/_bundle.py",
		"/dist-packages/capsule_run/_bundle.py" };

	for (uint64_t minor = 11; minor < 40; minor++) {
		struct text name = { version, 32, 0 };
		char middle[64];

		put(&name, "python3.");
		put_number(&name, minor);
		put(&TEXT_IN(middle), "/lib/", version);
		for (int i = 0; i < 2; i++)
			if (exists(prefix, middle, places[i], script))
				return true;
	}
	return false;
}

/* Whether the words ask for a run: all that do begin with an option or `--`. */
static bool asks_for_a_run(const char *first)
{
	static const char *const others[] = { "-h", "--help", "-V", "--version" };

	for (int i = 0; i < 4; i++)
		if (strcmp(first, others[i]) == 0)
			return false;
	return *first == '-';
}

/*
 * The core beside the package, on another processor while Python starts; it waits for its plan. `option` becomes what
 * tells Python so: the number of its control socket, and its process id. Without it Python starts a core, as the SDK
 * does.
 */
static void start_core(const char *script, char *option)
{
	static char core[PATH_MAX],
	    name[] = "capsule-core", *const args[] = { name, NULL }, *const nothing[] = { NULL };
	int pair[2];
	struct text path = TEXT_IN(core), text = { option, OPTION_BYTES, 0 };
	pid_t pid;

	put(&path, script);
	path.length -= strlen("_bundle.py");
	put(&path, "_core");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return;
	/* numbers of closed standard streams are not ours; a descriptor of both sides would outlive a dead Python */
	pid = pair[0] < 3 || pair[1] < 3 ? -1 : clone_process(0, NULL, -1);
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		if (null >= 0 && dup2(pair[1], 0) == 0 && dup2(null, 1) == 1 && dup2(null, 2) == 2)
			execve(core, args, nothing);
		_exit(127); /* Python finds the socket closed, and starts one that says why */
	}
	close_cleanup(&pair[1]);
	if (pid < 0 || fcntl(pair[0], F_SETFD, 0) < 0) {
		close_cleanup(&pair[0]);
		return;
	}
	put(&text, "capsule-core=");
	put_number(&text, (uint64_t)pair[0]);
	put(&text, ":");
	put_number(&text, (uint64_t)pid);
}

/*
 * What Python does first: the package's beginning, in its compiled form. A script it would search for an archive, and
 * compile at each start. __main__.py does the same for whoever starts it by hand.
 */
static char begin[] =
    "import sys\n"
    "from _frozen_importlib_external import SourceFileLoader\n"
    "bundle = sys.modules['capsule_run._bundle'] = type(sys)('capsule_run._bundle')\n"
    "bundle.__file__ = sys.argv.pop(1)\n"
    "exec(SourceFileLoader(bundle.__name__, bundle.__file__).get_code(bundle.__name__), bundle.__dict__)\n"
    "bundle.begin()\n";

/*
 * What would let the environment load code into our interpreter, or change what its C library does: a part of
 * LD_LIBRARY_PATH that is empty names the current directory, which is the one that is not trusted. PYTHON* is ignored
 * by -I. The order stays.
 */
static void drop_loader_variables(char **envp)
{
	static const char *const dropped[] = { "LD_",
		"GLIBC_TUNABLES=", "GCONV_PATH=", "LOCPATH=", "NLSPATH=", "MALLOC_", "OPENSSL_" };
	char **kept = envp;

	for (; *envp != NULL; envp++) {
		bool keep = true;

		for (unsigned int i = 0; i < sizeof(dropped) / sizeof(*dropped); i++)
			keep = keep && strncmp(*envp, dropped[i], strlen(dropped[i])) != 0;
		if (keep)
			*kept++ = *envp;
	}
	*kept = NULL;
}

/*
 * As `capsule-run`: exec the environment's interpreter, isolated (-I) and without site (-S), on our own package. Both
 * are found from where this very file lies, never through PATH or the environment. Where the package lies elsewhere (an
 * editable install), the interpreter beside us looks for it, with site and its cost.
 */
int hand_over(int argc, char **argv, char **envp)
{
	static char self[PATH_MAX], prefix[PATH_MAX], script[PATH_MAX], python[PATH_MAX];
	static char isolated[] = "-I", no_site[] = "-S", code[] = "-c", module[] = "-m", package[] = "capsule_run",
		    implementation[] = "-X";
	/* words and paths are bytes, whatever the locale; and code without columns is smaller */
	static char no_bytecode[] = "-B", utf8[] = "utf8", lines[] = "no_debug_ranges";
	static const char *const elsewhere[] = { "/usr/local/bin/", "/usr/bin/" };
	struct rlimit file_size;
	struct stat input;
	char version[32] = "", core[OPTION_BYTES] = "";
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char **args = mmap(
	    NULL, ((size_t)argc + 13) * sizeof(*args), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct rlimit files;
	bool found;
	int at = 0;

	if (fstat(0, &input) == 0 && S_ISDIR(input.st_mode)) /* Python would not even start */
		return print(2, "capsule-run: standard input is a directory\n"), 2;
	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur < LEAST_FILES)
		return print(2,
			   "capsule-run: E6003: this process may have too few files open: raise its limit to 64 or "
			   "more (`ulimit -n`)\n"),
		       125;
	if (length <= 0 || args == MAP_FAILED)
		return print(2, "capsule-run: cannot find its own file: is /proc mounted?\n"), 125;
	drop_loader_variables(envp);
	*strrchr(self, '/') = '\0'; /* the directory of commands */
	put(&TEXT_IN(prefix), self);
	*strrchr(prefix, '/') = '\0';
	found = find_package(prefix, version, script);
	if (found && argc > 1 && asks_for_a_run(argv[1]))
		start_core(script, core);
	args[at++] = python;
	args[at++] = isolated;
	/* Python puts compiled modules in place although their end did not fit, and stumbles over them ever after */
	if (getrlimit(RLIMIT_FSIZE, &file_size) == 0 && file_size.rlim_cur < LARGEST_MODULE)
		args[at++] = no_bytecode;
	for (int i = *core == '\0'; i < 3; i++) {
		args[at++] = implementation;
		args[at++] = (char *[]){ core, utf8, lines }[i];
	}
	if (found) {
		args[at++] = no_site;
		args[at++] = code;
		args[at++] = begin;
	} else {
		args[at++] = module;
	}
	args[at++] = found ? script : package;
	for (int i = 1; i <= argc; i++)
		args[at++] = argv[i]; /* with the NULL behind the last */
	if (exists(self, "/", found ? version : "python3", python) || exists(self, "/", "python3", python))
		execve(python, args, envp);
	for (int i = 0; found && i < 2; i++)
		if (exists(elsewhere[i], "", version, python))
			execve(python, args, envp);
	return print(2, "capsule-run: the Python it was installed for is gone: install it again\n"), 125;
}

/*
 * Whether this file is the command. Its own name decides, as a symbolic link, `exec -a` and execve(2) can give any
 * other, or none; the name that it is called by is enough, for a link to the core.
 */
bool is_command(const char *called)
{
	static char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *slash = length > 0 ? strrchr(self, '/') : NULL;

	return strcmp(called, "capsule-run") == 0 || (slash != NULL && strncmp(slash + 1, "capsule-run", 11) == 0);
}
