/* SPDX-License-Identifier: MIT
 *
 * Samples of the memory of all processes inside, from procfs and the tmpfs: a plain one adds up `status`, an exact one
 * divides what processes share.
 */
#include "watcher.h"
#include <sys/ioctl.h>
#include <sys/vfs.h>

#define SAME_MEMORY 1                         /* of kcmp(2): KCMP_VM */
#define PID_FROM_NAMESPACE _IOR(0xb7, 6, int) /* of a pid namespace, from Linux 6.11 on */
#define MOST_SPACES 128

/*
 * The pid namespace of the room, to have our numbers for those inside: that of a process of its procfs which has one
 * number only, and so is in no namespace further in. Init's own is not shown to us.
 */
static int open_pid_namespace(const char *pid)
{
	char text[4096];
	const char *at;
	int dir CLEANUP_CLOSE = openat(memory.proc, pid, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0 || read_proc(dir, "", "status", text, sizeof(text)) < 0
	    || (at = strstr(text, "\nNSpid:\t")) == NULL)
		return -1;
	at += strlen("\nNSpid:\t");
	return at[strspn(at, "0123456789")] == '\n' ? openat(dir, "ns/pid", O_RDONLY | O_CLOEXEC) : -1;
}

/*
 * Whether a process has the address space of one that this sample has counted: between vfork and exec, or for good
 * where a program wants it so. It is asked before the process is read: two that are different now were never one when
 * they are read.
 */
static bool has_counted_space(const char *pid, struct sample *sample)
{
	static long counted[MOST_SPACES];
	static unsigned int ncounted;
	static int space = -1;
	long ours, differ;

	if (sample->processes == 1) /* the first of this sample */
		ncounted = 0;
	if (space < 0)
		space = open_pid_namespace(pid);
	ours = syscall(SYS_ioctl, space, PID_FROM_NAMESPACE, number(pid));
	if (ours < 0) {
		sample->one_space |= errno != ESRCH;
		return false;
	}
	for (unsigned int i = 0; i < ncounted; i++) {
		differ = syscall(SYS_kcmp, counted[i], ours, SAME_MEMORY, 0, 0);
		if (differ == 0)
			return true;
		sample->one_space |= differ < 0 && errno != ESRCH;
	}
	if (ncounted < MOST_SPACES)
		counted[ncounted++] = ours;
	return false;
}

/*
 * One process: anonymous, shared, swapped and page tables. By whom memory is shared, only `smaps_rollup` knows. It is
 * read first: what comes between the two readings may pass for shared, and never be counted as what it is not. Returns
 * 0, 1 where the first thread has ended and so has no memory, or -1.
 */
static int sample_process(int dir, const char *pid, bool exact, bool counted, struct sample *sample)
{
	char text[4096], rollup[4096];
	uint64_t own, shmem, twice = 0;

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
		twice = status_number(text, "\nRssAnon:") + shmem;
		twice -= least(twice, status_number(rollup, "\nPss_Anon:") + status_number(rollup, "\nPss_Shmem:"));
	}
	sample->floor_kib = own > sample->floor_kib ? own : sample->floor_kib;
	sample->shmem_kib += shmem;
	sample->shared_kib += twice;
	sample->used_kib += own + shmem - twice;
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
	dir = openat(parent, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return errno == ENOENT || errno == ESRCH ? 0 : -1;
	tids.dir = dir;
	while (found > 0 && next_pid(&tids) > 0)
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

	memset(sample, 0, sizeof(*sample));
	if (dir < 0 || fstatfs(memory.tmpfs, &fs) < 0)
		return -1;
	while ((more = next_inside(&pids)) > 0) {
		int found;

		sample->set = sample->set * 31 + number(pids.name);
		sample->processes++;
		found = sample_process(dir, pids.name, exact, exact && has_counted_space(pids.name, sample), sample);
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
