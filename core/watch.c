/* SPDX-License-Identifier: MIT
 *
 * The memory watch of the launcher, for hosts that give us no cgroup: there memory cannot be waited for, only looked at.
 * It reads init's procfs from outside the wall, where nothing inside can name, slow or starve it.
 */
#include "capsule-core.h"
#include <sys/timerfd.h>
#include <sys/vfs.h>

/* What a tree of processes can touch in a millisecond, as measured with room to spare; it sets how often we must look. */
#define KIB_PER_MS 4096
#define LONGEST_PAUSE_MS 50
#define FIRST_LOOK_MS 10
#define SECOND_LOOK_MS 4

struct watch memory = { -1, -1, -1, false, 0, 0, 0, 0 };

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

/* The number behind a name at the start of a line, in the KiB that procfs gives; 0 where the line is not there. */
static uint64_t kib_of(const char *text, const char *name)
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

/*
 * One process (or, where its first thread has ended, one of its others): anonymous, shared, swapped and page tables.
 * Shared by whom, only the slower smaps_rollup knows: it is asked when the plain sum, which counts pages after a fork
 * once for each process, would be too much.
 */
static int process_kib(int dir, const char *pid, bool exact, uint64_t *sum)
{
	char text[4096];

	if (read_proc(dir, pid, "/status", text, sizeof(text)) < 0)
		return errno == ENOENT || errno == ESRCH ? 0 : -1;
	memory.tasks += kib_of(text, "\nThreads:");
	if (strstr(text, "\nRssAnon:") == NULL)
		return 1;
	*sum += kib_of(text, "\nVmPTE:") + kib_of(text, "\nVmSwap:");
	if (exact && read_proc(dir, pid, "/smaps_rollup", text, sizeof(text)) == 0)
		*sum += kib_of(text, "\nPss_Anon:") + kib_of(text, "\nPss_Shmem:");
	else
		*sum += kib_of(text, "\nRssAnon:") + kib_of(text, "\nRssShmem:");
	return 0;
}

/* All the numbers of a procfs directory: processes, or the threads of one until the first that still has memory. */
static int sum_kib(int parent, const char *name, bool exact, uint64_t *sum)
{
	_Alignas(uint64_t) char buffer[4096];
	char tasks[64];
	int dir CLEANUP_CLOSE = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long got = 0, at = 0;
	uint64_t before = memory.tasks;
	int more, looked = 1;

	if (dir < 0)
		return errno == ENOENT || errno == ESRCH ? 0 : -1;
	while ((more = next_name(dir, buffer, sizeof(buffer), &got, &at, &name)) > 0) {
		bool threads = parent != memory.proc;

		if (*name < '0' || *name > '9' || (!threads && strcmp(name, "1") == 0))
			continue;
		looked = process_kib(dir, name, exact, sum);
		append(tasks, append(tasks, 0, sizeof(tasks), name), sizeof(tasks), "/task");
		if (looked < 0 || (looked > 0 && !threads && sum_kib(dir, tasks, exact, sum) < 0))
			return -1;
		if (threads && looked == 0)
			break;
	}
	if (parent != memory.proc)
		memory.tasks = before; /* counted with their process */
	return more < 0 && errno != ENOENT && errno != ESRCH ? -1 : 0;
}

static int used_kib(uint64_t *used)
{
	struct statfs fs;

	for (int exact = 0; exact <= 1; exact++) {
		*used = memory.tasks = 0;
		if (fstatfs(memory.tmpfs, &fs) < 0 || sum_kib(memory.proc, ".", exact, used) < 0)
			return -1;
		*used += (uint64_t)(fs.f_blocks - fs.f_bfree) * ((uint64_t)fs.f_bsize >> 10);
		if (*used <= memory.limit_kib)
			break;
	}
	return 0;
}

/*
 * Look once. A look that is over the limit is believed when a second one is, too: between vfork and exec two processes
 * show one memory. Returns NULL, or why the run must end; what cannot be looked at is not taken for nothing.
 */
const char *watch_memory(void)
{
	struct itimerspec when = { .it_value.tv_nsec = SECOND_LOOK_MS * 1000000 };
	uint64_t used, ms;
	bool again = memory.over;

	if (used_kib(&used) < 0)
		return "lost";
	if (used > memory.peak_kib)
		memory.peak_kib = used;
	if (memory.tasks > memory.most_tasks)
		memory.most_tasks = memory.tasks;
	memory.over = used > memory.limit_kib;
	if (memory.over && again)
		return "memory";
	if (!memory.over) {
		ms = (memory.limit_kib - used) / KIB_PER_MS;
		when.it_value.tv_nsec = (long)(ms < 1 ? 1 : ms > LONGEST_PAUSE_MS ? LONGEST_PAUSE_MS : ms) * 1000000;
	}
	return timerfd_settime(memory.timer, 0, &when, NULL) < 0 ? "lost" : NULL;
}

int start_watch(const struct plan *plan)
{
	const struct itimerspec soon = { .it_value.tv_nsec = FIRST_LOOK_MS * 1000000 };
	struct step step;

	if (!plan_find(plan, "memory-watch", &step))
		return 0;
	memory.limit_kib = number(step.field[0]) >> 10;
	memory.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return memory.timer < 0 ? -1 : timerfd_settime(memory.timer, 0, &soon, NULL);
}
