/* SPDX-License-Identifier: MIT
 *
 * Control groups, as far as the core needs them. Python has made them and written every limit. Here init enters them,
 * the kernel's counters are read when every process inside is dead, and they are removed, also if Python is dead.
 *
 * A cgroup is the descriptor of its parent and its name: enough to enter, read and remove it, and to reach nothing
 * else.
 */
#include "capsule-core.h"
#include <poll.h>

#define REMOVE_TRIES 50 /* of 1 ms: a kernel may release the last member a moment after its parent's wait */

static int parent_of(const struct plan *plan, const struct step *step)
{
	return plan->fds[number(step->field[0])];
}

/* The path of a file in the cgroup of a step, from its parent; all names are single components. */
static void cgroup_path(char path[static 2 * NAME_MAX + 2], const struct step *step, const char *file)
{
	struct text text = { path, 2 * NAME_MAX + 2, 0 };

	put(&text, step->field[1], "/", file);
}

static int open_file(const struct plan *plan, const struct step *step, const char *file, int flags)
{
	char path[2 * NAME_MAX + 2];

	cgroup_path(path, step, file);
	return openat(parent_of(plan, step), path, flags | O_CLOEXEC | O_NOFOLLOW);
}

/* The cgroup of version 2 that init is cloned into: its own, or that of the room which it joins. */
bool find_cgroup(const struct plan *room, struct step *step)
{
	return plan_find(room, "cgroup", step) || plan_find(room, "join-cgroup", step);
}

/* The first cgroup of version 1 that init enters: its own, or that of the room which it joined. */
bool find_cgroup_to_enter(const struct plan *payload, struct step *step)
{
	return plan_find(payload, "cgroup-enter", step) || plan_find(payload, "cgroup-join", step);
}

/* The directory of the cgroup that init is cloned into, or -1. */
int open_cgroup(const struct plan *plan, const struct step *step)
{
	return openat(parent_of(plan, step), step->field[1], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/*
 * The `tasks` files of cgroups of version 1, which no process can be cloned into: opened here, as the caller, for init
 * to write to. Returns how many, or -1, and then `step` is the one that failed.
 */
int open_cgroup_tasks(const struct plan *plan, int cgroup_tasks[static MAX_CGROUPS], struct step *step)
{
	static const char *const verb[] = { "cgroup-enter", "cgroup-join" };
	int count = 0;

	for (int v = 0; v < 2; v++)
		for (struct cursor at = plan_start(plan); plan_next_of(&at, verb[v], step); count++) {
			errno = E2BIG;
			if (count == MAX_CGROUPS
			    || (cgroup_tasks[count] = open_file(plan, step, "tasks", O_WRONLY)) < 0)
				return -1;
		}
	return count;
}

/* The files by which a process outside enters all cgroups of the run. Returns how many, or -1. */
int open_own_cgroups(const struct plan *room, const struct plan *payload, int files[static MAX_CGROUPS + 1])
{
	struct step step;
	int count = open_cgroup_tasks(payload, files, &step);

	if (count < 0 || !find_cgroup(room, &step))
		return count;
	files[count] = open_file(room, &step, "cgroup.procs", O_WRONLY);
	return files[count] < 0 ? -1 : count + 1;
}

/*
 * Init, as its last act before the first payload. The kernel moves a thread that moves itself (0, to `tasks`) in
 * microseconds; to move another process, or a whole one, it waits for an RCU period of 10 ms and more. Permission is
 * that of the opener.
 */
int enter_cgroups(const int *cgroup_tasks, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		if (write(cgroup_tasks[i], "0", 1) != 1)
			return -1;
	return 0;
}

/* Kill all members at once where the kernel can (5.14). Elsewhere they end with init. */
void kill_cgroups(const struct plan *plan)
{
	char path[2 * NAME_MAX + 2];
	struct step step;

	if (!plan_find(plan, "cgroup", &step))
		return;
	cgroup_path(path, &step, "cgroup.kill");
	(void)write_file(parent_of(plan, &step), path, "1");
}

/* The processor time that a group has counted, of children that nobody waited for too; 0 where this is no such file. */
uint64_t cgroup_cpu_us(int file)
{
	char text[1024];
	ssize_t got = file < 0 ? -1 : pread(file, text, sizeof(text) - 1, 0);

	text[got < 0 ? 0 : got] = '\0';
	if (*text >= '0' && *text <= '9') /* `cpuacct.usage` of version 1, in nanoseconds */
		return status_number(text, "") / 1000;
	return status_number(text, "usage_usec"); /* `cpu.stat` of version 2; that of version 1 has no such line */
}

/* The file of the run's cgroup in which it counts processor time, or -1. */
int open_cgroup_cpu(const struct plan *plan)
{
	struct cursor at = plan_start(plan);
	struct step step;

	while (plan_next_of(&at, "cgroup-file", &step)) {
		bool is_v1 = strcmp(step.field[2], "cpuacct.usage") == 0;
		int file;

		if (!is_v1 && strcmp(step.field[2], "cpu.stat") != 0)
			continue;
		file = open_file(plan, &step, step.field[2], O_RDONLY);
		if (is_v1 || cgroup_cpu_us(file) > 0)
			return file;
		close_cleanup(&file);
	}
	return -1;
}

/* `cgroup FILE TEXT` into the record, for each file that was asked for and is there. */
void record_cgroups(const struct plan *plan)
{
	struct cursor at = plan_start(plan);
	char text[1024], path[2 * NAME_MAX + 2];
	struct step step;

	while (plan_next_of(&at, "cgroup-file", &step)) {
		struct bytes texts[2] = { { step.field[2], strlen(step.field[2]) }, { text, 0 } };
		ssize_t got;

		cgroup_path(path, &step, step.field[2]);
		got = read_file(parent_of(plan, &step), path, text, sizeof(text));
		if (got < 0) { /* this kernel does not have it: it is absent from the record, and nothing stands in for
				  it */
			record.lost += errno != ENOENT;
			continue;
		}
		texts[1].length = (size_t)got;
		record_line("cgroup", NULL, 0, texts, 2);
	}
}

/* Called when every member is dead and reaped. What cannot be removed is left to Python, now or at its next start. */
bool remove_cgroups(const struct plan *plan)
{
	static const char *const verb[] = { "cgroup", "cgroup-enter" };
	struct step step;
	bool gone = true;

	for (int v = 0; v < 2; v++)
		for (struct cursor at = plan_start(plan); plan_next_of(&at, verb[v], &step);) {
			int tries = REMOVE_TRIES, failed;

			while ((failed = unlinkat(parent_of(plan, &step), step.field[1], AT_REMOVEDIR)) < 0
			    && errno == EBUSY && tries-- > 0)
				(void)poll(NULL, 0, 1);
			gone = gone && (failed == 0 || errno == ENOENT);
		}
	return gone;
}
