/* SPDX-License-Identifier: MIT
 *
 * What procfs says, read into memory of ours: a file, the numbers in it, and everybody inside but init.
 */
#include "watcher.h"

/* Read a file of procfs: 0, or -1 with errno. A process that has ended is ENOENT or ESRCH. */
int read_proc(int dir, const char *pid, const char *name, char *text, size_t size)
{
	char path[64];
	int fd CLEANUP_CLOSE = -1;
	ssize_t got;

	put(&TEXT_IN(path), pid, name);
	fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	got = fd < 0 ? -1 : read(fd, text, size - 1);
	text[got < 0 ? 0 : got] = '\0';
	return got < 0 ? -1 : 0;
}

/* What our /proc says of a process; nothing where it hides others. */
size_t read_of(uint32_t pid, const char *name, char *to, size_t size)
{
	char path[64];
	int fd CLEANUP_CLOSE = -1;
	ssize_t got;

	process_path(path, pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	got = fd < 0 ? -1 : read(fd, to, size);
	return got < 0 ? 0 : (size_t)got;
}

/* The number behind a name at the start of a line, in the KiB that procfs gives; 0 where the line is not there. */
uint64_t status_number(const char *text, const char *name)
{
	const char *at = strstr(text, name);
	uint64_t n = 0;

	if (at == NULL)
		return 0;
	for (at += strlen(name); *at == ' ' || *at == '\t'; at++)
		;
	for (; *at >= '0' && *at <= '9'; at++)
		n = n * 10 + (uint64_t)(*at - '0');
	return n;
}

/* A number of /proc/PID/stat. The name in it may hold anything, also brackets: fields follow the last bracket. */
uint64_t stat_number(const char *text, unsigned int field)
{
	const char *at = strrchr(text, ')');
	uint64_t n = 0;

	for (unsigned int i = 2; at != NULL && i < field; i++)
		at = strchr(at + 1, ' ');
	for (at = at != NULL ? at + 1 : ""; *at >= '0' && *at <= '9'; at++)
		n = n * 10 + (uint64_t)(*at - '0');
	return n;
}

/* The next process of a procfs, or thread of a `task`, among the other names there. Returns as next_name(). */
int next_pid(struct names *names)
{
	int more;

	while ((more = next_name(names)) > 0 && (*names->name < '0' || *names->name > '9'))
		;
	return more;
}

/* The same without init. */
int next_inside(struct names *names)
{
	int more;

	while ((more = next_pid(names)) > 0 && strcmp(names->name, "1") == 0)
		;
	return more;
}

/* Kill every process inside but init, which is asked next: until it gets a processor, memory would grow on. */
void kill_everybody(void)
{
	int dir CLEANUP_CLOSE = openat(memory.proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct names pids = { .dir = dir };

	while (next_inside(&pids) > 0) {
		int process CLEANUP_CLOSE = openat(dir, pids.name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		(void)syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0);
	}
}
