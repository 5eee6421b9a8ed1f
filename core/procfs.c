/* SPDX-License-Identifier: MIT
 *
 * Read procfs: files of a process, the numbers in them, and the list of processes.
 */
#include "watcher.h"

/* A file of a process in the procfs `dir`. Returns its length, or -1: ENOENT or ESRCH if the process has ended. */
ssize_t read_proc(int dir, const char *pid, const char *name, char *text, size_t size)
{
	char path[64];

	put(&TEXT_IN(path), pid, name);
	return read_file(dir, path, text, size);
}

/* The same from our own /proc. Returns 0 where that hides other processes. */
size_t read_host_proc(pid_t pid, const char *name, char *text, size_t size)
{
	char path[64];
	ssize_t got;

	process_path(path, (uint64_t)pid, name);
	got = read_file(AT_FDCWD, path, text, size);
	return got < 0 ? 0 : (size_t)got;
}

/* The number after `name`, which is at the start of a line, in the unit of the file; 0 if there is no such line. */
uint64_t status_number(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at == NULL ? 0 : number(at + strlen(name));
}

/* A field of /proc/PID/stat. The second, a name, may hold anything, also brackets: fields follow the last bracket. */
uint64_t stat_number(const char *text, unsigned int field)
{
	const char *at = strrchr(text, ')');

	for (unsigned int i = 2; at != NULL && i < field; i++)
		at = strchr(at + 1, ' ');
	return at == NULL ? 0 : number(at);
}

/* The state of a process, a letter; 0 if `stat` is no such file. */
char stat_state(const char *text)
{
	const char *at = strrchr(text, ')');

	return at == NULL || at[1] == '\0' ? '\0' : at[2];
}

/* The next process of a procfs, or thread of a `task`, without process `but`. Returns as next_name(). */
int next_pid(struct names *names, const char *but)
{
	int more;

	while ((more = next_name(names)) > 0
	    && (*names->name < '0' || *names->name > '9' || strcmp(names->name, but) == 0))
		;
	return more;
}

/* Kill every process inside but init, which is asked next: until it gets a processor, memory would grow on. */
void kill_everybody(void)
{
	int dir CLEANUP_CLOSE = openat(memory.proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct names pids = { .dir = dir };

	while (next_pid(&pids, PID_OF_INIT) > 0) {
		int process CLEANUP_CLOSE = openat(dir, pids.name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		(void)syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0);
	}
}
