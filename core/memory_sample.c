/* SPDX-License-Identifier: MIT
 *
 * Samples of the memory of all processes inside, from procfs and the tmpfs. A plain sample adds up `status`, and counts
 * shared memory for each process; an exact one divides it among them.
 */
#include "watcher.h"
#include <sys/ioctl.h>
#include <sys/vfs.h>

#define KCMP_SAME_MEMORY 1                    /* KCMP_VM */
#define PID_FROM_NAMESPACE _IOR(0xb7, 6, int) /* of a pid namespace, from Linux 6.11 on */
#define MAX_SPACES 128

/*
 * The pid namespace of the room, which translates its process ids to ours: taken from a process that has one id in its
 * procfs, and so is in no namespace below. Init's own namespaces are not shown to us.
 */
static int open_pid_namespace(const char *pid)
{
	char path[64], text[4096];
	const char *at;

	put(&TEXT_IN(path), pid, "/ns/pid");
	if (read_proc(memory.proc, pid, "/status", text, sizeof(text)) < 0 || (at = strstr(text, "\nNSpid:\t")) == NULL)
		return -1;
	at += strlen("\nNSpid:\t");
	return at[strspn(at, "0123456789")] == '\n' ? openat(memory.proc, path, O_RDONLY | O_CLOEXEC) : -1;
}

/*
 * Whether a process has the address space of one that this sample has counted: between vfork and exec, or for good.
 * Asked before the process is read: two spaces never become one, so memory of two is never taken for that of one.
 */
static bool has_counted_space(const char *pid, struct sample *sample)
{
	static long counted[MAX_SPACES];
	static unsigned int ncounted;
	static int namespace = -1;
	long ours, differ = 1;

	if (sample->processes == 0) /* the first of this sample */
		ncounted = 0;
	if (namespace < 0)
		namespace = open_pid_namespace(pid);
	ours = syscall(SYS_ioctl, namespace, PID_FROM_NAMESPACE, number(pid));
	for (unsigned int i = 0; ours > 0 && differ > 0 && i < ncounted; i++)
		differ = syscall(SYS_kcmp, counted[i], ours, KCMP_SAME_MEMORY, 0, 0);
	if (ours < 0 || differ < 0)
		sample->one_space |= errno != ESRCH;
	else if (differ > 0 && ncounted < MAX_SPACES)
		counted[ncounted++] = ours;
	return differ == 0;
}

/*
 * One process: anonymous, shared and swapped memory, and page tables. `smaps_rollup`, which knows what is shared, is
 * read before `status`: what is allocated in between may be taken for shared, but is never counted as less than it is.
 * Returns 0, or 1 if the first thread has ended and so shows no memory, or -1.
 */
static int sample_process(int dir, const char *pid, bool exact, bool counted, struct sample *sample)
{
	char text[4096], rollup[4096];
	uint64_t own, shmem, shared = 0;

	rollup[0] = '\0';
	if (exact && !counted)
		(void)read_proc(dir, pid, "/smaps_rollup", rollup, sizeof(rollup));
	if (read_proc(dir, pid, "/status", text, sizeof(text)) < 0)
		return errno == ENOENT || errno == ESRCH ? 0 : -1;
	sample->tasks += status_number(text, "\nThreads:");
	if (strstr(text, "\nRssAnon:") == NULL)
		return 1;
	if (counted) { /* both have memory, so it is no missing one that they have in common */
		sample->one_space = true;
		return 0;
	}
	if (status_number(text, "\nVmRSS:") > sampled->largest_kib) {
		sampled->largest_kib = status_number(text, "\nVmRSS:");
		sampled->files_kib = status_number(text, "\nRssFile:");
	}
	own = status_number(text, "\nRssAnon:") + status_number(text, "\nVmPTE:") + status_number(text, "\nVmSwap:");
	shmem = status_number(text, "\nRssShmem:");
	if (*rollup != '\0') {
		shared = status_number(text, "\nRssAnon:") + shmem;
		shared -= least(shared, status_number(rollup, "\nPss_Anon:") + status_number(rollup, "\nPss_Shmem:"));
	}
	sample->floor_kib = own > sample->floor_kib ? own : sample->floor_kib;
	sample->shmem_kib += shmem;
	sample->shared_kib += shared;
	sample->used_kib += own + shmem - shared;
	return 0;
}

/* The threads of a process whose first one has ended, until one that still has memory. */
static int sample_threads(int parent, const char *pid, bool exact, struct sample *sample)
{
	char path[64];
	int dir CLEANUP_CLOSE = -1;
	uint64_t tasks = sample->tasks; /* counted with their process */
	struct names tids = { 0 };
	int found = 1;

	put(&TEXT_IN(path), pid, "/task");
	tids.dir = dir = openat(parent, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return errno == ENOENT || errno == ESRCH ? 0 : -1;
	while (found > 0 && next_pid(&tids, "") > 0)
		found = sample_process(dir, tids.name, exact, false, sample);
	sample->tasks = tasks;
	return found < 0 ? -1 : 0;
}

int take_sample(bool exact, struct sample *sample)
{
	int dir CLEANUP_CLOSE = openat(memory.proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct names pids = { .dir = dir };
	struct statfs fs;
	uint64_t files;
	int more;

	*sample = (struct sample){ 0 };
	if (dir < 0 || fstatfs(memory.tmpfs, &fs) < 0)
		return -1;
	while ((more = next_pid(&pids, PID_OF_INIT)) > 0) {
		bool counted = exact && has_counted_space(pids.name, sample);
		int found = sample_process(dir, pids.name, exact, counted, sample);

		sample->set = sample->set * 31 + number(pids.name);
		sample->processes++;
		if (found < 0 || (found > 0 && sample_threads(dir, pids.name, exact, sample) < 0))
			return -1;
	}
	files = (uint64_t)(fs.f_blocks - fs.f_bfree) * ((uint64_t)fs.f_bsize >> 10);
	sample->used_kib += files;
	sample->floor_kib += files;
	if (sample->tasks > sampled->most_tasks)
		sampled->most_tasks = sample->tasks;
	return more < 0 && errno != ENOENT && errno != ESRCH ? -1 : 0;
}
