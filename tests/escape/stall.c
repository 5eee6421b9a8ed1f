/* SPDX-License-Identifier: MIT
 *
 * What holds the locks and walks of the kernel that a reader of /proc/PID waits for.
 *
 *   stall mapped FILE TIMES SHARERS [MIB]   FILE mapped populated TIMES times, SHARERS processes with that very memory, one that grows to MIB
 *   stall moved PROCESSES MIB [MIB]         processes that move MIB of zero pages back and forth, for which they hold mmap_lock
 *   stall threads COUNT [MIB]               so many threads
 *   stall executing PROCESSES [MIB]         processes that execute a program again and again, which shows their memory meanwhile
 *   stall dying FILE TIMES PROCESSES [MIB]  processes that map FILE so often, and end: who reads them last takes that down
 *
 * MIB, the last word, is what another process takes beside it, and says `.` on stderr for each. One more says every 10 ms
 * on stdout how many milliseconds have passed: its last word is when everything was killed.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1UL << 20)

static void grow(const char *mib)
{
	size_t size = strtoul(mib, NULL, 0) * MIB;
	char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)madvise(at, size, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < size; i += 4096) {
		at[i] = 1;
		if (i % MIB == 0)
			(void)!write(2, ".", 1);
	}
	for (;;)
		pause();
}

static void tick(void)
{
	struct timespec began, now;
	char line[32];

	clock_gettime(CLOCK_MONOTONIC, &began);
	for (;; usleep(10000)) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		(void)!write(1, line, (size_t)sprintf(line, "%ld\n", (now.tv_sec - began.tv_sec) * 1000 + (now.tv_nsec - began.tv_nsec) / 1000000));
	}
}

static int wait_for_ever(void *unused)
{
	while (unused == NULL)
		pause();
	return 0;
}

static void *thread(void *unused)
{
	(void)wait_for_ever(unused);
	return NULL;
}

static void map(const char *file, int times)
{
	int fd = open(file, O_RDONLY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		_exit(1);
	for (int i = 0; i < times; i++)
		if (mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0) == MAP_FAILED)
			_exit(2);
}

static void move(size_t mib)
{
	size_t size = mib * MIB;
	char *at = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *other = mmap(NULL, size + 2 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *place[2] = { at, other + ((size_t)(at - other) & (2 * MIB - 1) ? 0 : 4096) }; /* page by page, and not by tables */
	volatile char sum = 0;

	(void)madvise(at, size, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < size; i += 4096)
		sum += at[i];
	for (int turn = 1;; turn = !turn)
		if (mremap(place[!turn], size, size, MREMAP_MAYMOVE | MREMAP_FIXED, place[turn]) == MAP_FAILED)
			_exit(3);
}

int main(int argc, char **argv)
{
	const char *how = argv[1];
	int last = argc - 1, count = argc > 2 ? atoi(argv[2]) : 0;

	if (strcmp(how, "again") != 0 && fork() == 0)
		tick();

	if (strcmp(how, "mapped") == 0) {
		map(argv[2], atoi(argv[3]));
		for (int i = atoi(argv[4]); i > 0; i--)
			if (clone(wait_for_ever, (char *)malloc(65536) + 65536, CLONE_VM | SIGCHLD, NULL) < 0)
				return 4;
		last -= 4;
	} else if (strcmp(how, "moved") == 0) {
		for (int i = 0; i < count; i++)
			if (fork() == 0)
				move(strtoul(argv[3], NULL, 0));
		last -= 3;
	} else if (strcmp(how, "threads") == 0) {
		pthread_attr_t small;
		pthread_t id;

		pthread_attr_init(&small);
		pthread_attr_setstacksize(&small, 16384);
		for (int i = 0; i < count; i++)
			if (pthread_create(&id, &small, thread, NULL) != 0)
				return 5;
		last -= 2;
	} else if (strcmp(how, "executing") == 0) {
		char *again[] = { argv[0], (char *)"again", NULL };

		for (int i = 0; i < count; i++)
			if (fork() == 0)
				execv(argv[0], again);
		last -= 2;
	} else if (strcmp(how, "again") == 0) {
		char *again[] = { argv[0], (char *)"again", NULL };

		execv(argv[0], again);
		return 6;
	} else if (strcmp(how, "dying") == 0) {
		for (int i = 0; i < atoi(argv[4]); i++)
			if (fork() == 0)
				for (;;) {
					if (fork() == 0) {
						map(argv[2], atoi(argv[3]));
						_exit(0);
					}
					(void)wait(NULL);
				}
		last -= 4;
	}
	(void)!write(2, "ready\n", 6);
	if (last > 0 && fork() == 0)
		grow(argv[argc - 1]);
	return wait_for_ever(NULL);
}
