/* SPDX-License-Identifier: MIT
 *
 * The processor time watch, a part of the watcher (watcher.c): what all processes inside have used, against a limit and
 * for the result. A cgroup's own count is exact. Without one it is the sum over all processes, each with the children
 * that it has waited for. The time of children that nobody waits for (SIGCHLD ignored, or SA_NOCLDWAIT) is in no sum
 * any more, and is kept here from the last sample that saw them (docs/decisions/cpu-watch.md).
 */
#include "watcher.h"

#define TICK_US 10000ULL /* procfs counts processor time in ticks of USER_HZ, 100 on every architecture of ours */
#define ROUNDING_US (2 * TICK_US) /* user and system time are each rounded down to a tick */
#define SHORTEST_PAUSE_US 5000ULL
#define LONGEST_PAUSE_US 10000ULL /* with a limit: a child's time since the last sample is lost with it */
#define RECORDS_ONLY_PAUSE_US 50000ULL
#define RECORDS_ONLY_MS (1ULL << 53)
#define SECOND_SAMPLE_US 5000ULL
#define IDLE_SHARE 10 /* a pause is this many times as long as the sample before it */
#define TRACKED 1024
#define MOST_AT_ONCE 2048 /* processes of one sample, so that the memory watch does not wait for it */

struct cpu_watch cpu = { .group = -1 };

/* A process, as the last sample that saw it found it. Times in microseconds. */
static struct tracked {
	uint64_t pid, parent, start;
	uint64_t own, waited; /* used by itself, and by the children that it has waited for */
	uint64_t debt;        /* of children that are gone, and whose time has not arrived in `waited` */
	uint64_t due, gained; /* in this sample: of children that are gone since the last; the growth of `waited` */
	unsigned int sample;
} tracked[TRACKED];
static unsigned int ntracked, current;
static uint64_t
    orphans_debt; /* as `debt`: of those whose parent is gone too, and that any ancestor may have waited for */

static struct tracked *find(uint64_t pid)
{
	static unsigned int last; /* procfs lists in order, and so does the table mostly */

	for (unsigned int n = 0; n < ntracked; n++) {
		last = last + 1 < ntracked ? last + 1 : 0;
		if (tracked[last].pid == pid)
			return &tracked[last];
	}
	return NULL;
}

/* One process of procfs. Returns its time if there is no place for it in the table, else 0. */
static uint64_t sample_process_cpu(int dir, const char *pid)
{
	char text[1024], precise[64];
	uint64_t own, waited, start;
	struct tracked *one = find(number(pid));

	if (read_proc(dir, pid, "/stat", text, sizeof(text)) < 0)
		return 0; /* it has just ended */
	own = (stat_number(text, STAT_UTIME) + stat_number(text, STAT_STIME)) * TICK_US;
	waited = (stat_number(text, STAT_CUTIME) + stat_number(text, STAT_CSTIME)) * TICK_US;
	start = stat_number(text, STAT_START);
	if (strcmp(pid, PID_OF_INIT) == 0)
		own = 0; /* what init itself needs is not the command's */
	else if (read_proc(dir, pid, "/schedstat", precise, sizeof(precise)) >= 0)
		own = number(precise) / 1000 > own ? number(precise) / 1000 :
						     own; /* of its first thread, in nanoseconds */
	if (one == NULL || one->start != start) {         /* else the number has gone to another process */
		if (ntracked == TRACKED)
			return own + waited;
		one = &tracked[ntracked++];
		*one = (struct tracked){ .pid = number(pid), .start = start };
	}
	one->parent = stat_number(text, STAT_PARENT);
	one->own = own > one->own ? own : one->own;
	one->gained = waited > one->waited ? waited - one->waited : 0;
	one->waited += one->gained;
	one->due = 0;
	one->sample = current;
	return 0;
}

/* What is owed, less what arrived. A debt is kept for two samples, and after that only as much as rounding hides. */
static uint64_t unpaid(uint64_t due, uint64_t debt, uint64_t gained, uint64_t *surplus)
{
	uint64_t rest = due + debt - least(due + debt, gained), lost = rest - least(rest, due + ROUNDING_US);

	*surplus += gained - least(gained, due + debt);
	sampled->cpu_lost_us += lost;
	return rest - lost;
}

/*
 * A process that is gone since the last sample has been waited for, by its parent or, if that is gone too, by another
 * ancestor. Its time arrives there in this sample or, if the parent was read before it waited, in the next one. What
 * does not arrive was used, and is in no account of the kernel. Where init is gone, so is everybody, and the launcher
 * has its account: what the last sample found stays.
 */
static void settle(void)
{
	const struct tracked *init = find(number(PID_OF_INIT));
	uint64_t orphans_due = 0, surplus = 0, none = 0;
	unsigned int kept = 0;

	if (init == NULL || init->sample != current)
		return;
	for (unsigned int i = 0; i < ntracked; i++) {
		const struct tracked *gone = &tracked[i];
		struct tracked *parent = gone->sample == current ? NULL : find(gone->parent);
		uint64_t *due = parent != NULL && parent->sample == current ? &parent->due : &orphans_due;

		if (gone->sample != current)
			*due += gone->own + gone->waited + gone->debt;
	}
	for (unsigned int i = 0; i < ntracked; i++)
		if (tracked[i].sample == current) {
			struct tracked *one = &tracked[kept++];

			*one = tracked[i];
			one->debt = unpaid(one->due, one->debt, one->gained, &surplus);
		}
	ntracked = kept;
	orphans_debt = unpaid(orphans_due, orphans_debt, surplus, &none);
}

/* All that has run inside since init was there. -1 if procfs cannot be read. */
static int used_us(uint64_t *used)
{
	int dir CLEANUP_CLOSE = openat(memory.proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct names pids = { .dir = dir };
	unsigned int seen = 0;
	int more;

	*used = 0;
	if (dir < 0)
		return -1;
	current++;
	for (; (more = next_pid(&pids, "")) > 0 && seen < MOST_AT_ONCE; seen++)
		*used += sample_process_cpu(dir, pids.name);
	if (*used > 0 || seen == MOST_AT_ONCE)
		sampled->cpu_untracked = true;
	settle();
	for (unsigned int i = 0; i < ntracked; i++)
		*used += tracked[i].own + tracked[i].waited + tracked[i].debt;
	*used += orphans_debt + sampled->cpu_lost_us;
	return more < 0 && errno != ENOENT && errno != ESRCH ? -1 : 0;
}

/* Whether there is no limit, and the watch is for the result alone. */
bool cpu_records_only(void)
{
	return cpu.limit_us == RECORDS_ONLY_MS * 1000;
}

/* Sample again when the rest could be used up at the earliest, by all processors; without a cgroup sooner. */
static uint64_t next_us(uint64_t spent_us, bool counted)
{
	uint64_t us = (cpu.limit_us - least(cpu.limit_us, sampled->cpu_used_us)) / cpu.processors;

	if (!counted)
		us = least(us, cpu_records_only() ? RECORDS_ONLY_PAUSE_US : LONGEST_PAUSE_US);
	us = us < spent_us * IDLE_SHARE ? spent_us * IDLE_SHARE : us;
	return us < SHORTEST_PAUSE_US ? SHORTEST_PAUSE_US : us;
}

/* Just before the end: then the kernel forgets the time of those whose parent ignores SIGCHLD. */
void sample_cpu(void)
{
	uint64_t used;

	if (sampled->cpu_sampled && used_us(&used) == 0)
		sampled->cpu_used_us = used;
}

/*
 * A sample over the limit is believed if the next one is, too; in between the launcher begins the post-mortem. Returns
 * how long until the next one.
 */
uint64_t watch_cpu(void)
{
	uint64_t began = now_ns(), used, counted = cgroup_cpu_us(cpu.group);
	bool again = sampled->cpu_over;

	if (counted > 0) {
		used = counted - least(counted, sampled->cpu_before_us);
	} else {
		sampled->cpu_sampled = true;
		if (used_us(&used) < 0)
			conclude(LOST);
	}
	sampled->cpu_used_us = used;
	sampled->cpu_over = used >= cpu.limit_us;
	if (sampled->cpu_over && again)
		conclude(CPU);
	if (sampled->cpu_over)
		wake_launcher();
	return sampled->cpu_over ? SECOND_SAMPLE_US : next_us((now_ns() - began) / 1000, counted > 0);
}

int prepare_cpu_watch(const struct plan *plan)
{
	struct step step;

	if (!plan_find(plan, "cpu-watch", &step))
		return 0;
	cpu.limit_us = least(number(step.field[0]), RECORDS_ONLY_MS) * 1000;
	cpu.processors = number(step.field[1]);
	cpu.group = open_cgroup_cpu(plan);
	return cpu.processors == 0 ? -1 : 0;
}

/* What samples have seen, how much of it the kernel has in no account, and whether they missed processes. */
void record_cpu(void)
{
	if (sampled->cpu_sampled)
		record_numbers("cpu-seen", sampled->cpu_used_us, sampled->cpu_lost_us, sampled->cpu_untracked);
}
