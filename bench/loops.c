/*
 * Cheap things, done often: many short loops of each kind in turn, and of each the tenth fastest of a hundred.
 * Run inside a sandbox and outside by calls.py. Prints "KIND NANOSECONDS" lines.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 100 };

static int null_fd, memory_fd, pipe_fds[2];
static volatile uint64_t sink;

static void cpu(void)
{
	uint64_t x = sink;

	for (int i = 0; i < 500; i++)
		x = x * 6364136223846793005u + 1442695040888963407u;
	sink = x;
}

static void getppid_call(void)
{
	syscall(SYS_getppid);
}

static void stat_call(void)
{
	struct stat st;

	if (stat("/usr/bin/env", &st) != 0)
		abort();
}

/* As every C library but musl makes it of open(3): two calls. */
static void open_close(void)
{
	long fd = syscall(SYS_openat, AT_FDCWD, "/usr/bin/env", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		abort();
	close((int)fd);
}

/* musl sets the flag once more, with fcntl(2), whose arguments a filter must look at. */
static void open_fcntl_close(void)
{
	long fd = syscall(SYS_openat, AT_FDCWD, "/usr/bin/env", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fcntl((int)fd, F_SETFD, FD_CLOEXEC) != 0)
		abort();
	close((int)fd);
}

static void write_null(void)
{
	if (write(null_fd, "x", 1) != 1)
		abort();
}

static void write_page(void)
{
	static const char page[4096];

	if (pwrite(memory_fd, page, sizeof(page), 0) != sizeof(page))
		abort();
}

static void pipe_byte(void)
{
	char byte;

	if (write(pipe_fds[1], "x", 1) != 1 || read(pipe_fds[0], &byte, 1) != 1)
		abort();
}

/* pipe(2), as a shell makes one for each `|`. */
static void pipe_call(void)
{
	int ends[2];

	if (pipe(ends) != 0)
		abort();
	close(ends[0]);
	close(ends[1]);
}

static const struct {
	const char *name;
	void (*once)(void);
	int times;
} kinds[] = {
	{ "cpu", cpu, 500 },
	{ "getppid", getppid_call, 1000 },
	{ "stat", stat_call, 300 },
	{ "open", open_close, 200 },
	{ "open+fcntl", open_fcntl_close, 200 },
	{ "write-null", write_null, 1000 },
	{ "write-4K", write_page, 500 },
	{ "pipe", pipe_call, 200 },
	{ "pipe-byte", pipe_byte, 300 },
};
enum { KINDS = sizeof(kinds) / sizeof(*kinds) };

static double ns_each(int kind)
{
	struct timespec a, b;

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < kinds[kind].times; i++)
		kinds[kind].once();
	clock_gettime(CLOCK_MONOTONIC, &b);
	return ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / kinds[kind].times;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(void)
{
	static double took[KINDS][ROUNDS];

	null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	memory_fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (null_fd < 0 || memory_fd < 0 || pipe(pipe_fds) != 0)
		return 1;
	for (int round = 0; round < ROUNDS; round++)
		for (int kind = 0; kind < KINDS; kind++)
			took[kind][round] = ns_each(kind);
	for (int kind = 0; kind < KINDS; kind++) {
		qsort(took[kind], ROUNDS, sizeof(double), ascending);
		printf("%s %.3f\n", kinds[kind].name, took[kind][ROUNDS / 10]);
	}
	return 0;
}
