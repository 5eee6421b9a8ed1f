/* SPDX-License-Identifier: MIT
 *
 * What procfs says, read into memory of ours: a file, the numbers in it, and everybody inside but init.
 */
#include "capsule-core.h"

/* Read a file of procfs: 0, or -1 with errno. A process that has ended is ENOENT or ESRCH. */
int read_proc(int dir, const char *pid, const char *name, char *text, size_t size)
{
	char path[64];
	int fd CLEANUP_CLOSE = -1;
	ssize_t got;

	append(path, append(path, 0, sizeof(path), pid), sizeof(path), name);
	fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	got = fd < 0 ? -1 : read(fd, text, size - 1);
	text[got < 0 ? 0 : got] = '\0';
	return got < 0 ? -1 : 0;
}

/* What our /proc says of a process; nothing where it hides others. */
size_t read_of(uint32_t pid, const char *name, char *to, size_t size)
{
	char path[64] = "/proc/";
	size_t at = append_number(path, strlen(path), sizeof(path), pid);
	int fd CLEANUP_CLOSE = -1;
	ssize_t got;

	append(path, at, sizeof(path), name);
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

/* A number of /proc/PID/stat. The name in it may hold anything, also brackets: what counts stands behind the last one. */
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

/* End everybody inside but init, from here: a hog grows for as long as init, which is asked next, waits for a processor. */
void kill_everybody(void)
{
	_Alignas(uint64_t) char buffer[4096];
	int dir CLEANUP_CLOSE = openat(memory.proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long got = 0, at = 0;
	const char *name;

	while (dir >= 0 && next_name(dir, buffer, sizeof(buffer), &got, &at, &name) > 0)
		if (*name >= '1' && *name <= '9' && strcmp(name, "1") != 0) {
			int process CLEANUP_CLOSE = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			(void)syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0);
		}
}
