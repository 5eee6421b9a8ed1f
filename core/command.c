/* SPDX-License-Identifier: MIT
 *
 * `capsule-run` on PATH: start the environment's Python on our own package, and the core beside it. Both are found from
 * where this very file lies, never through PATH or the environment.
 */
#include "capsule-core.h"
#include <sys/mman.h>
#include <sys/socket.h>

#define LARGEST_MODULE (1U << 24)
#define LEAST_FILES 8 /* with fewer Python does not start; with a few more it says itself what a run needs */

static char self[PATH_MAX]; /* this file, and then its directory */

/* What Python does first: the package's beginning, compiled. A script it would compile at each start. */
static const char begin[] =
    "import sys\n"
    "from _frozen_importlib_external import SourceFileLoader\n"
    "bundle = sys.modules['capsule_run._bundle'] = type(sys)('capsule_run._bundle')\n"
    "bundle.__file__ = sys.argv.pop(1)\n"
    "exec(SourceFileLoader(bundle.__name__, bundle.__file__).get_code(bundle.__name__), bundle.__dict__)\n"
    "bundle.begin()\n";

static bool find(char path[static PATH_MAX], const char *const *parts)
{
	struct text text = { path, PATH_MAX, 0 };

	put_all(&text, parts);
	return text.length < PATH_MAX - 1 && access(path, F_OK) == 0;
}
#define exists(path, ...) find(path, (const char *const[]){ __VA_ARGS__, NULL })

/* The package beside us: PREFIX/lib/python3.N/site-packages (Debian's pip: dist-packages). `version` gets python3.N. */
static bool find_package(const char *prefix, char version[static 32], char script[static PATH_MAX])
{
	for (uint64_t minor = 11; minor < 40; minor++) {
		struct text name = { version, 32, 0 };

		put(&name, "python3.");
		put_number(&name, minor);
		if (exists(script, prefix, "/lib/", version, "/site-packages/capsule_run/_bundle.py")
		    || exists(script, prefix, "/lib/", version, "/dist-packages/capsule_run/_bundle.py"))
			return true;
	}
	return false;
}

/*
 * The core at `path` from `at`, or `at` itself where `path` is empty, on another processor while Python starts; it
 * waits for its plan. `option` becomes what tells Python its control socket and its process id. Without it Python
 * starts a core, as the SDK does.
 */
void start_core(int at, const char *path, struct text *option)
{
	static char name[] = "capsule-core";
	int pair[2] = { -1, -1 };
	pid_t pid;

	/* numbers of closed standard streams are not ours; a descriptor of both sides would outlive a dead Python */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return;
	if (pair[0] < 3 || pair[1] < 3)
		return close_all(pair, 2);
	pid = clone_process(0, NULL, -1);
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		if (null >= 0 && dup2(pair[1], 0) == 0 && dup2(null, 1) == 1 && dup2(null, 2) == 2)
			syscall(SYS_execveat, at, path, (char *[]){ name, NULL }, (char *[]){ NULL }, AT_EMPTY_PATH);
		_exit(127); /* Python finds the socket closed, and starts one that says why */
	}
	close_cleanup(&pair[1]);
	if (pid < 0 || fcntl(pair[0], F_SETFD, 0) < 0)
		return;
	put(option, "-Xcapsule-core=");
	put_number(option, (uint64_t)pair[0]);
	put(option, ":");
	put_number(option, (uint64_t)pid);
}

/*
 * What would let the environment load code into our interpreter, or change what its C library does: an empty part of
 * LD_LIBRARY_PATH names the current directory, which is not trusted. PYTHON* is ignored by -I. The order stays.
 */
static void drop_loader_variables(char **envp)
{
	static const char *const dropped[] = { "LD_",
		"GLIBC_TUNABLES=", "GCONV_PATH=", "LOCPATH=", "NLSPATH=", "MALLOC_", "OPENSSL_", NULL };
	char **kept = envp;

	for (; *envp != NULL; envp++) {
		const char *const *start = dropped;

		while (*start != NULL && strncmp(*envp, *start, strlen(*start)) != 0)
			start++;
		if (*start == NULL)
			*kept++ = *envp;
	}
	*kept = NULL;
}

/* What must hold before Python starts: 0, or the exit code after a message. */
int unfit_to_start(void)
{
	struct rlimit files;
	struct stat input;

	if (fstat(0, &input) == 0 && S_ISDIR(input.st_mode)) /* Python would not even start */
		return print(2, "capsule-run: standard input is a directory\n"), 2;
	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur < LEAST_FILES)
		return print(2, "capsule-run: E6003: too few open files: raise the limit to 64 (`ulimit -n`)\n"), 125;
	return 0;
}

/* Isolated (-I) and without site (-S). A package that lies elsewhere is found by the Python beside us, with site. */
int hand_over(int argc, char **argv, char **envp)
{
	static char prefix[PATH_MAX], script[PATH_MAX], python[PATH_MAX], core[PATH_MAX];
	char version[32] = "", early[64] = "";
	size_t room = ((size_t)argc + 14) * sizeof(char *); /* what is added is less than that */
	const char **args = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), **next = args;
	struct rlimit size;
	int unfit = unfit_to_start();
	bool found;

	if (unfit != 0)
		return unfit;
	if (*self == '\0' || args == MAP_FAILED)
		return print(2, "capsule-run: cannot find its own file: is /proc mounted?\n"), 125;
	drop_loader_variables(envp);
	*strrchr(self, '/') = '\0'; /* the directory of commands */
	put(&TEXT_IN(prefix), self);
	*strrchr(prefix, '/') = '\0';
	found = find_package(prefix, version, script);
	if (found && argc > 1 && *argv[1] == '-') { /* as all do that ask for a run */
		struct text beside = TEXT_IN(core);

		put(&beside, script);
		beside.length -= strlen("_bundle.py");
		put(&beside, "_core");
		start_core(AT_FDCWD, core, &TEXT_IN(early));
	}
	*next++ = python;
	/* Python puts compiled modules in place although their end did not fit, and cannot load them ever after */
	*next++ = getrlimit(RLIMIT_FSIZE, &size) == 0 && size.rlim_cur < LARGEST_MODULE ? "-IB" : "-I";
	*next++ = "-Xutf8";            /* words and paths are bytes, whatever the locale */
	*next++ = "-Xno_debug_ranges"; /* code without columns is smaller */
	if (*early != '\0')
		*next++ = early;
	*next++ = found ? "-Sc" : "-m";
	*next++ = found ? begin : "capsule_run";
	if (found)
		*next++ = script;
	memcpy(next, argv + 1, (size_t)argc * sizeof(*argv)); /* with the NULL after the last */
	if (exists(python, self, "/", found ? version : "python3") || exists(python, self, "/python3")
	    || (found && (exists(python, "/usr/local/bin/", version) || exists(python, "/usr/bin/", version))))
		execve(python, (char **)(uintptr_t)args, envp);
	return print(2, "capsule-run: the Python it was installed for is gone: install it again\n"), 125;
}

/* Whether this file is the command: by its own name, which no caller chooses, or, for a link to it, by the caller's. */
bool is_command(const char *called)
{
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *slash = length > 0 ? strrchr(self, '/') : NULL;

	return strcmp(called, "capsule-run") == 0 || (slash != NULL && strncmp(slash + 1, "capsule-run", 11) == 0);
}
